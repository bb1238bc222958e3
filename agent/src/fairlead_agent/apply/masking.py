"""
Values of Secrets in texts that leave the cluster, such as logs and what containers said as they ended: masked.

Whole, each of their lines, and in base64, as a Secret's `data` or a header has them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from fairlead_agent.errors import KubeError
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import SECRETS
from fairlead_agent.together import together
from fairlead_shared.objects import ObjectRef

CUT = "…"
"""What stands where a text was cut."""
_MASK = "***"
_SHORTEST_SECRET = 4
"""Characters of a value that is masked: every `1` masked would hide the reason and no secret."""
_BASE64_UNITS = 3
"""Bytes that make four characters of base64 together; text before a value may leave it at any of them."""
_URL_SAFE = str.maketrans("+/", "-_")


class Mask:
    """Knows what must not be shown; values are asked for when there is something to show, as most have nothing."""

    def __init__(self) -> None:
        self._sources: list[Callable[[], Iterable[bytes]]] = []
        self._plain: list[str] | None = None
        self._encoded: list[str] = []
        self._refusal = ""

    def add(self, values: Callable[[], Iterable[bytes]]) -> None:
        """Mask these as well."""
        self._sources.append(values)
        self._plain = None

    async def add_live(self, client: KubeClient, refs: Iterable[ObjectRef]) -> None:
        """Mask the values of Secrets in the cluster as well; if one cannot be read, show nothing at all."""
        secrets = [ref for ref in refs if (ref.group, ref.kind) == (SECRETS.group, SECRETS.kind)]
        try:
            found = await together(client.find(SECRETS, ref.namespace, ref.name) for ref in secrets)
        except KubeError as error:
            self._refusal = f"not shown, since values of Secrets might be in it: {error}"
            return
        encoded = [value for live in found if live is not None for value in (live.get("data") or {}).values()]
        self.add(lambda: map(base64.b64decode, encoded))

    @property
    def refusal(self) -> str:
        """Why nothing can be shown; empty if it can."""
        return self._refusal

    @property
    def longest(self) -> int:
        """Characters of the longest text that is masked; 0 if there is none."""
        return max(map(len, chain(self._known(), self._encoded)), default=0)

    def hide(self, text: str) -> str:
        """Return a text as it may be shown."""
        if not text or self._refusal:
            return text and self._refusal
        for part in self._known():
            text = text.replace(part, _MASK)
        for part in self._encoded:
            if part in text:
                # The characters beside it may hold a few bits of the value, too.
                text = re.sub(rf"[\w+/-]?{re.escape(part)}[\w+/-]?=*", _MASK, text, flags=re.ASCII)
        if CUT in text:
            for part in chain(self._known(), self._encoded):
                text = _without_beginning(text, part)
        return text

    def _known(self) -> list[str]:
        """Return what is masked as it is; the encoded ones are known from then on, too."""
        if self._plain is None:
            values = {value for source in self._sources for value in source() if len(value) >= _SHORTEST_SECRET}
            self._plain = sorted({part for value in values for part in _lines(value)}, key=len, reverse=True)
            self._encoded = sorted({part for value in values for part in _base64(value)}, key=len, reverse=True)
        return self._plain


def _without_beginning(text: str, part: str) -> str:
    """Mask what a cut left of a value: as much of it as stands right before the cut."""
    *cut, last = text.split(CUT)
    return CUT.join([*(_ending_masked(piece, part) for piece in cut), last])


def _ending_masked(piece: str, part: str) -> str:
    begins = part[:_SHORTEST_SECRET]
    at = piece.find(begins)
    while at >= 0 and not part.startswith(piece[at:]):
        at = piece.find(begins, at + 1)
    return piece if at < 0 else f"{piece[:at]}{_MASK}"


def _lines(value: bytes) -> Iterator[str]:
    """Yield a value and its lines, as text."""
    text = value.decode(errors="replace")
    yield from (part for part in (text, *text.splitlines()) if len(part) >= _SHORTEST_SECRET)


def _base64(value: bytes) -> Iterator[str]:
    """
    Yield what base64 has of a value wherever it stands in what is encoded, as `user:password` in a header.

    Source: RFC 4648, clauses 4 and 5 (URL-safe), and RFC 2045, clause 6.8 (its lines, as `base64` prints).
    """
    for content in {value, value.strip() if len(value.strip()) >= _SHORTEST_SECRET else value}:
        for before in range(_BASE64_UNITS):
            encoded = base64.b64encode(bytes(before) + content).decode()
            sure = encoded[(before * 8 + 5) // 6 : (before + len(content)) * 8 // 6]
            yield from {sure, sure.translate(_URL_SAFE)}
        yield from (line for line in base64.encodebytes(content).decode().splitlines() if len(line) >= _SHORTEST_SECRET)
