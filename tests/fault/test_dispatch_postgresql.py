"""
The machine of tests/property/test_dispatch_machine.py on a real PostgreSQL, where two relays write in turn by a lock.

On SQLite the relays share a file whose lock orders their writes; here that is the writer's advisory lock, and each read
is a snapshot of the server's. A few examples in `make test`, more in `make fault`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from fairlead_relay.store.engines import parse_url, writer_engine
from fairlead_relay.store.migrate import migrate
from tests.conformance.postgresql import PostgresqlServer, running_postgresql
from tests.fault.scale import scaled
from tests.property.test_dispatch_machine import DispatchMachine

EXAMPLES = scaled(3, 30)
STEPS = 40


def machine_on(server: PostgresqlServer, template: str) -> type[DispatchMachine]:
    """
    Return the machine with a database of its own for each example.

    Args:
        server: Makes them.
        template: URL of a database with the schema, to copy.
    """

    class PostgresqlMachine(DispatchMachine):
        """See the module."""

        def __init__(self) -> None:
            super().__init__()
            self._url = server.make_database(template=template)

        def database_url(self) -> str:
            """Return the URL of this example's database."""
            return self._url

        def teardown(self) -> None:
            """Let everything come to its end, then drop the database."""
            try:
                super().teardown()
            finally:
                server.drop_database(self._url)

    return PostgresqlMachine


@pytest.fixture
def server() -> Iterator[PostgresqlServer]:
    """Run a server."""
    with running_postgresql() as running:
        yield running


@pytest.mark.timeout(1200)
def test_dispatch_in_any_order_on_postgresql(server: PostgresqlServer) -> None:
    """Whatever the machine checks holds here, too."""
    template = server.make_database()
    engine = writer_engine(parse_url(template))
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()
    limits = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(machine_on(server, template), settings=limits)
