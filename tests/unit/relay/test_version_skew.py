"""The window of versions: the relay's own minor release and the one before."""

import pytest

from fairlead_relay.version_skew import Skew, skew_of


@pytest.mark.parametrize(
    ("agent", "relay", "skew"),
    [
        ("1.4.2", "1.4.2", Skew.SAME),
        ("1.4.1", "1.4.2", Skew.OLDER),
        ("1.3.9", "1.4.0", Skew.OLDER),
        ("1.2.9", "1.4.0", Skew.TOO_OLD),
        ("1.10.0", "1.9.3", Skew.NEWER),
        ("1.4.3", "1.4.2", Skew.NEWER),
        ("2.0.0", "1.9.0", Skew.NEWER),
        ("1.9.0", "2.0.0", Skew.OLDER),
        ("1.9.0", "2.1.0", Skew.TOO_OLD),
        ("0.9.0", "2.0.0", Skew.TOO_OLD),
        ("1.4.0rc1", "1.4.0", Skew.OLDER),
        ("1.4.0", "1.4.0rc1", Skew.NEWER),
        ("", "1.4.0", Skew.UNKNOWN),
        ("main", "1.4.0", Skew.UNKNOWN),
        ("9" * 50 + ".1.1", "1.4.0", Skew.UNKNOWN),
    ],
)
def test_skew(agent: str, relay: str, skew: Skew) -> None:
    """Relays are upgraded first, so an agent may be behind by one minor release and never ahead."""
    assert skew_of(agent, relay) is skew
