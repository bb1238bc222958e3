"""Checking bundles off the loop: small ones in a thread, large ones in a process that ends with its parent."""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from fairlead_relay.planning.bundle_check import SMALL_BYTES, BundleChecker
from fairlead_shared.bundle import BundleHash, make_bundle
from fairlead_shared.errors import BundleInvalid
from tests.integration.bundles import config_maps, upload
from tests.integration.conftest import make_tenant
from tests.integration.relay_process import RelayProcess
from tests.polling import wait_until


@pytest.fixture
def checker() -> Iterator[BundleChecker]:
    """Make a checker, and end its worker."""
    made = BundleChecker()
    yield made
    made.stop()
    made.stop()


async def test_a_small_bundle_needs_no_process(checker: BundleChecker) -> None:
    """Its namespaces are found, cluster-scoped objects have none."""
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "reader"}}
    maps = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": name}}
        for name in ("web", "shop", "web2")
    ]
    bundle = make_bundle([role, *maps])
    facts = await checker.check(bundle.content, bundle.sha256)
    assert (facts.size_bytes, facts.namespaces) == (len(bundle.content), ("shop", "web", "web2"))
    assert checker._pool is None


async def test_a_large_bundle_is_checked_elsewhere_and_its_error_comes_back_whole(checker: BundleChecker) -> None:
    """The error keeps its line and code on the way from the process."""
    bundle = config_maps(3, size_bytes=SMALL_BYTES)
    assert (await checker.check(bundle.content, bundle.sha256)).namespaces == ("shop",)
    with pytest.raises(BundleInvalid, match="canonical") as error:
        await checker.check(bundle.content.replace(b'"kind"', b' "kind"', 1), _hash(bundle.content, b' "kind"'))
    assert error.value.line == 2


async def test_a_worker_that_died_is_replaced(checker: BundleChecker) -> None:
    """One bundle fails, such as for lack of memory; the next is checked."""
    bundle = config_maps(3, size_bytes=SMALL_BYTES)
    await checker.check(bundle.content, bundle.sha256)
    pool = checker._pool
    assert pool is not None
    with pytest.raises(BrokenProcessPool):
        await asyncio.get_running_loop().run_in_executor(pool, os._exit, 1)
    with pytest.raises(BrokenProcessPool):
        await checker.check(bundle.content, bundle.sha256)
    assert (await checker.check(bundle.content, bundle.sha256)).namespaces == ("shop",)


def _hash(content: bytes, replacement: bytes) -> BundleHash:
    from fairlead_shared.bundle import hash_of

    return hash_of(content.replace(b'"kind"', replacement, 1))


def test_a_worker_ends_with_a_relay_that_is_killed(own_relay: RelayProcess) -> None:
    """Nothing is left behind that nobody knows of."""
    tenant = make_tenant(own_relay)
    upload(tenant.deployer, tenant.organization, config_maps(3, size_bytes=SMALL_BYTES))
    assert own_relay.process is not None
    children = Path(f"/proc/{own_relay.process.pid}/task/{own_relay.process.pid}/children").read_text().split()
    assert children
    own_relay.kill()
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "the worker to end")
