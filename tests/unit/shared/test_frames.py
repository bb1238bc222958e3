"""Frames: bytes and back, tolerance of the future, refusal of nonsense."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from fairlead_shared.errors import ErrorCode, FrameInvalid
from fairlead_shared.frames import (
    KINDS,
    MAX_CHUNK_BYTES,
    MESSAGE_TYPES,
    PROTOCOL_VERSION,
    BulkRefuse,
    Chunk,
    Enrol,
    Error,
    Hello,
    JobOffer,
    JobRefuse,
    UnknownMessage,
    decode_frame,
    encode_frame,
)
from fairlead_shared.jobs import JobKind

TRANSCRIPT = Path(__file__).parents[2] / "previous" / "transcript.jsonl"
JOB = {"job_id": "j", "token": 3}
STEP = {"type": "step", "key": "step/apply/started", "at": 1.5, "step": "apply", "status": "started"}
SAMPLES: list[dict[str, object]] = [
    {"kind": "ca_request", "fingerprint": "0" * 64},
    {"kind": "ca", "root_pem": "pem"},
    {"kind": "enrol", "token_id": "t", "secret": "s", "csr_pem": "pem", "sealing_key": "k"},
    {"kind": "enrolled", "certificate_pem": "pem", "root_pem": "pem", "relay_signer": "k"},
    {"kind": "challenge_request"},
    {"kind": "challenge", "nonce": "0" * 64, "at": 1.5},
    {"kind": "rejoin", "certificate_pem": "pem", "csr_pem": "pem", "signature": "s"},
    {
        "kind": "hello", "versions": [1, 2], "agent_version": "0", "replica": "pod", "sealing_key": "k",
        "jobs": [{**JOB, "attempt": 1, "last_seq": 0}],
    },
    {
        "kind": "welcome", "version": 1, "session_id": "s", "relay_version": "0", "store_epoch": "e",
        "heartbeat_seconds": 1, "reconnect_window_seconds": 1, "at": 1.5,
        "jobs": [{"job_id": "j", "verdict": "abandon", "acknowledged_seq": 2}],
    },
    {"kind": "heartbeat", "number": 1, "jobs": [JOB]},
    {"kind": "heartbeat_ack", "number": 1, "lease_seconds": 30, "renewed": ["j"]},
    {
        "kind": "job_offer", **JOB, "attempt": 1, "job_kind": "deploy", "lease_seconds": 30, "deadline": 9,
        "statement": {"payload": "cA==", "payloadType": "t", "signatures": [{"keyid": "a", "sig": "cA=="}]},
    },
    {"kind": "job_accept", **JOB, "attempt": 1},
    {"kind": "job_refuse", **JOB, "attempt": 1, "code": "not_bound", "message": "no", "temporary": False},
    {"kind": "job_cancel", **JOB, "superseded": True},
    {"kind": "progress", **JOB, "seq": 1, "event": STEP},
    {"kind": "ack", "job_id": "j", "seq": 4},
    {"kind": "bulk_request", "transfer": 1, "sha256": "0" * 64, "offset": 5, "credit": 6},
    {"kind": "bulk_credit", "transfer": 1, "credit": 6},
    {"kind": "bulk_end", "transfer": 1, "size": 6},
    {"kind": "bulk_refuse", "transfer": 1, "code": "bundle_unavailable"},
    {"kind": "certificate_request", "csr_pem": "pem"},
    {"kind": "certificate", "certificate_pem": "pem", "root_pem": "pem"},
    {"kind": "certificate_stored", "serial": "0a"},
    {"kind": "certificate_due", "within_seconds": 5},
    {
        "kind": "drift_report", "environment": ["o", "a", "e"], "revision": 7, "mode": "report", "at": 1.5,
        "bundle_sha256": "0" * 64, "total": 1, "watches": 3, "reason": "not all of it",
        "objects": [
            {
                "object": {"api_version": "apps/v1", "kind": "Deployment", "namespace": "n", "name": "web"},
                "drift": "changed", "status": "fought", "since": 1.5, "managers": ["kubectl"], "fields_left_out": 2,
                "fields": [{"pointer": "/spec/replicas", "before": "1", "after": "3"}], "corrections": 3,
                "next_attempt_at": 2.5, "reason": "r",
            }
        ],
        "unseen": [{"group": "apps", "resource": "deployments", "namespace": "n", "reason": "needs …"}],
    },
    {"kind": "drift_ack", "environment": ["o", "a", "e"], "revision": 7},
    {"kind": "go_away", "reason": "drain"},
    {"kind": "unsupported", "unknown": "teleport"},
    {"kind": "error", "code": "internal"},
]  # fmt: skip


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["kind"])
def test_every_message_round_trips(sample: dict[str, object]) -> None:
    """One message of each kind reads back as itself, and says again what was said."""
    message = decode_frame(json.dumps(sample).encode())
    assert not isinstance(message, Chunk | UnknownMessage)
    frame = encode_frame(message)
    assert decode_frame(frame) == message
    assert message.model_fields_set == sample.keys(), "a field of the sample was not understood"


@pytest.mark.parametrize("number", [{"revision": 2**63}, {"total": 2**31}])
def test_what_a_store_cannot_hold_is_no_report(number: dict[str, int]) -> None:
    """Its sender is told so, as of any other malformed message."""
    sample = next(sample for sample in SAMPLES if sample["kind"] == "drift_report")
    with pytest.raises(FrameInvalid, match=next(iter(number))):
        decode_frame(json.dumps({**sample, **number}).encode())


def numbers(schema: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401  (JSON)
    """Yield each number in a JSON schema."""
    if isinstance(schema, dict):
        if schema.get("type") in ("integer", "number"):
            yield schema
        for part in schema.values():
            yield from numbers(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from numbers(part)


@pytest.mark.parametrize("message", MESSAGE_TYPES, ids=lambda message: message.__name__)
def test_every_number_has_bounds_that_a_store_can_hold(message: type[BaseModel]) -> None:
    """A peer that says more, or no number at all, is told so: neither SQL nor JSON could keep it."""
    for number in numbers(message.model_json_schema()):
        assert number.get("minimum", number.get("exclusiveMinimum", -1)) >= 0, number
        assert number["maximum"] < 2**63, number


@pytest.mark.parametrize("raw", [b"9223372036854775808", b"Infinity", b"NaN", b"1e400", b"9" * 4000, b"-1"])
@pytest.mark.parametrize("field", ["token", "attempt", "deadline", "acknowledged_seq", "lease_seconds"])
def test_number_out_of_bounds_is_malformed(field: str, raw: bytes) -> None:
    """Not an error of whatever meets it later."""
    sample = next(sample for sample in SAMPLES if sample["kind"] == "job_offer")
    marked = json.dumps({**sample, field: "HERE"}).encode()
    with pytest.raises(FrameInvalid, match=field) as caught:
        decode_frame(marked.replace(b'"HERE"', raw))
    assert caught.value.code is ErrorCode.MALFORMED


def test_samples_cover_every_kind() -> None:
    """A new kind needs a sample."""
    assert {sample["kind"] for sample in SAMPLES} == KINDS


@given(
    st.builds(Chunk, transfer=st.integers(1, 2**32 - 1), offset=st.integers(0, 2**62), payload=st.binary(max_size=100))
)
def test_chunks_round_trip(chunk: Chunk) -> None:
    """The binary layout loses nothing."""
    assert decode_frame(encode_frame(chunk)) == chunk


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_random_bytes_raise_one_error_type(content: bytes) -> None:
    """A decoder fed by strangers raises FrameInvalid or returns a frame, nothing else."""
    with contextlib.suppress(FrameInvalid):
        decode_frame(content)


def test_unknown_fields_are_ignored_and_unknown_kinds_reported() -> None:
    """A newer peer may say more than we know."""
    assert decode_frame(b'{"kind":"error","code":"internal","mood":"bad"}') == Error(code=ErrorCode.INTERNAL)
    assert decode_frame(b'{"kind":"teleport"}') == UnknownMessage(kind="teleport")


def test_an_event_of_an_unknown_type_is_no_message_of_an_unknown_kind() -> None:
    """It has a number, so that it cannot be passed over; who sends it is told what was not understood."""
    raw = b'{"kind":"progress","job_id":"j","token":1,"seq":1,"event":{"type":"strange","key":"a","at":1}}'
    with pytest.raises(FrameInvalid, match=r"progress\.event: .*'strange'") as caught:
        decode_frame(raw)
    assert caught.value.code is ErrorCode.MALFORMED


def test_job_kind_of_the_future_survives() -> None:
    """An offer of an unknown kind parses, so that it can be refused by name."""
    raw = b'{"kind":"job_offer","job_id":"j","attempt":1,"token":1,"job_kind":"%b","lease_seconds":9,"deadline":1}'
    old, new = decode_frame(raw % b"deploy"), decode_frame(raw % b"canary")
    assert isinstance(old, JobOffer)
    assert isinstance(new, JobOffer)
    assert old.job_kind == JobKind.DEPLOY
    assert new.job_kind == "canary"


@pytest.mark.parametrize(
    "content",
    [
        b"\x01" + bytes(12),
        b"\x01" + (1).to_bytes(4, "big") + b"\xff" * 8,
        b"\x01" + (1).to_bytes(4, "big") + bytes(8) + bytes(MAX_CHUNK_BYTES + 1),
    ],
)
def test_chunk_out_of_range_is_malformed(content: bytes) -> None:
    """Transfer 0, an absurd offset, and a payload over the limit."""
    with pytest.raises(FrameInvalid, match="out of range"):
        decode_frame(content)


def test_enrolment_secret_is_not_in_the_repr() -> None:
    """A logged message must not leak the token."""
    assert "hunter2" not in repr(Enrol(token_id="t", secret="hunter2", csr_pem="c", sealing_key="k"))


def test_protocol_document_lists_every_kind_and_the_version() -> None:
    """docs/protocol.md has a row per kind, with the words of the code, and states the current version."""
    text = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, flags=re.MULTILINE))
    assert set(rows) == KINDS
    for cls in MESSAGE_TYPES:
        words = " ".join((cls.__doc__ or "").split())
        assert rows[cls.model_fields["kind"].default] == words
    assert f"Protocol version {PROTOCOL_VERSION}" in text
    assert Hello.model_fields["kind"].default in rows


@pytest.mark.parametrize("kind", ["error", "job_refuse", "bulk_refuse"])
def test_a_code_of_a_later_version_reads_as_internal(kind: str) -> None:
    """The text beside it still says what was wrong; a connection does not end over a word."""
    numbers = {"job_id": "j", "attempt": 1, "token": 1, "transfer": 1, "temporary": False}
    read = decode_frame(json.dumps({"kind": kind, "code": "from_tomorrow", "message": "why", **numbers}).encode())
    assert isinstance(read, Error | JobRefuse | BulkRefuse)
    assert (read.code, read.message) == (ErrorCode.INTERNAL, "why")


def recorded() -> list[str | dict[str, str]]:
    """Return what agents and relays of the previous version said to one another: JSON, or base64 of a chunk."""
    return [json.loads(line)["frame"] for line in TRANSCRIPT.read_text().splitlines()]


def test_every_frame_of_the_previous_version_means_what_it_meant() -> None:
    """Nothing it says is refused, unknown or lost: what is read and written again holds every field it sent."""
    kinds = set()
    for frame in recorded():
        if isinstance(frame, dict):
            content = base64.b64decode(frame["base64"])
            chunk = decode_frame(content)
            assert isinstance(chunk, Chunk)
            assert encode_frame(chunk) == content
            continue
        said = json.loads(frame)
        kinds.add(said["kind"])
        read = decode_frame(frame.encode())
        assert not isinstance(read, UnknownMessage)
        assert said.items() <= json.loads(encode_frame(read)).items()
    assert kinds == set(KINDS) - {"unsupported", "drift_report", "drift_ack"}, "the last two are newer"
