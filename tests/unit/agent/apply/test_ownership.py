"""Ownership: how the fields of an object change hands, and that nobody else's do."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fairlead_agent.apply.makers import Maker
from fairlead_agent.apply.ownership import joined, renewed, taken_over

Fields = dict[str, Any]
FIELDS: st.SearchStrategy[Fields] = st.recursive(
    st.just({}), lambda inner: st.dictionaries(st.sampled_from(["f:a", "f:b", "f:c"]), inner, max_size=3), max_leaves=8
)


def paths(fields: Fields, at: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Return the members of a set of fields, as paths."""
    if not fields:
        return {at}
    found: set[tuple[str, ...]] = set()
    for name, inner in fields.items():
        found |= {at} if name == "." else paths(inner, (*at, name))
    return found


@given(FIELDS, FIELDS)
def test_the_union_has_the_members_of_both_and_no_others(first: Fields, second: Fields) -> None:
    """A field beside fields below it, too; in either order."""
    for union in (joined(first, second), joined(second, first)):
        assert paths(union) == paths(first) | paths(second)


def entry(manager: str, operation: str, fields: Fields, **more: str) -> dict[str, Any]:
    """Return an entry of managedFields."""
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields, **more}


def test_the_makers_entries_become_one_of_ours() -> None:
    """Whichever way the maker wrote; others keep theirs, and so does whoever writes the status."""
    operator = entry("operator", "Update", {"f:data": {"f:x": {}}})
    status = entry("kubectl-edit", "Update", {"f:status": {}}, subresource="status")
    live = {
        "metadata": {
            "managedFields": [
                entry("kubectl-client-side-apply", "Update", {"f:data": {"f:a": {}}}),
                operator,
                entry("kubectl", "Apply", {"f:data": {"f:b": {}}}),
                status,
            ]
        }
    }
    ours = entry("fairlead", "Apply", {"f:data": {"f:a": {}, "f:b": {}}})
    assert taken_over(live, Maker.KUBECTL) == [operator, status, ours]


def test_taking_over_twice_is_once() -> None:
    """A killed attempt may have moved the fields before it could apply."""
    live = {"metadata": {"managedFields": [entry("helm", "Update", {"f:data": {"f:a": {}}})]}}
    once = taken_over(live, Maker.HELM)
    assert taken_over({"metadata": {"managedFields": once}}, Maker.HELM) == once


def test_a_version_that_is_gone_is_named_no_more() -> None:
    """Every manager keeps its fields; two entries of one that name one version now become one."""
    gone = {"apiVersion": "example.com/v1beta1"}
    live = {
        "metadata": {
            "managedFields": [
                entry("fairlead", "Apply", {"f:spec": {"f:a": {}}}, **gone),
                entry("operator", "Update", {"f:spec": {"f:b": {}}}, **gone),
                entry("operator", "Update", {"f:spec": {"f:c": {}}}, apiVersion="example.com/v1"),
                entry("operator", "Update", {"f:status": {}}, subresource="status", **gone),
            ]
        }
    }
    now = {"apiVersion": "example.com/v1"}
    assert renewed(live, "example.com/v1beta1", "example.com/v1") == [
        entry("fairlead", "Apply", {"f:spec": {"f:a": {}}}, **now),
        entry("operator", "Update", {"f:spec": {"f:b": {}, "f:c": {}}}, **now),
        entry("operator", "Update", {"f:status": {}}, subresource="status", **now),
    ]
