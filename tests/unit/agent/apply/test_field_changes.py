"""Field changes: enough to make one object of the other, no noise, nothing secret, and bounded."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead_agent.apply.field_changes import ABSENT, Difference, differences, field_changes, pointer_of
from fairlead_shared.progress import MAX_FIELDS, MAX_POINTER_CHARACTERS, MAX_VALUE_CHARACTERS, FieldChange

SCALARS = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "a", "b", "a/b~c"]) | st.just(1.0)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["", "a", "b", "c/~"]), inner),
    max_leaves=12,
)


def applied(before: object, found: list[Difference]) -> Any:  # noqa: ANN401  (any JSON)
    """Make the changes that a list of differences names: replacements, then removals, then additions."""
    root: dict[str | int, Any] = {"": copy.deepcopy(before)}

    def holder(path: tuple[str | int, ...]) -> Any:  # noqa: ANN401  (any JSON)
        at: Any = root
        for part in ("", *path)[:-1]:
            at = at[part]
        return at

    def last(path: tuple[str | int, ...]) -> Any:  # noqa: ANN401  (any JSON)
        return ("", *path)[-1]

    for one in found:
        if ABSENT not in (one.before, one.after):
            assert holder(one.path)[last(one.path)] == one.before
            holder(one.path)[last(one.path)] = copy.deepcopy(one.after)
    for one in reversed([one for one in found if one.after is ABSENT]):
        assert holder(one.path)[last(one.path)] == one.before
        del holder(one.path)[last(one.path)]
    for one in (one for one in found if one.before is ABSENT):
        within = holder(one.path)
        if isinstance(within, list):
            within.insert(last(one.path), copy.deepcopy(one.after))
        else:
            assert last(one.path) not in within
            within[last(one.path)] = copy.deepcopy(one.after)
    return root[""]


@given(JSON, JSON)
def test_differences_make_the_one_of_the_other(before: Any, after: Any) -> None:  # noqa: ANN401  (any JSON)
    """Whatever is compared, changing what is named gives exactly what is wanted; and equal JSON has none."""
    found = list(differences(before, after))
    assert json.dumps(applied(before, found), sort_keys=True) == json.dumps(after, sort_keys=True)
    assert list(differences(after, copy.deepcopy(after))) == []


@given(st.lists(JSON, max_size=4), st.lists(JSON, max_size=4), JSON)
def test_one_item_more_is_one_difference(start: list[Any], end: list[Any], item: Any) -> None:  # noqa: ANN401
    """Wherever it is put in: the items around it are not told as changed."""
    assert len(list(differences([*start, *end], [*start, item, *end]))) == 1
    assert len(list(differences([*start, item, *end], [*start, *end]))) == 1


def deployment(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a live Deployment, with a spec of one's own."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "1"},
        "spec": {"replicas": 1, "image": "one"} | changes,
    }


def secret(**fields: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a Secret."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "type": "Opaque"} | fields


def test_a_changed_field_is_told_with_both_values() -> None:
    """As JSON, under its pointer."""
    told = field_changes(deployment(), deployment(replicas=2, paused=True))
    assert told == (
        (
            FieldChange(pointer="/spec/paused", after="true"),
            FieldChange(pointer="/spec/replicas", before="1", after="2"),
        ),
        0,
    )


@pytest.mark.parametrize(
    "noise",
    [
        {"resourceVersion": "2"},
        {"generation": 7},
        {"managedFields": [{"manager": "fairlead"}]},
        {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        {"annotations": {}},
    ],
)
def test_what_only_the_server_writes_is_no_change(noise: dict[str, Any]) -> None:
    """Versions, managers, and the copy that kubectl keeps of a manifest; nor is a status."""
    live, wanted = deployment(), deployment()
    wanted["metadata"] |= noise
    wanted["status"] = {"replicas": 3}
    assert field_changes(live, wanted) == ((), 0)


def test_secret_values_are_never_told() -> None:
    """Neither values nor keys, also where an annotation repeats them; that they differ is."""
    live = secret(data={"password": "aHVudGVyMg=="})
    wanted = secret(data={"password": "c3dvcmRmaXNo", "more": "Zm8="})
    wanted["metadata"]["annotations"] = {"copy": "c3dvcmRmaXNo"}
    fields, left_out = field_changes(live, wanted)
    assert left_out == 0
    assert fields == (
        FieldChange(pointer="/data", masked=True),
        FieldChange(pointer="/metadata/annotations", masked=True),
    )
    assert field_changes(live, secret(data={"password": "aHVudGVyMg=="})) == ((), 0)
    assert field_changes(secret(), secret(data={})) == ((), 0)


def test_what_is_told_is_bounded() -> None:
    """In the number of fields, in their values and in their names; and what is left out is counted."""
    wanted = deployment(**{f"field{number:04d}": number for number in range(100)}, image="x" * 10_000)
    wanted["spec"]["k" * 600] = 1
    fields, left_out = field_changes(deployment(), wanted)
    assert (len(fields), left_out) == (MAX_FIELDS, 102 - MAX_FIELDS)
    cut = field_changes(deployment(), deployment(image="x" * 10_000))[0][0].after
    assert cut is not None
    assert (len(cut), cut[-1]) == (MAX_VALUE_CHARACTERS, "…")
    assert field_changes(deployment(), deployment(**{"k" * MAX_POINTER_CHARACTERS: 1})) == ((), 1)


def test_pointers_are_escaped() -> None:
    """As RFC 6901 has it: `~` first, else the one for `/` would be escaped again."""
    assert pointer_of(("metadata", "labels", "app.kubernetes.io/name~1", 0)) == (
        "/metadata/labels/app.kubernetes.io~1name~01/0"
    )
    assert pointer_of(()) == ""


def test_ignored_fields_are_compared_nowhere() -> None:
    """Nor in a Secret, whose other values still are."""
    assert field_changes(deployment(), deployment(replicas=2), [("spec", "replicas")]) == ((), 0)
    one, other = secret(data={"a": "MQ==", "b": "MQ=="}), secret(data={"a": "Mg==", "b": "MQ=="})
    assert field_changes(one, other, [("data", "a")]) == ((), 0)
    assert field_changes(one, other, [("data", "b")])[0] == (FieldChange(pointer="/data", masked=True),)
