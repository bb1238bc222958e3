"""Deployment statements: exact bytes, nothing unknown, nothing malformed."""

from __future__ import annotations

import json

import pytest

from fairlead_shared.errors import StatementInvalid
from fairlead_shared.statement import DeploymentStatement, Strategy


def statement(**changes: object) -> DeploymentStatement:
    fields = {
        "deployment_id": "01j00000000000000000000000",
        "organization": "acme",
        "application": "shop",
        "environment": "staging",
        "environment_type": "staging",
        "cluster": "east",
        "namespaces": ("shop",),
        "bundle_sha256": "a" * 64,
        "previous_bundle_sha256": None,
        "strategy": Strategy.ALL_AT_ONCE,
        "not_before": 1,
        "expires": 2,
        "rollback": False,
    }
    return DeploymentStatement.model_validate(fields | changes)


def test_bytes_are_canonical_and_round_trip() -> None:
    """The bytes are sorted JSON without spaces and read back as the same statement."""
    content = statement().to_bytes()
    assert content == json.dumps(json.loads(content), sort_keys=True, separators=(",", ":")).encode()
    assert DeploymentStatement.from_bytes(content) == statement()


@pytest.mark.parametrize(
    "change",
    [
        {"surprise": 1},
        {"environment": "Prod"},
        {"deployment_id": "short"},
        {"bundle_sha256": "xyz"},
        {"strategy": "yolo"},
        {"not_before": "soon"},
        {"namespaces": ["a"] * 257},
        {"format": "fairlead.statement/2"},
        {"consents": ["everything"]},
        {"consents": ["recreate", "adopt"]},
        {"consents": ["adopt", "adopt"]},
    ],
)
def test_unknown_or_malformed_field_is_named(change: dict[str, object]) -> None:
    """A signer's words are taken whole or not at all; the error names the field."""
    content = json.dumps({**json.loads(statement().to_bytes()), **change}, sort_keys=True, separators=(",", ":"))
    with pytest.raises(StatementInvalid, match=next(iter(change))):
        DeploymentStatement.from_bytes(content.encode())


def test_other_bytes_of_the_same_statement_are_refused() -> None:
    """A second spelling would be a second thing to sign."""
    pretty = json.dumps(json.loads(statement().to_bytes()), indent=1).encode()
    with pytest.raises(StatementInvalid, match="canonical"):
        DeploymentStatement.from_bytes(pretty)
    with pytest.raises(StatementInvalid):
        DeploymentStatement.from_bytes(b"[" * 10_000)


def test_consents_are_written_only_where_there_are_any() -> None:
    """A statement without any has the bytes it had before consents were known; an older agent refuses others."""
    assert b"consents" not in statement().to_bytes()
    asked = statement(consents=("adopt", "prune"))
    assert DeploymentStatement.from_bytes(asked.to_bytes()) == asked
    empty = json.dumps({**json.loads(statement().to_bytes()), "consents": []}, sort_keys=True, separators=(",", ":"))
    with pytest.raises(StatementInvalid, match="canonical"):
        DeploymentStatement.from_bytes(empty.encode())
