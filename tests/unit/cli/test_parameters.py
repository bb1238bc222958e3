"""Arguments: converted, or refused as a mistake in what was typed."""

import click
import pytest

from fairlead_cli.parameters import (
    DEPLOYMENT,
    JOB,
    AddressType,
    DurationType,
    EnvironmentAddress,
    LifeType,
    NameType,
    Output,
    OutputType,
)
from fairlead_cli.terminal import Format
from tests.unit.cli.scripted_relay import DEPLOYMENT_ID


def test_addresses() -> None:
    """Application and environment, each a valid name: both stand in a URL."""
    assert AddressType().convert("shop/staging", None, None) == EnvironmentAddress("shop", "staging")
    assert str(AddressType().convert(EnvironmentAddress("a", "b"), None, None)) == "a/b"
    for wrong in ("shop", "Shop/x", "shop/../x", "shop/", "a/b/c", "a/b?x"):
        with pytest.raises(click.BadParameter):
            AddressType().convert(wrong, None, None)


def test_names_and_ids() -> None:
    """The rule is in the error."""
    assert NameType("cluster").convert("prod-1", None, None) == "prod-1"
    with pytest.raises(click.BadParameter, match="cluster 'Prod' is not valid: 1-63 characters"):
        NameType("cluster").convert("Prod", None, None)
    assert DEPLOYMENT.convert(DEPLOYMENT_ID, None, None) == DEPLOYMENT_ID
    with pytest.raises(click.BadParameter, match="fairlead deployments list"):
        DEPLOYMENT.convert("../x", None, None)
    assert JOB.convert(DEPLOYMENT_ID, None, None) == DEPLOYMENT_ID
    with pytest.raises(click.BadParameter, match="fairlead jobs list"):
        JOB.convert("../x", None, None)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("24h", 86_400)])
def test_durations(text: str, seconds: float) -> None:
    """With a unit, or in seconds."""
    assert DurationType().convert(text, None, None) == seconds
    assert DurationType().convert(seconds * 1.0, None, None) == seconds


@pytest.mark.parametrize("text", ["", "5 minutes", "-1", "0", "0.5s", "25h", "1e3", "m"])
def test_what_is_no_duration(text: str) -> None:
    """Nobody waits for nothing, or for ever."""
    with pytest.raises(click.BadParameter, match="must be a duration"):
        DurationType().convert(text, None, None)


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60.0), ("12h", 43_200.0), ("90d", 7_776_000.0), ("never", None)])
def test_lives(text: str, seconds: float | None) -> None:
    """With a unit, or without an end."""
    assert LifeType().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "90", "1s", "11000d", "soon", "1.5h"])
def test_what_is_no_life(text: str) -> None:
    """A number without a unit is too easily meant otherwise."""
    with pytest.raises(click.BadParameter, match="must be a length of time"):
        LifeType().convert(text, None, None)


def test_forms_of_output() -> None:
    """A template is read before anything is asked of the relay."""
    assert OutputType().convert("wide", None, None) == Output(Format.WIDE)
    template = OutputType().convert("jsonpath={.items[*].name}", None, None).template
    assert template is not None
    assert template.render({"items": [{"name": "x"}]}) == "x"
    for wrong, said in (("xml", "is none of table, wide"), ("jsonpath", "is none of"), ("jsonpath={.a", "not closed")):
        with pytest.raises(click.BadParameter, match=said):
            OutputType().convert(wrong, None, None)
    context = click.Context(click.Command("x"))
    parameter = click.Option(["-o"])
    assert [item.value for item in OutputType().shell_complete(context, parameter, "j")] == ["json", "jsonpath="]
