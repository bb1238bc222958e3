"""Bundles: one byte form per set of manifests, and every way in which foreign bytes are refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead_shared.bundle import (
    LAST_APPLIED,
    MAX_BUNDLE_BYTES,
    BundleHash,
    depth_of,
    hash_of,
    make_bundle,
    read_bundle,
)
from fairlead_shared.errors import BundleInvalid, ErrorCode


def config_map(name: str, **extra: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}, **extra}


def test_order_and_spelling_of_the_input_do_not_matter() -> None:
    """The same manifests in any order, with keys in any order, give the same bytes."""
    one, two = config_map("a", data={"x": "1", "y": "2"}), config_map("b")
    swapped = {"data": {"y": "2", "x": "1"}, **{key: one[key] for key in ("metadata", "kind", "apiVersion")}}
    assert make_bundle([one, two]) == make_bundle([two, swapped])


def test_round_trip_keeps_objects() -> None:
    """What was put in comes out, in canonical order."""
    bundle = make_bundle([config_map("b", data={"text": "line one\nline two\u2028é"}), config_map("a")])
    assert [manifest["metadata"]["name"] for manifest in bundle.objects()] == ["a", "b"]
    assert list(read_bundle(bundle.content, bundle.sha256).objects())[1]["data"] == {
        "text": "line one\nline two\u2028é"
    }


def test_empty_bundle_is_valid() -> None:
    """A bundle of nothing prunes everything; it is a bundle like any other."""
    assert list(read_bundle(make_bundle([]).content).objects()) == []


def test_duplicate_is_refused_across_versions_of_its_group() -> None:
    """apps/v1 and apps/v1beta1 of one name are the same object."""
    metadata = {"name": "web", "namespace": "shop"}
    manifests = [{"apiVersion": f"apps/{v}", "kind": "Deployment", "metadata": metadata} for v in ("v1", "v1beta1")]
    with pytest.raises(BundleInvalid, match="occurs twice"):
        make_bundle(manifests)


@pytest.mark.parametrize("field", ["data", "stringData"])
def test_plaintext_secret_is_refused_and_never_repeated(field: str) -> None:
    """A Secret with values is refused; the error names it and not its values."""
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, field: {"password": "hunter2"}}
    with pytest.raises(BundleInvalid, match="plaintext") as caught:
        make_bundle([secret])
    assert "hunter2" not in str(caught.value)


def test_secret_with_last_applied_annotation_is_refused() -> None:
    """kubectl's annotation repeats the whole Secret."""
    metadata = {"name": "db", "annotations": {LAST_APPLIED: "{}"}}
    with pytest.raises(BundleInvalid, match="last-applied"):
        make_bundle([{"apiVersion": "v1", "kind": "Secret", "metadata": metadata}])


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ([], "must be a mapping"),
        ({"kind": "ConfigMap", "metadata": {"name": "a"}}, "apiVersion"),
        ({"apiVersion": "v1", "kind": "", "metadata": {"name": "a"}}, "kind"),
        ({"apiVersion": "v1", "kind": "ConfigMap"}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": 7}}, "metadata.name"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": 7}}, "metadata.namespace"),
        ({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a" * 254}}, "longer than Kubernetes allows"),
    ],
)
def test_malformed_object_is_refused(manifest: object, words: str) -> None:
    """Each missing or malformed part is named."""
    with pytest.raises(BundleInvalid, match=words):
        make_bundle([manifest])  # type: ignore[list-item]  # hostile input is the point


def test_deep_nesting_is_refused() -> None:
    """An object nested deeper than the limit is refused with `too_large`."""
    nested: object = "x"
    for _ in range(70):
        nested = [nested]
    with pytest.raises(BundleInvalid) as caught:
        make_bundle([config_map("a", data=nested)])
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert depth_of({"a": [1]}) == 2
    assert depth_of(1) == 0


def test_too_many_bytes_are_refused_before_they_are_read() -> None:
    """A body over the limit is refused by its size alone."""
    with pytest.raises(BundleInvalid, match="limit") as caught:
        read_bundle(b"x" * (MAX_BUNDLE_BYTES + 1))
    assert caught.value.code is ErrorCode.TOO_LARGE


def good_lines() -> list[bytes]:
    return make_bundle([config_map("a"), config_map("b")]).content[:-1].split(b"\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[::-1], "line 1"),
        (lambda lines: [lines[0], lines[2], lines[1]], "canonical order"),
        (lambda lines: [lines[0], lines[1], lines[1]], "occurs twice"),
        (lambda lines: lines[:2], "announces 2 objects, 1 follow"),
        (lambda lines: [lines[0], b" " + lines[1], lines[2]], "line 2.*canonical form"),
        (lambda lines: [lines[0], lines[1], b"{"], "line 3.*no JSON"),
        (lambda lines: [lines[0], lines[1], b'{"a":NaN}'], "line 3.*no JSON"),
        (lambda lines: [lines[0], lines[1], b"[" * 100_000], "line 3.*no JSON"),
        (lambda lines: [b'{"format":"other/1","objects":2}', *lines[1:]], "format"),
    ],
)
def test_foreign_bytes_are_checked(change: object, words: str) -> None:
    """Bytes that make_bundle would not have written are refused, with the line."""
    lines = change(good_lines())  # type: ignore[operator]  # a lambda from the table above
    with pytest.raises(BundleInvalid, match=words):
        read_bundle(b"\n".join(lines) + b"\n")


def test_truncated_and_misaddressed_bytes_are_refused() -> None:
    """A cut-off last line, and content that is not what its address says."""
    bundle = make_bundle([config_map("a")])
    with pytest.raises(BundleInvalid, match="cut off"):
        read_bundle(bundle.content[:-1])
    with pytest.raises(BundleInvalid, match="SHA-256") as caught:
        read_bundle(bundle.content, BundleHash("0" * 64))
    assert caught.value.code is ErrorCode.BUNDLE_UNAVAILABLE
    assert hash_of(bundle.content) == bundle.sha256


@given(st.binary(max_size=300))
def test_random_bytes_are_refused_with_one_error_type(content: bytes) -> None:
    """Whatever the bytes, the only error is BundleInvalid."""
    with pytest.raises(BundleInvalid):
        read_bundle(content + b"\n")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=4))
def test_any_json_survives_the_canonical_form(extra: dict[str, object]) -> None:
    """Making, reading and making again gives the same bytes, for any JSON content."""
    bundle = make_bundle([config_map("a", spec=extra)])
    again = make_bundle(read_bundle(bundle.content).objects())
    assert again == bundle
    assert json.loads(bundle.content.split(b"\n")[1])["spec"] == extra
