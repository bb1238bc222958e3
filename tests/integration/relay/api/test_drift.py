"""Drift over the real API: what a connected agent reports is shown, to whoever may read the environment."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict
from typing import Any

from fairlead_shared.drift import DriftedObject, DriftKind, DriftMode, DriftStatus, UnseenKind
from fairlead_shared.frames import DriftAck, DriftReport
from fairlead_shared.objects import ObjectRef
from fairlead_shared.progress import FieldChange
from tests.integration.bundles import config_maps, deploy, upload
from tests.integration.conftest import Tenant, make_tenant
from tests.integration.scripted_agent import AgentConnection

WEB = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web")


def drifted(tenant: Tenant, bundle_sha256: str, organization: str = "") -> DriftReport:
    """Return an agent's report: somebody scaled a Deployment, and Secrets cannot be watched."""
    return DriftReport(
        environment=(organization or tenant.organization, "shop", "staging"),
        revision=1,
        mode=DriftMode.CORRECT,
        at=time.time(),
        bundle_sha256=bundle_sha256,
        objects=(
            DriftedObject(
                object=WEB,
                drift=DriftKind.CHANGED,
                status=DriftStatus.FOUGHT,
                since=1_795_000_000,
                managers=("kubectl",),
                fields=(FieldChange(pointer="/spec/replicas", before="1", after="3"),),
                corrections=3,
                next_attempt_at=1_795_000_030.5,
            ),
        ),
        total=1,
        watches=4,
        unseen=(UnseenKind(resource="secrets", namespace="shop", reason="needs a rule"),),
    )


async def report(connection: AgentConnection, message: DriftReport) -> None:
    """Report, and wait until it is acknowledged."""
    await connection.wire.send(message)
    ack = await connection.wire.wait_message(DriftAck)
    assert ack == DriftAck(environment=message.environment, revision=message.revision)


async def test_what_the_agent_reports_is_shown(tenant: Tenant) -> None:
    """The environment says how many and since when, its drift who changed what; before, nothing is known."""
    agent, bundle = await tenant.enrol(), config_maps()
    shown: Any = await tenant.ask("GET", f"{tenant.environment}/drift")
    assert (shown["mode"], shown["watched"], shown["deployment_id"], shown["objects"]) == (None, False, None, [])
    await asyncio.to_thread(upload, tenant.deployer, tenant.organization, bundle)
    made = await asyncio.to_thread(deploy, tenant.deployer, tenant.environment, bundle)
    async with agent.connect() as connection:
        offer = await connection.wait_offer()
        await connection.accept(offer)
        await connection.finish(offer.job_id, offer.token)
        environment: Any = await tenant.ask("GET", tenant.environment)
        assert environment["drift"] is None
        await report(connection, drifted(tenant, bundle.sha256))
    listed = tenant.viewer.ask("GET", f"{tenant.path}/applications/shop/environments")["items"]
    summary = {"objects": 1, "mode": "correct", "since": "2026-11-18T11:06:40.000Z"}
    assert [one["drift"] for one in listed] == [summary]
    shown = tenant.viewer.ask("GET", f"{tenant.environment}/drift")
    assert shown.pop("reported_at").endswith("Z")
    assert shown.pop("objects") == [
        {
            "object": asdict(WEB),
            "drift": "changed",
            "status": "fought",
            "since": "2026-11-18T11:06:40.000Z",
            "managers": ["kubectl"],
            "fields": [{"pointer": "/spec/replicas", "before": "1", "after": "3", "masked": False}],
            "fields_left_out": 0,
            "corrections": 3,
            "next_attempt_at": "2026-11-18T11:07:10.500Z",
            "reason": "",
        }
    ]
    assert shown == {
        "application": "shop",
        "environment": "staging",
        "mode": "correct",
        "watched": True,
        "deployment_id": made["id"],
        "bundle_sha256": bundle.sha256,
        "drifted": 1,
        "total": 1,
        "watches": 4,
        "unseen": [{"group": "", "resource": "secrets", "namespace": "shop", "reason": "needs a rule"}],
        "reason": "",
    }
    tenant.viewer.ask("GET", f"{tenant.path}/applications/shop/environments/nowhere/drift", expect=404)


async def test_an_agent_cannot_report_of_another_organization(tenant: Tenant) -> None:
    """Whatever it claims; the answer is the same, so that it learns nothing."""
    agent, other = await tenant.enrol(), await asyncio.to_thread(make_tenant, tenant.relay)
    async with agent.connect() as connection:
        await report(connection, drifted(tenant, "", other.organization))
    shown = other.viewer.ask("GET", f"{other.environment}/drift")
    assert (shown["mode"], shown["total"]) == (None, 0)
