"""Makes the raw calls of `fairlead api` and writes their answers: JSON as `-o` asks, anything else as it comes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import click
import httpx

from fairlead_cli.client import Client
from fairlead_cli.errors import AnswerInvalid, ExitCode
from fairlead_cli.raw_requests import query_of
from fairlead_cli.terminal import Format, Terminal, printable

MAX_JSON_BYTES = 64 * 1024 * 1024
"""Of an answer that is held to be laid out; others are written as they come."""

MAX_PAGES = 10_000


@dataclass(frozen=True, slots=True)
class RawCall:
    """One call, as it was typed."""

    method: str
    path: str
    fields: dict[str, Any]
    content: str | None
    headers: dict[str, str]


def call(client: Client, terminal: Terminal, request: RawCall, *, is_whole: bool, is_paged: bool) -> ExitCode:
    """
    Make a call and write its answer.

    Args:
        client: The relay.
        terminal: Where to write.
        request: The call.
        is_whole: Whether to write status and headers, too.
        is_paged: Whether to follow a list to its end.
    Returns: 0, or what a refusal means.
    Raises: RelayUnreachable: no answer. AnswerInvalid: with `is_paged`, the answer is no list.
    """
    if is_paged:
        return _call_pages(client, terminal, request)
    with client.open(request.method, request.path, **_options(request)) as answer:
        if is_whole:
            click.echo(f"HTTP {answer.status_code} {answer.reason_phrase}")
            for name, value in answer.headers.items():
                click.echo(f"{name}: {printable(value)}")
            click.echo()
        if "json" in answer.headers.get("Content-Type", "") and not answer.headers["Content-Type"].endswith("jsonl"):
            _write_json(terminal, answer)
        else:
            for chunk in answer.iter_bytes():
                click.echo(chunk, nl=False)
        return _exit_code(answer)


def _call_pages(client: Client, terminal: Terminal, request: RawCall) -> ExitCode:
    """Write all pages of a list as one."""
    items: list[Any] = []
    options = _options(request)
    for _ in range(MAX_PAGES):
        with client.open(request.method, request.path, **options) as answer:
            if answer.is_error:
                _write_json(terminal, answer)
                return _exit_code(answer)
            page = _json(answer)
        if not isinstance(page, dict) or not isinstance(page.get("items"), list):
            raise AnswerInvalid(f"GET {request.path}", "it is no list, so it has no pages")
        items += page["items"]
        if not page.get("next_cursor"):
            break
        options["params"] = options["params"] | {"cursor": page["next_cursor"]}
    terminal.write_tree({"items": items})
    return ExitCode.OK


def _options(request: RawCall) -> dict[str, Any]:
    """Return what httpx takes: fields of a GET are its query, of anything else its body."""
    options: dict[str, Any] = {"headers": dict(request.headers), "params": {}}
    if request.method in {"GET", "HEAD"}:
        options["params"] = query_of(request.fields)
    elif request.content is None and (request.fields or request.method in {"POST", "PATCH"}):
        options["json"] = request.fields
    if request.content is not None:
        options["content"] = request.content.encode()
        options["headers"].setdefault("Content-Type", "application/json")
    return options


def _write_json(terminal: Terminal, answer: httpx.Response) -> None:
    tree = _json(answer)
    if tree is None:
        click.echo(answer.text, nl=False)
    elif answer.is_error and terminal.format is Format.JSONPATH:
        Terminal().write_tree(tree)  # a template for the answer says nothing about a refusal
    else:
        terminal.write_tree(tree)


def _json(answer: httpx.Response) -> Any:  # noqa: ANN401  (JSON)
    """Return an answer's JSON; None if it is none."""
    content = bytearray()
    for chunk in answer.iter_bytes():
        content += chunk
        if len(content) > MAX_JSON_BYTES:
            raise AnswerInvalid(str(answer.request.url.path), f"it has more than {MAX_JSON_BYTES:,} bytes")
    try:
        return json.loads(content)
    except ValueError:
        return None


def _exit_code(answer: httpx.Response) -> ExitCode:
    if not answer.is_error:
        return ExitCode.OK
    is_about_the_token = answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
    return ExitCode.AUTHENTICATION if is_about_the_token else ExitCode.ERROR
