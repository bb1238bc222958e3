"""
Enrolled agents without their enrolment: certificates by a relay's own CA, rows in its own store, while it is stopped.

Enrolling thousands of agents over the wire takes longer than measuring them. Must not: be used where enrolment counts.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fairlead_relay.bus import LocalBus
from fairlead_relay.pki.authority import CertificateAuthority
from fairlead_relay.store import Store
from fairlead_relay.store.clusters import Enrolled, create_cluster, enrol_agent
from fairlead_relay.store.organizations import ensure_organization
from fairlead_shared.identity import AgentIdentity, AgentName, ClusterName, OrganizationName
from tests.integration.scripted_agent import make_request

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

ORGANIZATION = OrganizationName("minted")


def mint(data_dir: Path, count: int, files: list[Path]) -> None:
    """
    Make agents, dealt out to files of one JSON line each, as `fleet` loads them.

    Args:
        data_dir: Of a relay that was started before and is stopped now.
        count: How many.
        files: Where to.
    """
    authority = CertificateAuthority(data_dir / "pki", time.time)
    made: list[tuple[AgentIdentity, Enrolled]] = []
    lines: list[list[str]] = [[] for _ in files]
    for number in range(count):
        identity = AgentIdentity(ORGANIZATION, ClusterName(f"cluster-{number}"), AgentName("default"))
        key = ec.generate_private_key(ec.SECP256R1())
        issued = authority.issue_agent(make_request(key), identity)
        sealing_key = f"{number:043d}="
        made.append(
            (identity, Enrolled(sealing_key, f"{number:064x}", issued.serial, issued.made_at, issued.not_after))
        )
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key_pem = key.private_bytes(encoding, form, serialization.NoEncryption()).decode()
        agent = {"root": authority.root_pem, "chain": issued.chain_pem, "key": key_pem}
        lines[number % len(files)].append(json.dumps(agent))
    for file, agents in zip(files, lines, strict=True):
        file.write_text("\n".join(agents))
    asyncio.run(_store(data_dir, made))


async def _store(data_dir: Path, made: list[tuple[AgentIdentity, Enrolled]]) -> None:
    bus = LocalBus()
    store = Store(f"sqlite:///{data_dir / 'relay.db'}", bus.publish)
    await store.start()

    def write(connection: Connection) -> None:
        now = time.time()
        ensure_organization(connection, ORGANIZATION, now)
        for identity, enrolled in made:
            create_cluster(connection, identity.organization, identity.cluster, now)
            enrol_agent(connection, identity, enrolled, now)

    try:
        await store.write(write)
    finally:
        await store.stop()
