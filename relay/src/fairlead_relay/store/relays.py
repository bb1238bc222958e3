"""
The relays that share a store: each counts on while it lives, so that the others notice when it died for good.

A count is compared with what it was before, never with a time: the clocks of relays may differ. A relay of the version
before counts nothing, and nobody calls it dead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, bindparam, delete, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite

from fairlead_relay.store.jobs import Job, Transition
from fairlead_relay.store.schema import agents, jobs, relays
from fairlead_shared.jobs import JobEvent

_FIRST: Final = {"id": bindparam("of_relay"), "beat": 1}
_NEXT: Final = {"beat": relays.c.beat + 1}
# The same words in two dialects of SQLAlchemy: one construct for both does not exist.
_BEAT: Final = {
    "sqlite": sqlite.insert(relays).values(_FIRST).on_conflict_do_update(index_elements=["id"], set_=_NEXT),
    "postgresql": postgresql.insert(relays).values(_FIRST).on_conflict_do_update(index_elements=["id"], set_=_NEXT),
}
_OTHERS: Final = select(relays.c.id, relays.c.beat).where(relays.c.id != bindparam("of_relay"))


def beat(connection: Connection, relay_id: str) -> dict[str, int]:
    """Count on for a relay. Returns: The counts of the others."""
    connection.execute(_BEAT[connection.dialect.name], {"of_relay": relay_id})
    return {row.id: row.beat for row in connection.execute(_OTHERS, {"of_relay": relay_id})}


_LEAVE: Final = delete(relays).where(
    relays.c.id == bindparam("of_relay"), ~exists().where(agents.c.relay_id == bindparam("of_relay"))
)


def leave(connection: Connection, relay_id: str) -> None:
    """Say that a relay stopped, so that nobody waits for it; one that left a session behind is still to be buried."""
    connection.execute(_LEAVE, {"of_relay": relay_id})


_FORGET: Final = delete(relays).where(relays.c.id == bindparam("of_relay"), relays.c.beat == bindparam("of_beat"))
_CLOSE: Final = update(agents).where(agents.c.relay_id == bindparam("of_relay")).values(session_id=None, relay_id=None)
_LOSE: Final = Transition(
    JobEvent.LOSE,
    jobs.c.holder.in_(select(agents.c.session_id).where(agents.c.relay_id == bindparam("of_relay"))),
    reason="its agent's relay is gone",
)


def bury(connection: Connection, silent: Mapping[str, int], now: float) -> list[Job]:
    """
    Close the sessions of relays that count no more; one that still lives finds that out in its next sweep.

    Args:
        connection: In a write.
        silent: Relay → its count, which must still be that.
        now: Seconds since the epoch.
    Returns: The jobs that these sessions held, now unreachable.
    """
    lost: list[Job] = []
    for relay_id, count in silent.items():
        if connection.execute(_FORGET, {"of_relay": relay_id, "of_beat": count}).rowcount == 1:
            lost += _LOSE.apply(connection, now, of_relay=relay_id)
            connection.execute(_CLOSE, {"of_relay": relay_id})
    return lost
