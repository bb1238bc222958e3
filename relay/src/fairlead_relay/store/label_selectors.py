"""
Label selectors, as `kubectl -l` takes them, and the rules for labels themselves: Kubernetes', whose words these are.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fairlead_shared.errors import NameInvalid

MOST_LABELS: Final = 64
"""Of one thing: enough for any scheme, and a page of 500 things stays within a few MiB."""
_NAME: Final = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_PREFIX: Final = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_KEY: Final = rf"(?:{_PREFIX}/)?{_NAME}"
_IS_KEY: Final = re.compile(_KEY)
_IS_VALUE: Final = re.compile(rf"(?:{_NAME})?")
_COMPARED: Final = rf"\s*(?P<sign>==?|!=)\s*(?P<value>(?:{_NAME})?)"
_IN_A_SET: Final = r"\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\)"
_TERM: Final = re.compile(rf"\s*(?:(?P<absent>!)\s*(?P<no_key>{_KEY})|(?P<key>{_KEY})(?:{_COMPARED}|{_IN_A_SET})?)\s*")
_KEY_RULE: Final = "a label's key has 1-63 letters, digits, '-', '_' and '.', and may follow a DNS name and '/'"
_VALUE_RULE: Final = (
    "a label's value has 0-63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
)
_SELECTOR_RULE: Final = (
    "write terms separated by commas: key=value, key!=value, key, !key, key in (a,b), key notin (a,b)"
)


@dataclass(frozen=True, slots=True)
class _Term:
    key: str
    values: frozenset[str] | None
    """Any of these; None: whatever it is."""
    is_wanted: bool

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels fulfil this term; a term with a `!` or `not` also holds where the key is missing."""
        found = self.key in labels and (self.values is None or labels[self.key] in self.values)
        return found == self.is_wanted


@dataclass(frozen=True, slots=True)
class Selector:
    """Terms, all of which must hold."""

    terms: tuple[_Term, ...]

    @classmethod
    def parse(cls, text: str) -> Selector:
        """
        Read a selector.

        Raises: NameInvalid: it is none.
        """
        terms: list[_Term] = []
        position = 0
        while position < len(text) or not terms:
            match = _TERM.match(text, position)
            if match is None or (match.end() < len(text) and text[match.end()] != ","):
                raise NameInvalid("selector", text, _SELECTOR_RULE)
            terms.append(_term(match))
            position = match.end() + 1
        if text.rstrip().endswith(","):
            raise NameInvalid("selector", text, _SELECTOR_RULE)
        return cls(tuple(terms))

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels fulfil all terms."""
        return all(term.matches(labels) for term in self.terms)


def check_labels(labels: Mapping[str, str]) -> None:
    """
    Check labels by Kubernetes' rules.

    Raises: NameInvalid: a key or value breaks them, or there are too many.
    """
    if len(labels) > MOST_LABELS:
        raise NameInvalid("labels", str(len(labels)), f"one thing has at most {MOST_LABELS} of them")
    for key, value in labels.items():
        if not _IS_KEY.fullmatch(key):
            raise NameInvalid("labels", key, _KEY_RULE)
        if not _IS_VALUE.fullmatch(value):
            raise NameInvalid("labels", value, _VALUE_RULE)


def _term(match: re.Match[str]) -> _Term:
    if match["absent"]:
        return _Term(match["no_key"], None, is_wanted=False)
    if match["sign"]:
        return _Term(match["key"], frozenset({match["value"]}), is_wanted=match["sign"] != "!=")
    if match["set"]:
        values = frozenset(value.strip() for value in match["values"].split(","))
        for value in values:
            if not _IS_VALUE.fullmatch(value):
                raise NameInvalid("selector", value, _VALUE_RULE)
        return _Term(match["key"], values, is_wanted=match["set"] == "in")
    return _Term(match["key"], None, is_wanted=True)
