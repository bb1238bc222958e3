"""The published document of the API: checked in, complete, and changed only knowingly."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fairlead_relay.api.application import make_routes
from fairlead_relay.api.document import routes_of
from tests.repository.api_document import CHANGELOG_LINE, FILE, released, rendered, unreleased
from tests.repository.checkout import listed

DOCUMENT: dict[str, Any] = json.loads(FILE.read_text())
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
}


def test_the_checked_in_document_is_what_a_relay_publishes() -> None:
    """Whoever changes the API sees the change, and its reviewer does, too."""
    assert FILE.read_text() == rendered(), (
        "the API has changed: write docs/openapi.json again with `make openapi`, and say in CHANGELOG.md, under "
        '"Unreleased", what its users will notice: "- API: …"'
    )


def test_a_change_since_the_last_release_is_in_the_changelog() -> None:
    """Clients learn of it where they look for it."""
    if released() != FILE.read_text():
        assert CHANGELOG_LINE.search(unreleased()), 'write "- API: …" under "Unreleased" in CHANGELOG.md'


def test_every_route_is_in_the_document() -> None:
    """None is left out of it by mistake."""
    assert {f"{method} {path}" for path, method, _ in routes_of(make_routes())} == set(OPERATIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_says_what_it_does_needs_and_answers(name: str) -> None:
    """A client can be written from the document alone."""
    operation = OPERATIONS[name]
    assert operation["description"].endswith("."), "the route's docstring is its description"
    assert {"500", "503"} < set(operation["responses"])
    needs_token = operation["security"] == [{"token": []}]
    assert needs_token == ("x-fairlead-role" in operation) == ("401" in operation["responses"])
    successes = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    assert successes
    is_empty = name.partition(" ")[0] in {"HEAD", "PUT", "DELETE"}
    assert is_empty or any("content" in answer for answer in successes)


def test_every_body_that_is_asked_for_has_an_example() -> None:
    """People start from one."""
    asked = {
        schema["$ref"].rpartition("/")[2]
        for operation in OPERATIONS.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for schema in (content["schema"], *content["schema"].get("anyOf", ()))
        if "$ref" in schema
    }
    schemas = DOCUMENT["components"]["schemas"]
    without = {name for name in asked if not schemas[name].get("examples")}
    assert asked
    assert not without, listed("give model_config an example", without)


def test_every_field_of_an_answer_that_may_be_null_says_what_that_means_or_is_a_time() -> None:
    """Null is the value that clients get wrong."""
    unclear = {
        f"{name}.{field}"
        for name, schema in DOCUMENT["components"]["schemas"].items()
        for field, shape in schema.get("properties", {}).items()
        if {"type": "null"} in shape.get("anyOf", ()) and "description" not in shape and not field.endswith("_at")
    }
    assert not unclear, listed("give the field a docstring", unclear)
