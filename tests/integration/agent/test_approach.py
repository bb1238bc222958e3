"""Which transport is tried after what happened to the channels before, against the real gateway."""

import random
import time

import pytest

from fairlead_agent.approach import Approach
from fairlead_agent.conversation import conversation
from fairlead_agent.dialling import Dialler
from fairlead_agent.errors import ConnectFailed
from fairlead_agent.identity_store import client_context
from fairlead_agent.transport_choice import EARLY_CLOSES, Transport, TransportChoice
from fairlead_shared.frames import CaAnswer, CaRequest
from tests.integration.agent_under_test import Only
from tests.integration.relay_process import RelayProcess
from tests.integration.scripted_relay import ThrowawayCa


def approach_to(url: str, choice: TransportChoice | None = None) -> Approach:
    """Return an approach without a proxy."""
    return Approach(Dialler(url), choice or TransportChoice(random.random), time.monotonic)


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_question_is_answered_over_each_transport(relay: RelayProcess, transport: Transport) -> None:
    """Without a certificate, and the channel says what it is."""
    approach = approach_to(relay.agent_url, Only(transport))
    context = client_context(relay.ca_file.read_text(), None)
    channel = await approach.open(context)
    assert channel.transport == transport
    assert (approach.seconds_left(channel) is None) == (transport is Transport.WEBSOCKET)
    await channel.close()
    async with conversation(approach, context) as asked:
        assert (await asked.ask(CaRequest(), CaAnswer)).root_pem == relay.ca_file.read_text()


async def test_channels_that_come_to_nothing_lead_to_the_other_transport_and_back(relay: RelayProcess) -> None:
    """Sessions and questions are counted together; a busy relay or an unreachable one is not the network's doing."""
    approach = approach_to(relay.agent_url)
    context = client_context(relay.ca_file.read_text(), None)
    for _ in range(EARLY_CLOSES):
        channel = await approach.open(context)
        assert channel.transport == "websocket"
        approach.came_to_nothing(channel)
        await channel.close()
    channel = await approach.open(context)
    assert channel.transport == "long-poll"
    approach.ended(channel, 1.0, was_cut=True)
    await channel.close()
    channel = await approach.open(context)
    assert channel.transport == "websocket"
    await channel.close()


async def test_what_fails_below_the_upgrade_does_not_change_the_transport() -> None:
    """Nobody listens: that is no reason to poll."""
    approach = approach_to("wss://127.0.0.1:1")
    context = client_context(ThrowawayCa().root_pem, None)
    for _ in range(EARLY_CLOSES + 1):
        with pytest.raises(ConnectFailed) as failed:
            await approach.open(context)
        assert failed.value.hop == "TCP"
    assert approach.choice.next(time.monotonic()) is Transport.WEBSOCKET
