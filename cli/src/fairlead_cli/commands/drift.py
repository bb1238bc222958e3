"""`fairlead drift`: what is no longer as the last deployment left it, and who changed it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

import click

from fairlead_cli.commands.diff import trouble_is_two
from fairlead_cli.options import AddressArgument, examples, with_output
from fairlead_cli.parameters import EnvironmentAddress
from fairlead_cli.terminal import Format, Terminal

if TYPE_CHECKING:
    from datetime import datetime

    from fairlead_cli.records import Drift, DriftedObject

_SIGNS: Final = {"changed": "~", "missing": "-", "unowned": "!"}
_WORDS: Final = {
    "unowned": "no longer this environment's",
    "unknown": "changed, nobody can say how",
}
"""Of the API's words those that say too little by themselves."""


@click.command(
    epilog=examples(
        "fairlead drift shop/staging",
        "fairlead drift shop/staging --exit-code -o json",
    )
)
@AddressArgument
@click.option("--exit-code", "is_judged", is_flag=True, help="End with 1 if something is drifted, 2 or more on errors.")
@with_output
def drift(address: EnvironmentAddress, is_judged: bool, terminal: Terminal) -> int:  # noqa: FBT001  (click passes by name)
    """
    Show what others changed since it was deployed.

    The agent watches what it deployed; this is what it said last. By its operator's policy it reports what others
    change, or puts it right, too: then it is shown as corrected, and as fought where somebody changes it back.

    With --exit-code the command ends with 0 if nothing is drifted, 1 if something is, 8 if that is not known, and 2 or
    more for any error.
    """
    from fairlead_cli.connecting import connect
    from fairlead_cli.errors import ExitCode

    with trouble_is_two() if is_judged else nullcontext(), connect() as client:
        found = client.drift(address.application, address.environment)
    if terminal.is_table:
        _show(terminal, address, found)
    elif terminal.format is Format.NAME:
        terminal.show_all(found.objects, [], lambda row: str(row.object))
    else:
        terminal.show(found, [], lambda _row: str(address))
    if not is_judged or (found.watched and not found.drifted):
        return ExitCode.OK
    return ExitCode.ERROR if found.drifted else ExitCode.PENDING


def _show(terminal: Terminal, address: EnvironmentAddress, found: Drift) -> None:
    """Write the objects to stdout, and what there is to say of all of them to stderr."""
    from datetime import UTC, datetime

    from fairlead_cli.lines import age

    now = datetime.now(UTC)
    terminal.write_diffs("\n".join(_lines(one, now)) for one in found.objects)
    if found.total > len(found.objects):
        terminal.say(f"and {found.total - len(found.objects)} more objects")
    for kind in found.unseen:
        where = f" in {kind.namespace}" if kind.namespace else ""
        name = f"{kind.resource}.{kind.group}" if kind.group else kind.resource
        terminal.say(f"not watched: {name}{where}: {kind.reason}")
    if found.reason:
        terminal.say(f"{address}: {found.reason}")
    elif not found.watched:
        terminal.say(f"{address}: {_ignorance(found)}")
    elif not found.objects:
        said = age(found.reported_at, now)
        terminal.say(f"{address} is as deployment {found.deployment_id} left it; its agent said so {said} ago")


def _ignorance(found: Drift) -> str:
    if found.deployment_id is None:
        return "nothing is deployed"
    if found.mode == "off":
        return "its agent does not look for drift: its operator turned that off"
    return f"its agent has not said yet whether it is as deployment {found.deployment_id} left it"


def _lines(one: DriftedObject, now: datetime) -> Iterator[str]:
    from fairlead_cli.lines import age, duration
    from fairlead_cli.planning import field_lines

    by = f" by {', '.join(one.managers)}" if one.managers else ""
    text = f"{_SIGNS.get(one.drift, '?')} {one.object} {_WORDS.get(one.drift, one.drift)}{by} {age(one.since, now)} ago"
    times = f"{one.corrections} time{'' if one.corrections == 1 else 's'}"
    if one.status == "corrected":
        text += f", corrected {times}"
    elif one.status == "fought":
        text += f", fought: corrected {times}"
    if one.next_attempt_at is not None:
        text += f", again in {duration((one.next_attempt_at - now).total_seconds())}"
    yield f"{text}: {one.reason}" if one.reason else text
    yield from field_lines(one.fields, one.fields_left_out)
