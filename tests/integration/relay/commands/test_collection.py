"""`fairlead-relay gc`, beside a relay that serves. What goes, tests/conformance/relay/store/test_retention.py shows."""

import os
import time

from click.testing import CliRunner

from fairlead_relay.commands.root import cli
from tests.integration.bundles import config_maps, upload
from tests.integration.conftest import make_tenant
from tests.integration.relay_process import RelayProcess

DAY_SECONDS = 86_400.0


def gc(relay: RelayProcess, *options: str) -> str:
    """Run the command on a relay's data directory."""
    result = CliRunner().invoke(cli, ["gc", "--data-dir", str(relay.data_dir), *options])
    assert result.exit_code == 0, result.output
    return result.output.strip()


def test_what_nobody_needs_goes(own_relay: RelayProcess) -> None:
    """Content without an owner, once it is old; the dry run leaves it."""
    tenant, bundle = make_tenant(own_relay), config_maps()
    upload(tenant.deployer, tenant.organization, bundle)
    stray = own_relay.data_dir / "blobs" / "aa" / f"{'a' * 64}.z"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"of a bundle that was forgotten")
    young = "0 deployments, 0 other jobs, 0 bundles and the content of 0 forgotten before"
    assert gc(own_relay) == f"{young} are gone"
    yesterday = time.time() - 2 * DAY_SECONDS
    os.utime(stray, (yesterday, yesterday))
    old = "0 deployments, 0 other jobs, 0 bundles and the content of 1 forgotten before"
    assert gc(own_relay, "--dry-run") == f"{old} would go"
    assert stray.exists()
    assert gc(own_relay) == f"{old} are gone"
    assert not stray.exists()
    answer = tenant.viewer.head(f"{tenant.path}/bundles/{bundle.sha256}")
    assert answer.status_code == 200
