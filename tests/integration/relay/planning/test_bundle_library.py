"""What bundles write to, remembered and found again, on a real store."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from fairlead_relay.errors import NotFound
from fairlead_relay.planning.bundle_check import BundleChecker
from fairlead_relay.planning.bundle_library import BundleLibrary
from fairlead_relay.store import Store
from fairlead_relay.store.blobs import DirectoryBlobs
from fairlead_relay.store.bundles import Bundle, add_bundle
from fairlead_relay.store.organizations import ensure_organization
from tests.integration.bundles import config_maps


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """Make a store."""
    made = Store(f"sqlite:///{tmp_path / 'relay.db'}", lambda *_: None)
    await made.start()
    yield made
    await made.stop()


async def test_a_relay_that_was_restarted_reads_the_namespaces_from_the_bytes(store: Store, tmp_path: Path) -> None:
    """What was remembered is gone with the process; rollbacks go back weeks."""
    blobs = DirectoryBlobs(tmp_path / "blobs")
    bundle = config_maps(2, namespace="elsewhere")
    blobs.put(bundle.sha256, [bundle.content])

    def note(connection: Connection) -> None:
        ensure_organization(connection, "acme", 0.0)
        add_bundle(connection, Bundle("acme", bundle.sha256, len(bundle.content), 0.0))

    await store.write(note)
    library = BundleLibrary(store, blobs, BundleChecker())
    assert await library.namespaces_of("acme", bundle.sha256) == ("elsewhere",)
    (tmp_path / "blobs" / bundle.sha256[:2] / f"{bundle.sha256}.z").unlink()
    assert await library.namespaces_of("acme", bundle.sha256) == ("elsewhere",), "it is remembered from then on"


async def test_what_the_organization_does_not_have_is_not_found(store: Store, tmp_path: Path) -> None:
    """Even when the relay knows the content from somebody else."""
    library = BundleLibrary(store, DirectoryBlobs(tmp_path / "blobs"), BundleChecker())
    bundle = config_maps()
    await library.check(bundle.content, bundle.sha256)
    with pytest.raises(NotFound):
        await library.namespaces_of("acme", bundle.sha256)
