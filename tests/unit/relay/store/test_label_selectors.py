"""Selectors and labels, by kubectl's rules."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead_relay.store.label_selectors import MOST_LABELS, Selector, check_labels
from fairlead_shared.errors import NameInvalid

LABELS = {"env": "production", "tier": "gold", "example.com/team": "", "in": "x"}
KEYS = st.from_regex(r"([a-z]{1,5}\.[a-z]{2,3}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
VALUES = st.from_regex(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?)?", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("env=production", True),
        ("env==production", True),
        ("env = staging", False),
        ("env!=staging", True),
        ("env!=production", False),
        ("nothing!=anything", True),
        ("env", True),
        ("nothing", False),
        ("!nothing", True),
        ("! env", False),
        ("env in (production, staging)", True),
        ("env in (staging)", False),
        ("env notin (staging,test)", True),
        ("nothing notin (a)", True),
        ("nothing in (a)", False),
        ("example.com/team=", True),
        ("example.com/team", True),
        ("in", True),
        ("in in (x)", True),
        ("env=production,tier=gold", True),
        (" env=production , tier=silver ", False),
        ("tier in (gold),!nothing,env!=test", True),
    ],
)
def test_a_selector_matches_as_kubectls_would(text: str, *, matches: bool) -> None:
    """All of its terms must hold; what is not there is not equal to anything."""
    assert Selector.parse(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    "text",
    ["", ",", "a,", ",a", "a=b c", "a=b=c", "a in", "a in b", "a in (b", "a in (b c)", "a>1", "-a=b", "a=-b", "/a",
     "a/b/c", "a" * 64, "!a=b"],
)  # fmt: skip
def test_what_is_no_selector_is_refused(text: str) -> None:
    """A selector that is read wrongly would select wrongly."""
    with pytest.raises(NameInvalid):
        Selector.parse(text)


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5))
def test_labels_are_selected_by_all_of_themselves(labels: dict[str, str]) -> None:
    """Whatever they are, and not when one differs."""
    check_labels(labels)
    text = ",".join(f"{key}={value}" for key, value in labels.items())
    assert Selector.parse(text).matches(labels)
    key = next(iter(labels))
    assert not Selector.parse(text).matches({**labels, key: labels[key] + "x"})
    assert not Selector.parse(f"!{key}").matches(labels)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """And never takes anything down."""
    with contextlib.suppress(NameInvalid):
        Selector.parse(text)


@pytest.mark.parametrize(
    "labels",
    [
        {"": "x"},
        {"a b": "x"},
        {"a": "x" * 64},
        {"a": "-"},
        {"Example.com/a": "x"},
        {"example.com/": "x"},
        {f"key-{number}": "x" for number in range(MOST_LABELS + 1)},
    ],
)
def test_labels_that_kubernetes_would_refuse_are_refused(labels: dict[str, str]) -> None:
    """They may be copied to there one day."""
    with pytest.raises(NameInvalid, match="labels"):
        check_labels(labels)
