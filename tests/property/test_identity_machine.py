"""
Who is let in, in any order of events: the store against a model of a few lines.

The model knows an agent's keys, certificates and what people decided; the rules that it checks are the promises: nobody
enters a disabled cluster, what was revoked stays worthless, and where approval is asked for nothing is issued without.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import Connection

from fairlead_relay.errors import AgentRefused
from fairlead_relay.store import Store
from fairlead_relay.store.access import (
    Presented,
    approve,
    check_agent,
    check_enabled,
    check_rejoin,
    is_approved,
    needs_approval,
    newest_made,
    note_presented,
)
from fairlead_relay.store.clusters import (
    Enrolled,
    EnrolmentGrant,
    create_cluster,
    create_enrolment_token,
    enrol_agent,
    find_cluster,
    renew_certificate,
    use_enrolment_token,
)
from fairlead_relay.store.organizations import ensure_organization
from fairlead_relay.store.revocation import disable_cluster, enable_cluster, revoke_agent
from fairlead_shared.identity import AgentIdentity, identity_fingerprint

IDENTITY = AgentIdentity.parse("fairlead://acme/harbour/default")
KEYS = ("a" * 64, "b" * 64)
T = TypeVar("T")


@dataclass
class Model:
    """What should be true."""

    disabled: bool = False
    revoked: bool = False
    enrolments: int = 0
    """Of other keys, and of the same after a revocation: each makes what was issued before worthless."""
    holder: str = ""
    """Key of the last enrolment."""
    approved: set[str] = field(default_factory=set)
    """Keys that a person approved and that did not yet connect."""
    newest_seen: float = 0.0
    certificates: list[tuple[float, int]] = field(default_factory=list)
    """(made at, number of the enrolment it belongs to)."""


class IdentityMachine(RuleBasedStateMachine):
    """One cluster that asks for approval, two keys that want to serve it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.store = Store(f"sqlite:///{self.folder / 'relay.db'}", lambda *_: None)
        self.loop.run_until_complete(self.store.start())
        self.now = 1_800_000_000.0
        self.model = Model()
        self.tokens = itertools.count()
        self.token = ""

        def prepare(connection: Connection) -> None:
            ensure_organization(connection, "acme", self.now)
            create_cluster(connection, "acme", "harbour", self.now, require_approval=True)

        self.write(prepare)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.store.stop())
        self.loop.close()
        shutil.rmtree(self.folder)

    def write(self, work: Callable[[Connection], T]) -> T:
        """Write, one second later."""
        self.now += 1
        return self.loop.run_until_complete(self.store.write(work))

    def next_made(self, connection: Connection) -> float:
        """Return when the next certificate counts as made, as the authority has it."""
        return max(self.now, newest_made(connection, IDENTITY) + 1)

    @rule(seconds=st.sampled_from([-86_400, -5, 86_400]))
    def set_clock(self, seconds: float) -> None:
        """Somebody sets the relay's clock."""
        self.now += seconds

    @rule()
    def make_token(self) -> None:
        """An administrator makes a token."""
        self.token = f"{next(self.tokens):016d}"
        grant = EnrolmentGrant("acme", "harbour")
        self.write(lambda c: create_enrolment_token(c, grant, self.token, "hash", self.now, self.now + 50))

    @rule(key=st.sampled_from(KEYS))
    def enrol(self, key: str) -> None:
        """A key enrols, as the gateway has it done."""
        made_at: list[float] = []

        def work(connection: Connection) -> bool:
            use_enrolment_token(connection, self.token, "hash", key, self.now)
            check_enabled(connection, "acme", "harbour")
            if needs_approval(connection, "acme", "harbour") and not is_approved(
                connection, IDENTITY, "enrol", key, self.now
            ):
                return False
            made_at.append(self.next_made(connection))
            enrol_agent(connection, IDENTITY, Enrolled("k", key, "01", made_at[0], self.now + 100), self.now)
            return True

        try:
            issued = self.write(work)
        except AgentRefused:
            return
        model = self.model
        assert not model.disabled
        if not issued:
            assert key not in model.approved
            model.approved.clear()
            return
        assert key in model.approved, "issued without approval"
        if model.holder != key or model.revoked:
            model.enrolments += 1
            model.newest_seen = 0.0
        model.holder, model.revoked = key, False
        model.certificates.append((made_at[0], model.enrolments))

    @rule(key=st.sampled_from(KEYS))
    def approve(self, key: str) -> None:
        """A person approves a fingerprint, perhaps not the one that waits."""
        approval = self.write(lambda c: find_cluster(c, "acme", "harbour")).approval
        if approval is None or approval.key_sha256 != key:
            return
        self.write(lambda c: approve(c, "acme", "harbour", identity_fingerprint(key), self.now))
        self.model.approved = {key}

    @precondition(lambda self: self.model.certificates)
    @rule(data=st.data())
    def connect(self, data: st.DataObject) -> None:
        """An agent shows any certificate that was ever issued."""
        made_at, enrolment = data.draw(st.sampled_from(self.model.certificates))

        def work(connection: Connection) -> None:
            check_agent(connection, IDENTITY, made_at)
            note_presented(connection, IDENTITY, Presented("01", "issuer", made_at, made_at + 100))

        model = self.model
        allowed = not model.disabled and not model.revoked and enrolment == model.enrolments
        try:
            self.write(work)
        except AgentRefused:
            assert not allowed
            return
        assert allowed
        model.newest_seen = max(model.newest_seen, made_at)
        model.approved.clear()

    @precondition(lambda self: self.model.certificates)
    @rule(data=st.data())
    def rejoin(self, data: st.DataObject) -> None:
        """An agent proves the key of any certificate that was ever issued, and gets a new one."""
        made_at, enrolment = data.draw(st.sampled_from(self.model.certificates))
        model = self.model
        allowed = not model.disabled and not model.revoked and enrolment == model.enrolments
        allowed = allowed and made_at >= model.newest_seen

        def work(connection: Connection) -> float:
            check_rejoin(connection, IDENTITY, made_at)
            issued = self.next_made(connection)
            renew_certificate(connection, IDENTITY, "02", issued, self.now + 100)
            return issued

        try:
            issued = self.write(work)
        except AgentRefused:
            assert not allowed
            return
        assert allowed
        model.certificates.append((issued, enrolment))

    @rule()
    def disable(self) -> None:
        """The cluster is disabled."""
        self.write(lambda c: disable_cluster(c, "acme", "harbour", self.now))
        self.model.disabled = True

    @rule()
    def enable(self) -> None:
        """The cluster is enabled."""
        self.write(lambda c: enable_cluster(c, "acme", "harbour"))
        self.model.disabled = False

    @precondition(lambda self: self.model.holder)
    @rule()
    def revoke(self) -> None:
        """The agent is revoked."""
        self.write(lambda c: revoke_agent(c, "acme", "harbour", self.now))
        self.model.revoked = True
        self.model.approved.clear()

    @invariant()
    def is_shown_as_it_is(self) -> None:
        """What people see agrees with what is let in."""
        cluster = self.loop.run_until_complete(self.store.read(lambda c: find_cluster(c, "acme", "harbour")))
        assert (cluster.state == "disabled") == self.model.disabled
        if cluster.agent is not None:
            assert (cluster.agent.revoked_at is not None) == self.model.revoked


TestIdentityMachine = IdentityMachine.TestCase
TestIdentityMachine.settings = settings(
    max_examples=15, stateful_step_count=30, suppress_health_check=list(HealthCheck)
)
