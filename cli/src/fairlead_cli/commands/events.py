"""`fairlead events`: the stream of a deployment, or of all that happens in the organization."""

from __future__ import annotations

import click

from fairlead_cli.options import examples, with_output
from fairlead_cli.parameters import DEPLOYMENT
from fairlead_cli.terminal import Format, Terminal


@click.command(
    epilog=examples(
        "fairlead events -f",
        "fairlead events 01k9x0q6v3t1m8c5n7b2d4f6gh -o json",
    )
)
@click.argument("deployment_id", metavar="[DEPLOYMENT]", required=False, type=DEPLOYMENT)
@click.option("-f", "--follow", "is_followed", is_flag=True, help="Go on with what happens next; Ctrl-C ends it.")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Leave out events up to this number.")
@with_output
def events(deployment_id: str | None, is_followed: bool, after: int, terminal: Terminal) -> None:  # noqa: FBT001
    """
    Show events as they were stored, or live.

    With -o json there is one JSON object a line, with the number that --after takes; a jsonpath is applied to each.
    """
    from functools import partial

    from fairlead_cli.connecting import connect
    from fairlead_cli.following import follow
    from fairlead_cli.lines import line_of
    from fairlead_cli.story import Story
    from fairlead_shared.jobs import FINAL_STATES

    stories: dict[str, Story] = {}
    with connect() as client:
        opened = partial(client.deployment_events, deployment_id) if deployment_id else client.organization_events
        if is_followed:
            stored_events = follow(opened, after=after, on_drop=lambda error: terminal.say(f"{error}; trying again"))
        else:
            stored_events = opened(after, follow=False)
        for stored in stored_events:
            story = stories.setdefault(stored.job_id, Story())
            if terminal.format is Format.JSON:
                terminal.write(stored.model_dump_json())
            elif terminal.format is Format.JSONPATH:
                terminal.write_tree(stored.model_dump(mode="json"))
            else:
                prefix = "" if deployment_id else f"{stored.deployment_id or stored.job_id} "
                terminal.write(prefix + line_of(stored, story))
            story.take(stored)
            if story.state in FINAL_STATES:  # following an organization goes on for months
                del stories[stored.job_id]
