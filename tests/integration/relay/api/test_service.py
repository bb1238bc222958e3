"""Probes and version of the real API; whoami is tried with access."""

from fairlead_relay import __version__
from fairlead_shared.frames import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION
from tests.integration.relay_process import RelayProcess


def test_probes_answer_and_leave_no_line_in_the_log(relay: RelayProcess) -> None:
    """They come every few seconds and have nothing to tell."""
    client = relay.client()
    for path in ("/healthz", "/readyz"):
        assert client.ask("GET", path) == {"status": "ok"}
        assert path not in relay.log.read_text()


def test_the_version_tells_what_agents_may_speak(relay: RelayProcess) -> None:
    """A client can tell whether it fits before it sends anything."""
    shown = relay.client().ask("GET", "/v1/version")
    spoken = [OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION]
    assert shown == {"relay_version": __version__, "api_version": "v1", "protocol_versions": spoken}
