"""`fairlead-relay ca`: the root certificate, ready to be used, and its change."""

import asyncio
from pathlib import Path

from click.testing import CliRunner, Result
from cryptography import x509

from fairlead_relay.commands.root import cli
from fairlead_relay.settings import Settings
from fairlead_relay.store import Store
from fairlead_shared.identity import certificate_fingerprint
from tests.conformance.domain import seed


def test_the_output_is_a_pem_file_with_the_fingerprint_above(tmp_path: Path) -> None:
    """The same at every call; made at the first, so that an installation can hand it out beforehand."""
    outputs = [CliRunner().invoke(cli, ["ca", "show", "--data-dir", str(tmp_path / "data")]).stdout for _ in range(2)]
    assert outputs[0] == outputs[1]
    root = x509.load_pem_x509_certificate(outputs[0].encode())
    assert outputs[0].startswith(f"# SHA-256 fingerprint: {certificate_fingerprint(root)}\n")


def ca(data_dir: Path, *arguments: str) -> Result:
    """Run a command of the group."""
    return CliRunner().invoke(cli, ["ca", *arguments, "--data-dir", str(data_dir)])


def test_a_change_without_agents_is_two_commands(tmp_path: Path) -> None:
    """Begun, shown and ended; the root that is handed out is the new one from the first on."""
    data = tmp_path / "data"
    before = ca(data, "show").stdout
    begun = ca(data, "rotate")
    assert begun.exit_code == 0, begun.output
    assert "generation 2 of the CA issues from now on\n0 of 0 agents moved\n" in begun.stdout
    after = ca(data, "show").stdout
    assert after != before
    shown = ca(data, "status").stdout
    assert "generation 1 still counts" in shown
    assert "generation 2 issues" in shown
    again = ca(data, "rotate", "--no-wait")
    assert (again.exit_code, "ca finish" in again.output) == (1, True)
    assert "only generation 2" in ca(data, "finish").stdout
    assert "generation 1" not in ca(data, "status").stdout
    assert ca(data, "show").stdout == after
    assert ca(data, "finish").exit_code == 1


def test_the_root_may_stay(tmp_path: Path) -> None:
    """Then nobody who pinned it needs to know."""
    data = tmp_path / "data"
    before = ca(data, "show").stdout
    assert ca(data, "rotate", "--keep-root", "--no-wait").exit_code == 0
    assert ca(data, "show").stdout == before


async def test_agents_that_would_be_locked_out_are_named(tmp_path: Path) -> None:
    """A change is not ended over their heads, unless somebody says so."""
    data = tmp_path / "data"
    assert (await asyncio.to_thread(ca, data, "rotate", "--no-wait")).exit_code == 0
    store = Store(Settings(data_dir=data).database, lambda *_: None)
    await store.start()
    await store.write(seed)
    await store.stop()
    refused = await asyncio.to_thread(ca, data, "finish")
    assert refused.exit_code == 1
    assert "0 of 1 agents moved; not yet: acme/one" in refused.output
    assert "not yet: acme/one" in (await asyncio.to_thread(ca, data, "status")).output
    assert (await asyncio.to_thread(ca, data, "finish", "--leave-behind")).exit_code == 0


def test_the_operators_own_ca_is_taken_before_the_first_start(tmp_path: Path) -> None:
    """And is what agents are told to trust from then on."""
    made, data = tmp_path / "made", tmp_path / "data"
    root = ca(made, "show").stdout
    names = {"--root-file": "root.pem", "--issuing-file": "issuing.pem", "--issuing-key-file": "issuing.key"}
    options = [word for option, name in names.items() for word in (option, str(made / "pki" / name))]
    done = ca(data, "use", *options)
    assert done.exit_code == 0, done.output
    assert ca(data, "show").stdout == root
    assert ca(data, "use", *options).exit_code == 1
