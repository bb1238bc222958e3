"""`fairlead api`."""

import json
from collections.abc import Callable

import httpx
import pytest
from click.testing import Result

from tests.unit.cli.scripted_relay import ORGANIZATION, TOKEN, ScriptedRelay, problem

Fairlead = Callable[..., Result]
APPS = f"{ORGANIZATION}/applications"


def test_an_answer_is_written_as_asked(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """JSON unless -o says otherwise; below the organization, with the context's token."""
    relay.answer(f"GET {APPS}", {"items": [{"name": "shop"}]})
    assert json.loads(fairlead("api", "applications").stdout) == {"items": [{"name": "shop"}]}
    assert fairlead("api", "applications", "-o", "jsonpath={.items[*].name}").stdout == "shop\n"
    assert fairlead("api", "applications", "-o", "yaml").stdout == "items:\n- name: shop\n"
    assert relay.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_fields_are_the_body_or_the_query(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """POST with fields unless said otherwise; --input is the body as it stands."""
    relay.answer(f"POST {APPS}", httpx.Response(201, json={"name": "shop"}))
    relay.answer(f"GET {APPS}", {"items": []})
    relay.answer(f"PATCH {APPS}/shop", {})
    assert fairlead("api", "applications", "-f", "name=shop", "-F", "labels[n]=1").exit_code == 0
    assert fairlead("api", "applications", "-X", "GET", "-F", "limit=2").exit_code == 0
    headers = ("-H", 'If-Match: "1"')
    assert (
        fairlead("api", "applications/shop", "-X", "PATCH", "--input", "-", *headers, stdin='{"a": 1}').exit_code == 0
    )
    posted, got, patched = relay.requests
    assert json.loads(posted.content) == {"name": "shop", "labels": {"n": 1}}
    assert got.url.params["limit"] == "2"
    assert (patched.content, patched.headers["Content-Type"], patched.headers["If-Match"]) == (
        b'{"a": 1}',
        "application/json",
        '"1"',
    )


def test_pages_become_one_answer(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """To the end of the list."""
    relay.answer(f"GET {APPS}", {"items": [1], "next_cursor": "a"}, {"items": [2], "next_cursor": None})
    assert json.loads(fairlead("api", "applications", "--paginate").stdout) == {"items": [1, 2]}
    assert relay.requests[1].url.params["cursor"] == "a"
    relay.change(f"GET {APPS}", {"name": "shop"}, problem(404, "not_found", "no"))
    assert "is no list" in fairlead("api", "applications", "--paginate").stderr
    assert fairlead("api", "applications", "--paginate").exit_code == 1


@pytest.mark.parametrize(("status", "code"), [(404, 1), (401, 4), (403, 4), (500, 1)])
def test_refusals_are_written_too(status: int, code: int, fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """A script wants to read the problem; a template was not written for it."""
    relay.answer(f"GET {APPS}", problem(status, "x", "because"))
    result = fairlead("api", "applications", "-o", "jsonpath={.items[*].name}")
    assert result.exit_code == code
    assert json.loads(result.stdout)["detail"] == "because"


def test_other_answers_come_as_they_are(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """A bundle, a stream; with -i behind status and headers."""
    relay.answer("GET /v1/x", httpx.Response(200, content=b"\x00\xff", headers={"Content-Type": "x/y"}))
    assert fairlead("api", "/v1/x").stdout_bytes == b"\x00\xff"
    whole = fairlead("api", "/v1/x", "-i").stdout_bytes
    assert whole.startswith(b"HTTP 200 OK\ncontent-type: x/y\n")
    assert whole.endswith(b"\n\n\x00\xff")
    relay.answer("GET /v1/y", httpx.Response(200, content=b"{", headers={"Content-Type": "application/json"}))
    assert fairlead("api", "/v1/y").stdout == "{"


def test_mistakes_send_nothing(fairlead: Fairlead, relay: ScriptedRelay) -> None:
    """And a relay that does not answer is named."""
    for arguments in (
        ("//evil.example/x",),
        ("x", "-f", "a=b", "--input", "-"),
        ("x", "-X", "POST", "--paginate"),
        ("x", "-H", "Authorization: Bearer y"),
    ):
        assert fairlead("api", *arguments).exit_code == 2
    assert relay.requests == []
    relay.answer("GET /v1/x", httpx.ConnectError("refused"))
    result = fairlead("api", "/v1/x")
    assert (result.exit_code, "no answer from the relay" in result.stderr) == (1, True)
