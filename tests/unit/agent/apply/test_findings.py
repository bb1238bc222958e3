"""Errors of the API server in the words of a finding."""

from fairlead_agent.apply.findings import Finding, findings_of, folded
from fairlead_agent.errors import FieldCause, FieldConflict, InvalidObject, MissingRight, NotFound, Unexpected
from fairlead_shared.errors import ErrorCode
from fairlead_shared.objects import ObjectRef

REF = ObjectRef(api_version="v1", kind="ConfigMap", namespace="shop", name="a")


def test_each_blamed_field_is_a_finding() -> None:
    """A reader wants to see all of them, each at its place."""
    causes = [FieldCause("spec.a", "bad"), FieldCause("spec.b", "worse")]
    found = list(findings_of(InvalidObject("is invalid", causes), REF))
    assert [(one.field, one.message) for one in found] == [("spec.a", "bad"), ("spec.b", "worse")]
    conflict = FieldConflict([FieldCause("data.x", 'conflict with "editor"')], ["editor"])
    assert [one.field for one in findings_of(conflict, REF)] == ["data.x"]


def test_missing_right_brings_its_rule() -> None:
    """The remedy can be pasted into a Role."""
    found = next(findings_of(MissingRight("patch", "", "configmaps", "shop"), REF))
    assert found.remedy.endswith('verbs: ["patch"]\n')


def test_not_found_of_a_write_blames_the_namespace() -> None:
    """The object cannot be what is missing: it was about to be made."""
    assert next(findings_of(NotFound("a"), REF, fresh=True)).message == "namespace shop does not exist"
    assert next(findings_of(NotFound("a"), REF)).message == "a not found"


def test_unknown_answer_is_reported_as_it_is() -> None:
    """Nothing is swallowed."""
    assert next(findings_of(Unexpected(418, "teapot"), REF)).message == "the API server answered 418: teapot"


def test_right_missing_for_many_objects_is_reported_once() -> None:
    """Four thousand lines that say the same help nobody; other findings keep their places."""
    missing = Finding(ErrorCode.FORBIDDEN, "may not", REF, remedy="rule")
    other = Finding(ErrorCode.INVALID_OBJECT, "bad", REF)
    kept = folded([missing, other, missing, other, missing])
    assert [one.message for one in kept] == ["may not (3 objects need it)", "bad", "bad"]
    assert folded([missing])[0].message == "may not"


def test_same_finding_has_the_same_key_in_a_later_attempt() -> None:
    """The relay drops what it knows; another message is another fact."""
    finding = Finding(ErrorCode.INVALID_OBJECT, "bad", REF, field="spec.a")
    assert finding.event(1.0).key == finding.event(2.0).key
    assert finding.event(1.0).key != Finding(ErrorCode.INVALID_OBJECT, "worse", REF, field="spec.a").event(1.0).key


def test_long_texts_are_cut_to_what_an_event_may_hold() -> None:
    """A server's message of any length must not make the report fail."""
    event = Finding(ErrorCode.INVALID_OBJECT, "x" * 10_000, REF, field="y" * 1000, remedy="z" * 10_000).event(1.0)
    assert (len(event.message), len(event.field)) == (4000, 512)


def test_sentence_names_the_object_if_there_is_one() -> None:
    """It becomes the cause of the whole job."""
    assert Finding(ErrorCode.INVALID_OBJECT, "bad", REF).sentence == "ConfigMap shop/a: bad"
    assert Finding(ErrorCode.INVALID_OBJECT, "bad").sentence == "bad"
