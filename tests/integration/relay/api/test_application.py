"""The API as a whole: what it publishes of itself."""

import ssl

from fairlead_relay.api.application import AREAS
from tests.integration.relay_process import RelayProcess
from tests.polling import PATIENCE_SECONDS


def test_the_openapi_document_is_published_and_names_every_area(relay: RelayProcess) -> None:
    """Clients and the UI are generated from it; it needs no token, as it holds no secret."""
    document = relay.client().ask("GET", "/v1/openapi.json")
    assert document["openapi"].startswith("3.1")
    tags = {tag for item in document["paths"].values() for route in item.values() for tag in route["tags"]}
    assert tags == set(AREAS)


def test_no_page_loads_scripts_from_elsewhere(relay: RelayProcess) -> None:
    """The framework's interactive pages would."""
    assert relay.client().get("/docs").status_code == relay.client().get("/redoc").status_code == 404


def test_the_api_port_speaks_tls_1_3_with_a_certificate_of_the_relays_authority(relay: RelayProcess) -> None:
    """Clients verify it with the root that `ca show` prints."""
    import socket

    context = ssl.create_default_context(cafile=str(relay.ca_file))
    with (
        socket.create_connection(("127.0.0.1", relay.api_port), timeout=PATIENCE_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        assert secured.version() == "TLSv1.3"
