"""What `fairlead api` sends."""

import io
from pathlib import Path

import pytest

from fairlead_cli.errors import RequestInvalid
from fairlead_cli.raw_requests import MAX_FIELD_BYTES, fields_of, header_of, path_of, query_of, read_input


def test_paths_are_the_relays_or_the_organizations() -> None:
    """With a slash at the beginning, or without."""
    assert path_of("/v1/version", "") == "/v1/version"
    assert path_of("clusters/prod?limit=1", "acme") == "/v1/organizations/acme/clusters/prod?limit=1"
    assert path_of("/v1/organizations/{organization}", "acme") == "/v1/organizations/acme"


@pytest.mark.parametrize("endpoint", ["//evil.example/x", "/v1/a b", "/v1\r\nX: y", "/x#y", "/\N{SNOWMAN}"])
def test_no_path_leads_elsewhere(endpoint: str) -> None:
    """The token would go along."""
    with pytest.raises(RequestInvalid, match="must be a path"):
        path_of(endpoint, "acme")


def test_a_url_is_no_path() -> None:
    """It would be asked of the relay, below the organization, and not of another server."""
    assert path_of("https://evil.example/x", "acme") == "/v1/organizations/acme/https://evil.example/x"


def test_headers() -> None:
    """Those that say who we are cannot be given."""
    assert header_of('If-Match: "3"') == ("If-Match", '"3"')
    assert header_of("X:") == ("X", "")
    for wrong in ("no colon", "A: b\nC: d", ": x", "Authorization: Bearer x", "host: y"):
        with pytest.raises(RequestInvalid):
            header_of(wrong)


def test_fields_are_strings_or_what_they_look_like(tmp_path: Path) -> None:
    """As -f and -F have them; a file or standard input is text."""
    (tmp_path / "x").write_text("text")
    typed = ["a=true", "b=null", "c=-12", "d=1.5", "e=v1.2", "f=007", f"g=@{tmp_path}/x", "h=@-", "i="]
    assert fields_of(["j=true", "labels[team]=a=b"], [*typed, "labels[on]=true"], io.StringIO("in")) == {
        "a": True,
        "b": None,
        "c": -12,
        "d": 1.5,
        "e": "v1.2",
        "f": "007",
        "g": "text",
        "h": "in",
        "i": "",
        "j": "true",
        "labels": {"team": "a=b", "on": True},
    }
    for wrong in ("x", "=x", "a[b=c"):
        with pytest.raises(RequestInvalid):
            fields_of([wrong], [], io.StringIO())
    with pytest.raises(RequestInvalid, match=r"must be KEY or KEY\[NAME\]"):
        fields_of(["a=b", "a[b]=c"], [], io.StringIO())


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Missing, binary, endless."""
    (tmp_path / "x").write_bytes(b"\xff")
    for name, said in ((tmp_path / "y", "cannot be read"), (tmp_path / "x", "is not UTF-8"), ("-", "has more than")):
        with pytest.raises(RequestInvalid, match=said):
            read_input(str(name), io.StringIO("x" * (MAX_FIELD_BYTES + 1)))


def test_queries_are_flat() -> None:
    """A URL has no place for a mapping."""
    assert query_of({"a": "b", "c": True, "d": 1}) == {"a": "b", "c": "true", "d": "1"}
    with pytest.raises(RequestInvalid, match="no nested fields"):
        query_of({"a": {"b": "c"}})
