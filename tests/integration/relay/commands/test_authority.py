"""`fairlead-relay ca show`: the root certificate, ready to be used."""

from pathlib import Path

from click.testing import CliRunner
from cryptography import x509

from fairlead_relay.commands.root import cli
from fairlead_shared.identity import certificate_fingerprint


def test_the_output_is_a_pem_file_with_the_fingerprint_above(tmp_path: Path) -> None:
    """The same at every call; made at the first, so that an installation can hand it out beforehand."""
    outputs = [CliRunner().invoke(cli, ["ca", "show", "--data-dir", str(tmp_path / "data")]).stdout for _ in range(2)]
    assert outputs[0] == outputs[1]
    root = x509.load_pem_x509_certificate(outputs[0].encode())
    assert outputs[0].startswith(f"# SHA-256 fingerprint: {certificate_fingerprint(root)}\n")
