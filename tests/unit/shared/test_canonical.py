"""Canonical JSON."""

from __future__ import annotations

import pytest

from fairlead_shared.canonical import canonical_json


def test_bytes_do_not_depend_on_insertion_order() -> None:
    """Keys are sorted, text is UTF-8, no white space."""
    assert canonical_json({"b": 1, "a": ["é", None, True]}) == '{"a":["é",null,true],"b":1}'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_refused(value: float) -> None:
    """NaN is no JSON."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(value)
