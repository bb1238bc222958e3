"""Sealed values open in one place, for their recipients, and nowhere else."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from fairlead_shared.errors import SealInvalid
from fairlead_shared.sealing import SealContext, seal, unseal

CONTEXT = SealContext("acme", "shop", "staging", "shop", "db")
KEY, OLD_KEY, OTHER = (X25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))


@given(st.dictionaries(st.text(max_size=8), st.binary(max_size=40), max_size=4))
def test_values_round_trip(values: dict[str, bytes]) -> None:
    """Any values come back as they were, and their bytes are not in the sealed form."""
    sealed = seal(values, CONTEXT, [KEY.public_key()]).model_dump(mode="json")
    assert unseal(sealed, CONTEXT, [KEY]) == values
    text = json.dumps(sealed)
    assert all(base64.b64encode(value).decode() not in text for value in values.values() if len(value) > 12)


def test_every_recipient_and_old_keys_open_it() -> None:
    """Several agents, or a key kept for rollbacks, open the same value."""
    sealed = seal({"a": b"x"}, CONTEXT, [OLD_KEY.public_key(), OTHER.public_key()]).model_dump(mode="json")
    assert unseal(sealed, CONTEXT, [KEY, OLD_KEY]) == unseal(sealed, CONTEXT, [OTHER]) == {"a": b"x"}


def test_foreign_key_is_named() -> None:
    """The error names both fingerprints, so that a stale pin is seen at once."""
    sealed = seal({"a": b"x"}, CONTEXT, [OTHER.public_key()]).model_dump(mode="json")
    with pytest.raises(SealInvalid, match=r"sealed to SHA256:.*this agent's key is SHA256:"):
        unseal(sealed, CONTEXT, [KEY])


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(SealContext)])
def test_moved_value_does_not_open(field: str) -> None:
    """A sealed value copied to another Secret, namespace or environment stays shut."""
    sealed = seal({"a": b"x"}, CONTEXT, [KEY.public_key()]).model_dump(mode="json")
    with pytest.raises(SealInvalid, match="another Secret"):
        unseal(sealed, dataclasses.replace(CONTEXT, **{field: "elsewhere"}), [KEY])


@pytest.mark.parametrize("part", ["nonce", "ciphertext", "key"])
def test_tampering_is_noticed(part: str) -> None:
    """A flipped bit anywhere stays shut, with one message for every cause."""
    sealed = seal({"a": b"x"}, CONTEXT, [KEY.public_key()]).model_dump(mode="json")
    holder = sealed["keys"][0] if part == "key" else sealed
    raw = bytearray(base64.b64decode(holder[part]))
    raw[-1] ^= 1
    holder[part] = base64.b64encode(raw).decode()
    with pytest.raises(SealInvalid, match="changed on the way"):
        unseal(sealed, CONTEXT, [KEY])


@pytest.mark.parametrize("sealed", [None, [], {}, {"keys": []}, {"keys": [{"recipient": 1}], "nonce": "", "x": 1}])
def test_malformed_value_is_refused(sealed: object) -> None:
    """Anything but the exact shape is malformed."""
    with pytest.raises(SealInvalid, match="malformed"):
        unseal(sealed, CONTEXT, [KEY])
