"""Fetching manifests from URLs."""

import ssl
import threading
from collections.abc import Callable

import httpx
import pytest

from fairlead_cli.downloads import MAX_REDIRECTS, fetch, is_url, shown_url
from fairlead_cli.errors import ManifestInvalid

URL = "https://example.com/a.yaml"


def served(answer: Callable[[httpx.Request], httpx.Response], url: str = URL, most_bytes: int = 100) -> str:
    """Fetch a URL from a server that answers so."""
    return fetch(url, most_bytes, transport=httpx.MockTransport(answer))


def refusal(answer: Callable[[httpx.Request], httpx.Response], url: str = URL) -> str:
    """Return the sentence with which what was fetched is refused."""
    with pytest.raises(ManifestInvalid) as caught:
        served(answer, url)
    return str(caught.value)


def test_urls_are_told_from_files() -> None:
    """And shown without what may be a token."""
    assert (is_url(URL), is_url("http://x"), is_url("k8s/a.yaml"), is_url("-")) == (True, True, False, False)
    assert shown_url("https://u:p@h:1/a?token=x#y") == "https://h:1/a"


def test_text_comes_without_our_token() -> None:
    """From wherever https leads."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.path == "/a.yaml":
            return httpx.Response(302, headers={"Location": "/b.yaml"})
        return httpx.Response(200, text="\N{ZERO WIDTH NO-BREAK SPACE}a: 1")

    assert served(answer) == "a: 1"
    assert [str(request.url) for request in asked] == [URL, "https://example.com/b.yaml"]
    assert not any("authorization" in request.headers for request in asked)


@pytest.mark.parametrize("url", ["http://example.com/a.yaml", "ftp://example.com/a", "file:///etc/passwd"])
def test_other_schemes_are_refused(url: str) -> None:
    """As the address, and as where it leads."""
    assert "over https only" in refusal(lambda _: httpx.Response(200), url)
    assert "over https only" in refusal(lambda _: httpx.Response(301, headers={"Location": url}))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(404), "answers HTTP status 404"),
        (httpx.Response(200, text="x" * 101), "more than 100 bytes"),
        (httpx.Response(200, content=b"\xff"), "byte 0 is not UTF-8"),
        (httpx.Response(200, text=" <!doctype html>"), "name the address of the raw file"),
        (httpx.Response(302, headers={"Location": URL}), f"redirects more than {MAX_REDIRECTS} times"),
    ],
)
def test_what_is_no_manifest_is_refused(answer: httpx.Response, said: str) -> None:
    """With the address."""
    content = answer.content

    def again(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(answer.status_code, headers=answer.headers, content=content)

    assert refusal(again).startswith(f"{URL}: ")
    assert said in refusal(again)


def test_passwords_in_urls_are_refused_and_not_repeated() -> None:
    """They would stand in the list of processes."""
    said = refusal(lambda _: httpx.Response(200), "https://me:hunter2@example.com/a.yaml")
    assert "no user name or password" in said
    assert "hunter2" not in said


def test_servers_that_do_not_answer_are_named() -> None:
    """Or are not trusted."""

    def broken(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused") from ssl.SSLError("x")

    assert refusal(broken) == f"{URL}: cannot be fetched: refused"


def test_a_server_that_dribbles_is_left() -> None:
    """Each byte in time, and the whole never."""
    never = threading.Event()

    def answer(_request: httpx.Request) -> httpx.Response:
        never.wait(10)
        return httpx.Response(200)

    with pytest.raises(ManifestInvalid, match="has not arrived after 0 s"):
        fetch(URL, 100, seconds=0.2, transport=httpx.MockTransport(answer))
