"""Reports of drift: the newest of each environment, one under way, again on each connection until acknowledged."""

from typing import Any

import structlog

from fairlead_agent.drift.reports import IN_FLIGHT, DriftReports, fitted
from fairlead_agent.ports import EnvironmentKey
from fairlead_shared.drift import (
    MAX_DRIFT_MANAGERS,
    MAX_DRIFTED_FIELDS,
    MAX_DRIFTED_OBJECTS,
    MAX_OBJECT_BYTES,
    MAX_UNSEEN,
    DriftedObject,
    DriftMode,
    UnseenKind,
)
from fairlead_shared.frames import (
    MAX_FRAME_BYTES,
    DriftAck,
    DriftReport,
    Message,
    Welcome,
    decode_frame,
    encode_frame,
)
from fairlead_shared.progress import MAX_POINTER_CHARACTERS, MAX_VALUE_CHARACTERS

SHOP = EnvironmentKey("acme", "shop", "staging")
BANK = EnvironmentKey("acme", "bank", "staging")


class Relay:
    """What was sent, on one connection after the other."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now
        self.sent: list[DriftReport] = []
        self.reports = DriftReports(lambda: self.now, structlog.get_logger())

    def connect(self, store_epoch: str = "e") -> None:
        """Begin a connection."""
        self.sent.clear()
        numbers = {"version": 1, "heartbeat_seconds": 10, "reconnect_window_seconds": 1}
        names = {"session_id": "s", "relay_version": "0", "store_epoch": store_epoch}
        self.reports.opened(Welcome.model_validate(numbers | names), self.take)

    def take(self, message: Message) -> None:
        """Take what is sent."""
        assert isinstance(message, DriftReport)
        self.sent.append(message)

    def acknowledge(self, report: DriftReport) -> None:
        """Store a report."""
        self.reports.acknowledged(DriftAck(environment=report.environment, revision=report.revision))

    def told(self) -> list[tuple[str, int]]:
        """Return what was sent: application and total."""
        return [(report.environment[1], report.total) for report in self.sent]


def put(relay: Relay, environment: EnvironmentKey, total: int) -> None:
    """Report so many objects."""
    relay.reports.put(environment, {"mode": "report", "total": total})


def test_only_the_newest_waits_while_one_is_under_way() -> None:
    """What came between is never sent; environments do not wait for each other."""
    relay = Relay()
    relay.connect()
    for total in (1, 2, 3):
        put(relay, SHOP, total)
    put(relay, BANK, 9)
    assert relay.told() == [("shop", 1), ("bank", 9)]
    relay.acknowledge(relay.sent[0])
    assert relay.told()[2:] == [("shop", 3)]
    relay.acknowledge(relay.sent[2])
    assert len(relay.sent) == 3
    assert relay.reports.drifted_objects == 12


def test_what_was_not_acknowledged_goes_out_on_the_next_connection() -> None:
    """The newest of it, and nothing that the relay has; but all of it to a store that was restored."""
    relay = Relay()
    put(relay, SHOP, 1)
    relay.connect()
    put(relay, BANK, 1)
    relay.acknowledge(relay.sent[0])
    relay.reports.closed()
    put(relay, BANK, 2)
    relay.connect()
    assert relay.told() == [("bank", 2)]
    relay.acknowledge(relay.sent[0])
    relay.connect()
    assert relay.told() == []
    relay.connect(store_epoch="restored")
    assert sorted(relay.told()) == [("bank", 2), ("shop", 1)]


def test_an_ack_of_another_revision_settles_nothing() -> None:
    """Such as one that comes late, on another connection."""
    relay = Relay()
    relay.connect()
    put(relay, SHOP, 1)
    first = relay.sent[0]
    relay.connect()
    put(relay, SHOP, 2)
    relay.acknowledge(first.model_copy(update={"revision": first.revision + 99}))
    relay.acknowledge(first.model_copy(update={"environment": ("a", "b", "c")}))
    assert relay.told() == [("shop", 1)]
    relay.acknowledge(first)
    assert relay.told() == [("shop", 1), ("shop", 2)]


def test_the_same_again_is_not_sent() -> None:
    """However often it is looked at."""
    relay = Relay()
    relay.connect()
    put(relay, SHOP, 1)
    relay.now += 100
    put(relay, SHOP, 1)
    relay.acknowledge(relay.sent[0])
    assert relay.told() == [("shop", 1)]


def test_a_relay_that_does_not_know_the_message_is_told_no_more_on_that_connection() -> None:
    """It may be a newer one the next time."""
    relay = Relay()
    relay.connect()
    put(relay, SHOP, 1)
    relay.reports.not_understood("of_tomorrow")
    put(relay, BANK, 1)
    assert len(relay.sent) == 2
    relay.reports.not_understood("drift_report")
    put(relay, BANK, 2)
    put(relay, EnvironmentKey("acme", "third", "staging"), 1)
    assert len(relay.sent) == 2
    relay.connect()
    assert len(relay.sent) == 3


def test_revisions_grow_within_a_process_and_into_the_next() -> None:
    """Also when several are made within a millisecond, and when the clock is set back."""
    relay = Relay()
    relay.connect()
    revisions = []
    for total in range(3):
        put(relay, SHOP, total)
        relay.acknowledge(relay.sent[-1])
        revisions.append(relay.sent[-1].revision)
        relay.now -= total
    assert revisions == sorted(set(revisions))
    later = Relay(now=1001.0)
    later.connect()
    put(later, SHOP, 1)
    assert later.sent[0].revision > revisions[-1]


def test_a_thousand_environments_do_not_fill_the_connections_queue() -> None:
    """So many are under way, and each ack makes room for one."""
    relay = Relay()
    for number in range(1000):
        put(relay, EnvironmentKey("acme", f"app-{number}", "staging"), 1)
    relay.connect()
    assert len(relay.sent) == IN_FLIGHT
    for report in list(relay.sent)[:5]:
        relay.acknowledge(report)
    assert len(relay.sent) == IN_FLIGHT + 5
    while len(relay.sent) < 1000:
        relay.acknowledge(relay.sent[-IN_FLIGHT])
    assert len({report.environment for report in relay.sent}) == 1000


def drifted(number: int, wide: str, **changes: Any) -> DriftedObject:  # noqa: ANN401  (fields)
    """Return an object with as much to tell as there may be, in characters that take the most bytes."""
    change = {"pointer": "/" + wide * (MAX_POINTER_CHARACTERS - 1), "before": wide * MAX_VALUE_CHARACTERS}
    content = {
        "object": {"api_version": "g" * 253 + "/v1", "kind": "K" * 63, "namespace": "n" * 63, "name": "m" * 253},
        "drift": "changed", "status": "drifted", "since": number, "managers": [wide * 128] * MAX_DRIFT_MANAGERS,
        "fields": [{**change, "after": wide * MAX_VALUE_CHARACTERS}] * MAX_DRIFTED_FIELDS, "reason": wide * 1024,
    }  # fmt: skip
    return DriftedObject.model_validate(content | changes)


def test_the_largest_report_is_a_frame() -> None:
    """Whatever manifests and the API server's words hold, what does not fit is counted."""
    for wide in ("\x00", "\U0001f600", "x"):
        objects = fitted(drifted(number, wide) for number in range(MAX_DRIFTED_OBJECTS + 50))
        assert len(objects) == MAX_DRIFTED_OBJECTS
        assert all(len(one.model_dump_json().encode()) <= MAX_OBJECT_BYTES for one in objects)
        assert {len(one.fields) + one.fields_left_out for one in objects} == {MAX_DRIFTED_FIELDS}
        unseen = UnseenKind(group="g" * 253, resource="r" * 253, namespace="n" * 63, reason=wide * 1024)
        report = DriftReport(
            environment=("o" * 253,) * 3,
            revision=2**53,
            mode=DriftMode.CORRECT,
            at=1.5,
            objects=objects,
            total=150,
            unseen=(unseen,) * MAX_UNSEEN,
            reason=wide * 4096,
        )  # fmt: skip
        frame = encode_frame(report)
        assert len(frame) < MAX_FRAME_BYTES
        assert decode_frame(frame) == report


def test_what_fits_is_told_whole() -> None:
    """Nothing is cut without need."""
    one = drifted(1, "x", fields=[{"pointer": "/spec/replicas", "before": "1", "after": "3"}])
    assert fitted([one]) == (one,)
