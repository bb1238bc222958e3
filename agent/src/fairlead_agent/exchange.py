"""
Ports between the link, which moves messages, and those who have something to say: jobs, and drift.

Neither imports the other. Methods that are not `async` return at once: they are called between two reads of the socket.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from fairlead_shared.frames import DriftAck, HeartbeatJob, HelloJob, JobCancel, JobOffer, Message, Progress, Welcome


class Sink(Protocol):
    """Takes the bytes of a bundle in order, across reconnections."""

    @property
    def size(self) -> int:
        """Bytes written so far: where a broken transfer goes on."""

    def write(self, payload: bytes) -> None:
        """Append bytes."""


class Courier(Protocol):
    """What a job needs of the link. Messages given while there is no connection are dropped: a hello settles all."""

    def send(self, message: Message) -> None:
        """Queue a message for the relay."""

    def start_stream(self, job_id: str, acknowledged_seq: int) -> None:
        """Send the job's events from the next number on."""

    def end_stream(self, job_id: str) -> None:
        """Forget the job's stream; idempotent."""

    def events_ready(self, job_id: str, *, at_once: bool = False) -> None:
        """Say that the job has events which were not sent; `at_once`: that they shall wait for no others."""

    async def fetch(self, sha256: str, sink: Sink) -> None:
        """
        Fetch content by its hash into a sink, across as many connections as it takes; the caller sets the deadline.

        Raises: BundleUnavailable: the relay refused, or sent too few bytes.
        """


class StateDesk(Protocol):
    """What the link needs of whoever tells a state, as that of drift, of which only the newest counts."""

    def opened(self, welcome: Welcome, send: Callable[[Message], None]) -> None:
        """Take note of a new connection, and of how to send over it."""

    def closed(self) -> None:
        """Take note that there is none."""

    def acknowledged(self, ack: DriftAck) -> None:
        """Take note of what the relay has stored."""

    def not_understood(self, kind: str) -> None:
        """Take note that this relay does not know a kind of message."""


class JobDesk(Protocol):
    """What the link needs of the runner."""

    def hello_jobs(self) -> tuple[HelloJob, ...]:
        """Return every job this agent has, for the hello."""

    def settle(self, welcome: Welcome) -> None:
        """Take the relay's verdicts on the jobs of the hello. Answers still due on the last connection are void."""

    def take_offer(self, offer: JobOffer) -> None:
        """Consider an offer; the answer follows through the courier."""

    def cancel(self, order: JobCancel) -> None:
        """Stop a job; its result says how it ended."""

    def leases(self) -> tuple[HeartbeatJob, ...]:
        """Return the leases to renew."""

    def lose(self, job_id: str) -> None:
        """Stop a job whose lease was not renewed, without another write, and forget it."""

    def acknowledge(self, job_id: str, seq: int) -> None:
        """Take note that the relay has stored the job's events up to `seq`."""

    def event(self, job_id: str, seq: int) -> Progress | None:
        """Return the job's event with that number, None if there is none yet."""
