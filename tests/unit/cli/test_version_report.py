"""What `version` prints for programs."""

from fairlead_cli.version_report import VersionReport


def test_without_a_relay_its_fields_are_empty() -> None:
    """The command alone has a version."""
    assert VersionReport(fairlead="1.2.3").model_dump() == {
        "fairlead": "1.2.3",
        "server": None,
        "relay": None,
        "api": None,
    }
