"""Findings of the doctors: a line for people, fields for programs."""

from fairlead_shared.findings import Finding


def test_a_finding_is_one_line_with_what_to_do_below() -> None:
    """The remedy only where there is one."""
    assert Finding("database", passed=True, found="as seen").line == "ok   database       as seen"
    wrong = Finding("database", passed=False, found="as seen", remedy="do this")
    assert wrong.line == "FAIL database       as seen\n                    → do this"


def test_programs_choose_what_the_subject_is_called() -> None:
    """The agent's doctor walks hops."""
    finding = Finding("TLS", passed=True, found="as seen")
    assert finding.as_fields("hop") == {"hop": "TLS", "passed": True, "found": "as seen", "remedy": ""}
    assert finding.as_fields()["subject"] == "TLS"
