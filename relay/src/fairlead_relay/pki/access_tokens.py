"""API tokens as text: made here, recognised here, stored as a hash elsewhere."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from fairlead_relay.pki.random_text import random_base32

PREFIX: Final = "flt"
_ID_LENGTH: Final = 16
_SECRET_LENGTH: Final = 32
_FORM: Final = re.compile(rf"{PREFIX}_([0-9a-z]{{{_ID_LENGTH}}})_([0-9a-z]{{{_SECRET_LENGTH}}})")


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token as its owner has it; its repr hides the secret."""

    token_id: str
    secret: str = field(repr=False)
    """160 random bits, so that its hash needs no salt and no slowness."""

    @classmethod
    def generate(cls) -> AccessToken:
        """Return a fresh token."""
        return cls(random_base32(_ID_LENGTH), random_base32(_SECRET_LENGTH))

    @classmethod
    def parse(cls, text: str) -> AccessToken | None:
        """Read a token; None when the text is none."""
        match = _FORM.fullmatch(text.strip())
        return None if match is None else cls(match[1], match[2])

    @property
    def text(self) -> str:
        """The secret form, which secret scanners recognise by its prefix."""
        return f"{PREFIX}_{self.token_id}_{self.secret}"

    @property
    def secret_sha256(self) -> str:
        """Hex SHA-256 of the secret, the form that is stored."""
        return hashlib.sha256(self.secret.encode()).hexdigest()
