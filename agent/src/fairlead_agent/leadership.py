"""
Leadership: which replica of an agent works, by a Kubernetes Lease in the agent's own namespace.

Exactly one replica leads; only then does it enrol, connect and write. The others ask once a second. Times of one term,
counted from the start of the last renewal that succeeded:

    0 s    2 s       5 s                         10 s
    |------|---------|---------------------------|
    renew  renew …   gate shuts: no write begins  another replica may take over
                     |<- writes under way end ->|

A leader that could not renew waits at the gate with its writes. If it can renew then, at the very version of the Lease
that it wrote last, nobody led in between and it goes on; if not, its term is over. A follower never compares clocks: it
takes over when it has seen no renewal for a whole lease on its own clock.

Safety rests on three things: a write begins only at an open gate; it is bounded by what is left of the lease, on this
side and by the API server itself; and whatever is late all the same is refused, because it carries the version or UID
that it read. What remains is told in docs/decisions/0011-leadership.md.

Source: k8s.io/client-go/tools/leaderelection, which this follows except for the pause at the gate.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fairlead_agent.errors import (
    AlreadyExists,
    Conflict,
    KubeError,
    LeadershipLost,
    NotFound,
    SettingsInvalid,
)
from fairlead_agent.kube.client import KubeClient
from fairlead_agent.kube.resources import LEASES
from fairlead_agent.logs import Logger
from fairlead_agent.settings import variable_of

LEASE_NAME: Final = "fairlead-agent"
LEASE_SECONDS: Final = 10
"""How long a follower must see no renewal before it takes over: with the time to see the last one, 11 s at most."""
RENEW_SECONDS: Final = 2.0
"""Pause between renewals: two may fail before the gate shuts."""
GATE_SECONDS: Final = 5.0
"""No write begins so long after the last renewal. Half of the lease is left for the writes under way."""
TRANSIT_SECONDS: Final = 2.0
"""How long a write may be on its way to the API server: the kernel gives up unacknowledged bytes after it."""
SAFETY_SECONDS: Final = 0.5
"""For clocks that do not run at one speed, and for the API server to end what it bounded."""
REQUEST_SECONDS: Final = 2.0
"""Time limit of a request for the Lease."""
RETRY_SECONDS: Final = 0.5
"""Pause after a renewal that failed."""
FOLLOW_SECONDS: Final = 1.0
"""Pause between looks at a Lease that another replica holds; a released one is found within it."""

Monotonic = Callable[[], float]


def boot_clock() -> float:
    """Return seconds that go on while the machine sleeps, as the Lease does; time.monotonic stops."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ReplicaName:
    """
    Name of this replica in the Lease, and the proof that no other process has it.

    It lives as long as the spool: a container that starts again in its pod holds the Lease still, and need not wait
    for its own expiry. The kernel's lock on its file ends with the process and with nothing else.

    Args:
        spool_dir: Made when it is missing.
        replica: Readable part, the pod's name.
    Raises: SettingsInvalid: another agent process uses the spool. OSError: it cannot be used.
    """

    def __init__(self, spool_dir: Path, replica: str) -> None:
        spool_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._file = os.open(spool_dir / "replica", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            reason = f"{spool_dir} is in use by another agent process: give each a directory of its own"
            raise SettingsInvalid("spool_dir", variable_of("spool_dir"), reason) from None
        known = os.pread(self._file, 64, 0).decode("ascii", "replace")
        if len(known) != _SUFFIX_LENGTH or not known.isalnum():
            known = secrets.token_hex(_SUFFIX_LENGTH // 2)
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, known.encode(), 0)
            os.fsync(self._file)
        self._name = f"{replica}_{known}"

    def __str__(self) -> str:
        return self._name

    def close(self) -> None:
        """Let another process have it."""
        os.close(self._file)


_SUFFIX_LENGTH = 12


class Term:
    """
    One stretch of leadership, from its begin to its loss or release. Is a kube.gate.WriteGate.

    Args:
        client: Without a gate; its requests are for the Lease alone.
        lease: The Lease as this replica wrote it.
        began: When that write began, by `clock`.
        continues: Whether this very replica held the Lease before, so that nobody wrote since.
        clock: Seconds that only grow.
        logger: Bound to nothing yet.
    """

    def __init__(
        self,
        client: KubeClient,
        lease: Mapping[str, Any],
        began: float,
        *,
        continues: bool,
        clock: Monotonic,
        logger: Logger,
    ) -> None:
        self.continues = continues
        self.is_over = False
        """Whether it was lost or released: nothing passes its gate any more."""
        self._client = client
        self._lease = lease
        self._renewed = began
        self._clock = clock
        self._logger = logger
        self._news = asyncio.Event()

    @property
    def name(self) -> str:
        """Holder and number of the term, the same for no two terms of different replicas."""
        return f"{self._lease['spec']['holderIdentity']}/{self._lease['spec']['leaseTransitions']}"

    def seconds_left(self) -> float:
        """Return how long a write that begins now may take; 0 or less: none may begin."""
        age = self._clock() - self._renewed
        if self.is_over or age >= GATE_SECONDS:
            return 0.0
        return LEASE_SECONDS - TRANSIT_SECONDS - SAFETY_SECONDS - age

    async def opened(self) -> None:
        """Return once writes may begin. Raises: LeadershipLost: the term is over."""
        while self.seconds_left() <= 0:
            if self.is_over:
                raise LeadershipLost
            await self._news.wait()

    async def hold(self) -> None:
        """Renew until the term is lost, and return then."""
        pause = RENEW_SECONDS
        while not self.is_over:
            await asyncio.sleep(pause)
            began = self._clock()
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    lease = await self._client.update(LEASES, _renewed(self._lease))
            except (Conflict, NotFound):
                pause = 0.0 if await self._is_still_ours() else RETRY_SECONDS
            except (KubeError, TimeoutError) as error:
                pause = RETRY_SECONDS
                reason = str(error) or "no answer in time"
                self._logger.warning("lease.not_renewed", error=reason, gate_open=self.seconds_left() > 0)
            else:
                pause = RENEW_SECONDS
                self._lease, self._renewed = lease, began
                self._tell()

    async def release(self) -> None:
        """End the term; the next replica need not wait. Only after the last write has ended."""
        if self.is_over:
            return
        self._end()
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                try:
                    await self._client.update(LEASES, _released(self._lease))
                except Conflict:  # a renewal was under way when it was stopped
                    live = await self._client.get(LEASES, self._lease["metadata"]["namespace"], LEASE_NAME)
                    if _term_of(live) == _term_of(self._lease):
                        await self._client.update(LEASES, _released(live))
        except (KubeError, TimeoutError) as error:
            self._logger.warning("lease.not_released", error=str(error) or "no answer in time")
        else:
            self._logger.info("lease.released")

    async def _is_still_ours(self) -> bool:
        """After a conflict: whether only an unanswered renewal of ours, or nobody's change, came between."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                live = await self._client.find(LEASES, self._lease["metadata"]["namespace"], LEASE_NAME)
        except (KubeError, TimeoutError) as error:
            self._logger.warning("lease.not_read", error=str(error) or "no answer in time")
            return False
        if live is not None and _term_of(live) == _term_of(self._lease):
            self._lease = live
            return True
        holder = "" if live is None else _term_of(live)[0]
        self._logger.warning("lease.lost", holder=holder)
        self._end()
        return False

    def _end(self) -> None:
        self.is_over = True
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


@dataclass(slots=True)
class _Seen:
    """A Lease of another replica, and since when it has not changed."""

    spec: Mapping[str, Any]
    since: float


class Leadership:
    """
    Gets terms for this replica.

    Args:
        client: Without a gate and without patience.
        namespace: The agent's own.
        replica: This replica's name in the Lease; no other process may have it.
        logger: Bound to nothing yet.
        clock: Seconds that only grow, also while the machine sleeps.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        replica: str,
        logger: Logger,
        clock: Monotonic = boot_clock,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._replica = replica
        self._logger = logger
        self._clock = clock
        self._seen: _Seen | None = None
        self.leader = ""
        """The other replica that leads; empty if none does, or the API server is away."""
        self.state = "asking for the lease"
        """One phrase for people."""

    async def acquire(self) -> Term:
        """
        Return once this replica leads.

        Raises: KubeError: the API server says no for good: a right is missing.
        """
        while True:
            try:
                async with asyncio.timeout(2 * REQUEST_SECONDS):
                    term = await self._try()
            except (Conflict, AlreadyExists, NotFound):
                term = None
            except (KubeError, TimeoutError) as error:
                if isinstance(error, KubeError) and not error.temporary:
                    raise
                self.leader, self.state, term = "", str(error) or "the API server does not answer in time", None
                self._logger.warning("kube.unreachable", error=self.state)
            if term is not None:
                self.leader, self.state, self._seen = "", "leading", None
                self._logger.info("lease.held", term=term.name, continues=term.continues)
                return term
            await asyncio.sleep(self._pause())

    async def _try(self) -> Term | None:
        """Take the Lease if it may be taken."""
        live = await self._client.find(LEASES, self._namespace, LEASE_NAME)
        began = self._clock()
        if live is None:
            metadata = {"name": LEASE_NAME, "namespace": self._namespace}
            lease = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata}
            made = await self._client.create(LEASES, {**lease, "spec": self._spec(1)})
            return self._term(made, began, continues=False)
        holder, transitions = _term_of(live)
        if holder not in {"", self._replica} and not self._has_expired(live["spec"]):
            if self.leader != holder:
                self._logger.info("lease.followed", leader=holder)
            self.leader, self.state = holder, f"standing by: {holder} leads"
            return None
        continues = holder == self._replica
        spec = self._spec(transitions + (not continues))
        taken = await self._client.update(LEASES, {**live, "spec": spec})
        return self._term(taken, began, continues=continues)

    def _has_expired(self, spec: Mapping[str, Any]) -> bool:
        """Whether the holder has not renewed for a whole lease, as seen from here."""
        now = self._clock()
        if self._seen is None or self._seen.spec != spec:
            self._seen = _Seen(spec, now)
        return now >= self._seen.since + _lease_seconds(spec)

    def _pause(self) -> float:
        pause = FOLLOW_SECONDS * (0.8 + 0.2 * random.random())  # noqa: S311  (spreads followers; nothing secret)
        if self._seen is None:
            return pause
        expires = self._seen.since + _lease_seconds(self._seen.spec)
        return max(0.05, min(pause, expires - self._clock()))

    def _spec(self, transitions: int) -> dict[str, Any]:
        return {
            "holderIdentity": self._replica,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": _now(),
            "renewTime": _now(),
            "leaseTransitions": transitions,
        }

    def _term(self, lease: Mapping[str, Any], began: float, *, continues: bool) -> Term:
        return Term(self._client, lease, began, continues=continues, clock=self._clock, logger=self._logger)


def _renewed(lease: Mapping[str, Any]) -> dict[str, Any]:
    return {**lease, "spec": {**lease["spec"], "renewTime": _now()}}


def _released(lease: Mapping[str, Any]) -> dict[str, Any]:
    spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": _now()}
    return {**lease, "spec": spec}


def _term_of(lease: Mapping[str, Any]) -> tuple[str, int]:
    """Return holder and number of transitions."""
    spec = lease.get("spec") or {}
    return str(spec.get("holderIdentity") or ""), int(spec.get("leaseTransitions") or 0)


def _lease_seconds(spec: Mapping[str, Any]) -> float:
    """Return how long to wait for a holder: what it wrote itself, within bounds; another version may differ."""
    return float(min(max(int(spec.get("leaseDurationSeconds") or 0), LEASE_SECONDS), 6 * LEASE_SECONDS))


def _now() -> str:
    """Return the time for people who read the Lease; nothing here compares it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
