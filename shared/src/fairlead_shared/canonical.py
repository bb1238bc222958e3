"""Canonical JSON: one byte string per value, so that both sides hash and sign the same bytes."""

from __future__ import annotations

import json


def canonical_json(value: object) -> bytes:
    """
    Return `value` as UTF-8 JSON with sorted keys, no white space and no NaN.

    Args:
        value: Built of dict with str keys, list, str, int, float, bool and None.
    Raises: ValueError: NaN or infinity. TypeError: a value of another type.
    Source: the subset of RFC 8785 that both sides need; numbers print as Python prints them, since only Python writes
        here.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
