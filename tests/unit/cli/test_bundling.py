"""From files to a bundle: sealed, pinned, placed."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fairlead_cli.bundling import Prepared, prepare
from fairlead_cli.errors import ManifestInvalid, NoRecipient, RecipientChanged
from fairlead_cli.manifest_files import Text
from fairlead_cli.manifests import read_manifests
from fairlead_cli.records import Environment, SealingKey
from fairlead_shared.bundle import read_bundle
from fairlead_shared.identity import key_fingerprint
from tests.unit.cli.scripted_relay import SERVER, environment

SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {password: hunter2}\n"
CONFIG = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: b}\n"


def sealing_key() -> SealingKey:
    """Return a new key as the API gives it."""
    key = X25519PrivateKey.generate().public_key()
    return SealingKey(public_key=base64.b64encode(key.public_bytes_raw()).decode(), fingerprint=key_fingerprint(key))


def prepared(text: str, key: SealingKey | None, pins: Path) -> Prepared:
    """Prepare one text for shop/staging."""
    where = Environment.model_validate(environment()).model_copy(update={"sealing_key": key})
    return prepare(read_manifests([Text("a.yaml", text)], "shop"), "acme", where, SERVER, pins)


def test_a_bundle_holds_no_plaintext(tmp_path: Path) -> None:
    """What the relay gets passes its own check; the first use of the key is reported."""
    key = sealing_key()
    made = prepared(SECRET + "---\n" + CONFIG, key, tmp_path / "pins")
    assert len(list(read_bundle(made.bundle.content, made.bundle.sha256).objects())) == 2
    assert b"hunter2" not in made.bundle.content
    assert base64.b64encode(b"hunter2") not in made.bundle.content
    assert made.new_pin == f"acme/prod {key.fingerprint}"
    assert made.origins == {"Secret shop/db": "a.yaml:1", "ConfigMap shop/c": "a.yaml:6"}
    assert prepared(SECRET, key, tmp_path / "pins").new_pin == ""


def test_without_secrets_no_key_is_needed_and_none_pinned(tmp_path: Path) -> None:
    """An agent that is not there yet does not matter, and the same input is the same bundle."""
    one, two = (prepared(CONFIG, None, tmp_path / "pins") for _ in range(2))
    assert one.bundle.sha256 == two.bundle.sha256
    assert not (tmp_path / "pins").exists()


def test_secrets_need_the_pinned_key(tmp_path: Path) -> None:
    """No key, or another one than before: nothing is made."""
    with pytest.raises(NoRecipient, match="cluster prod"):
        prepared(SECRET, None, tmp_path / "pins")
    prepared(SECRET, sealing_key(), tmp_path / "pins")
    with pytest.raises(RecipientChanged, match="acme/prod"):
        prepared(SECRET, sealing_key(), tmp_path / "pins")


def test_a_bundle_over_its_limits_is_refused_here(tmp_path: Path) -> None:
    """Before it is sent, in the command's own words."""
    deep = CONFIG + "x: " + "[" * 80 + "]" * 80 + "\n"
    with pytest.raises(ManifestInvalid, match="nested deeper than 64"):
        prepared(deep, None, tmp_path / "pins")
