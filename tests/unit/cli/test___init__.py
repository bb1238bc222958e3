"""The package itself: its version, found only when asked for."""

from importlib.metadata import version

import pytest

import fairlead_cli


def test_version_is_the_distributions() -> None:
    """`fairlead --version` and the API's user agent show it."""
    assert fairlead_cli.__version__ == version("fairlead")


def test_other_names_are_unknown() -> None:
    """A typing mistake must not turn into a version."""
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        _ = fairlead_cli.nope
