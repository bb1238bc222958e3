"""
Enrolment tokens: one string that carries a one-time secret and the fingerprint of the relay's root CA.

Text form: `fle1_TOKENID_SECRET_CAFINGERPRINT`, made so that secret scanners find it. The relay stores only the
SHA-256 of the secret: 160 random bits need no slow hash.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

from fairlead_shared.errors import TokenInvalid

PREFIX = "fle1"
_FORM = re.compile(r"fle1_([0-9a-z]{16,40})_([0-9a-z]{32})_([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """A parsed token; its repr hides the secret."""

    token_id: str
    secret: str = field(repr=False)
    """32 lower-case base32 characters: 160 bits."""
    ca_fingerprint: str
    """Hex SHA-256 of the root certificate that the relay's chain must end in."""

    @classmethod
    def parse(cls, text: str) -> EnrolmentToken:
        """
        Read a token as printed by `fairlead cluster create`.

        Raises: TokenInvalid: another form; the text is not repeated.
        """
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise TokenInvalid(f"it must look like {PREFIX}_ID_SECRET_FINGERPRINT; copy it whole from 'cluster create'")
        return cls(*match.groups())

    def to_text(self) -> str:
        """Return the text form, which is a secret."""
        return f"{PREFIX}_{self.token_id}_{self.secret}_{self.ca_fingerprint}"

    def secret_hash(self) -> str:
        """Return the hex SHA-256 of the secret, the form that is stored."""
        return hashlib.sha256(self.secret.encode()).hexdigest()
