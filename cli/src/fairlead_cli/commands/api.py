"""`fairlead api`: any call of the relay's API, with the token and the trust of the context."""

from __future__ import annotations

from typing import TypedDict, Unpack

import click

from fairlead_cli.options import examples, with_output
from fairlead_cli.terminal import Terminal

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


class _Options(TypedDict):
    """What click passes besides the endpoint."""

    method: str | None
    raw: tuple[str, ...]
    typed: tuple[str, ...]
    source: str | None
    headers: tuple[str, ...]
    is_whole: bool
    is_paged: bool


@click.command(
    epilog=examples(
        "fairlead api clusters",
        "fairlead api applications -f name=shop",
        "fairlead api jobs -X GET -f state=failed --paginate -o 'jsonpath={.items[*].id}'",
        "fairlead api /v1/version -i",
    )
)
@click.argument("endpoint", metavar="PATH")
@click.option("-X", "--method", type=click.Choice(METHODS), help="Default: GET, or POST with fields or --input.")
@click.option("-f", "--raw-field", "raw", metavar="KEY=VALUE", multiple=True, help="A field that is a string.")
@click.option(
    "-F", "--field", "typed", metavar="KEY=VALUE", multiple=True, help="true, null, numbers, @FILE and @- are special."
)
@click.option("--input", "source", metavar="FILE|-", help="The body, as it stands.")
@click.option("-H", "--header", "headers", metavar="NAME:VALUE", multiple=True, help="A header.")
@click.option("-i", "--include", "is_whole", is_flag=True, help="Write status and headers before the answer.")
@click.option("--paginate", "is_paged", is_flag=True, help="Follow a list to its end, as one answer.")
@with_output
def api(endpoint: str, terminal: Terminal, **options: Unpack[_Options]) -> int:
    """
    Make a call and write its answer.

    PATH is one of the API's, such as /v1/version, or what comes after /v1/organizations/YOURS/, such as clusters/prod.
    Fields are the JSON body, or the query of a GET. KEY may be labels[team]. A refusal's answer is written too; the
    exit code is then 1, or 4 if the token is to blame.
    """
    import sys

    from fairlead_cli.calling import RawCall, call
    from fairlead_cli.connecting import connect
    from fairlead_cli.raw_requests import fields_of, header_of, path_of, read_input

    source, fields = options["source"], (options["raw"], options["typed"])
    chosen = options["method"] or ("POST" if source or any(fields) else "GET")
    if source and any(fields):
        raise click.UsageError("--input is the whole body; name either fields or --input")
    is_whole, is_paged = options["is_whole"], options["is_paged"]
    if is_paged and (chosen != "GET" or is_whole):
        raise click.UsageError("--paginate is for GET, without -i")
    with connect() as client:
        request = RawCall(
            method=chosen,
            path=path_of(endpoint, client.organization if needs_organization(endpoint) else ""),
            fields=fields_of(*fields, sys.stdin),
            content=read_input(source, sys.stdin) if source else None,
            headers=dict(map(header_of, options["headers"])),
        )
        return call(client, terminal, request, is_whole=is_whole, is_paged=is_paged)


def needs_organization(endpoint: str) -> bool:
    """Tell whether the organization is part of what was typed; asking for it may cost a call."""
    return not endpoint.startswith("/") or "{organization}" in endpoint
