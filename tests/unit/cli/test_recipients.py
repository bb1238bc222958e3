"""Sealing keys: read, checked, pinned at first use, refused when they change."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fairlead_cli.errors import AnswerInvalid, ConfigInvalid, RecipientChanged
from fairlead_cli.recipients import pin, read_key
from fairlead_shared.identity import key_fingerprint

KEY = X25519PrivateKey.generate().public_key()
SERVER = "https://relay.example"


def test_a_key_is_read_with_its_own_fingerprint() -> None:
    """The fingerprint that people compare must be this key's."""
    text = base64.b64encode(KEY.public_bytes_raw()).decode()
    assert read_key(text, key_fingerprint(KEY)).public_bytes_raw() == KEY.public_bytes_raw()
    with pytest.raises(AnswerInvalid, match="the relay names SHA256:other"):
        read_key(text, "SHA256:other")


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", base64.b64encode(b"x" * 33).decode()])
def test_what_is_no_key_is_refused(text: str) -> None:
    """Nothing is sealed to it."""
    with pytest.raises(AnswerInvalid, match="not the base64 of 32 bytes"):
        read_key(text, "SHA256:x")


def test_first_use_pins_and_a_change_is_an_error(tmp_path: Path) -> None:
    """It names both, the file and the line to delete."""
    file = tmp_path / "deep" / "known_recipients"
    assert pin(file, SERVER, "acme/one", "SHA256:1")
    assert pin(file, SERVER, "acme/two", "SHA256:2")
    assert not pin(file, SERVER, "acme/two", "SHA256:2")
    assert pin(file, "https://other.example", "acme/two", "SHA256:3")
    with pytest.raises(RecipientChanged) as caught:
        pin(file, SERVER, "acme/two", "SHA256:3")
    assert (caught.value.pinned, caught.value.line) == ("SHA256:2", 2)
    assert len(file.read_text().splitlines()) == 3
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_pin_file_that_cannot_be_used_stops_the_deployment(tmp_path: Path) -> None:
    """Sealing to an unpinned key is what pinning prevents."""
    (tmp_path / "known_recipients").mkdir()
    with pytest.raises(ConfigInvalid, match="cannot be used to pin"):
        pin(tmp_path / "known_recipients", SERVER, "acme/one", "SHA256:1")
