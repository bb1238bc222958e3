"""Address, CA and token of a pod's ServiceAccount."""

from pathlib import Path

import pytest

from fairlead_agent.errors import Unreachable
from fairlead_agent.kube.access import ClusterAccess, TokenSource, TrustSource
from tests.integration.scripted_relay import ThrowawayCa

SERVICE = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def test_pod_finds_its_api_server_by_its_environment() -> None:
    """The variables every pod has."""
    assert ClusterAccess.in_cluster(SERVICE, Path("/sa")).server == "https://10.96.0.1:443"


def test_address_of_version_6_is_put_into_brackets() -> None:
    """Else the port would be read as part of it."""
    found = ClusterAccess.in_cluster({**SERVICE, "KUBERNETES_SERVICE_HOST": "fd00::1"}, Path("/sa"))
    assert found.server == "https://[fd00::1]:443"


def test_outside_of_a_pod_the_missing_variables_are_named() -> None:
    """One sentence that says what is not set."""
    with pytest.raises(Unreachable, match="KUBERNETES_SERVICE_HOST"):
        ClusterAccess.in_cluster({}, Path("/sa"))


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"\xff"])
def test_ca_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None) -> None:
    """Not a bare OSError, and never the system's CAs in its place."""
    if content is not None:
        (tmp_path / "ca.crt").write_bytes(content)
    with pytest.raises(Unreachable, match=r"ca\.crt"):
        TrustSource(ClusterAccess.in_cluster(SERVICE, tmp_path)).current()


def test_ca_file_may_say_what_it_is_in_any_language(tmp_path: Path) -> None:
    """OpenSSL passes over what is between certificates."""
    (tmp_path / "ca.crt").write_text(f"# Prüfstelle\n{ThrowawayCa().root_pem}", encoding="utf-8")
    assert len(TrustSource(ClusterAccess.in_cluster(SERVICE, tmp_path)).current().get_ca_certs()) == 1


def test_ca_is_read_again_after_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another CA makes another context; the same, or a file that is broken for a moment, keeps the connections."""
    now = 1000.0
    monkeypatch.setattr("fairlead_agent.kube.access.time.monotonic", lambda: now)
    file = tmp_path / "ca.crt"
    file.write_bytes(ThrowawayCa().root_pem.encode())
    source = TrustSource(ClusterAccess.in_cluster(SERVICE, tmp_path))
    first = source.current()
    now += 61.0
    assert source.current() is first
    file.write_bytes(b"")
    now += 61.0
    assert source.current() is first
    file.write_bytes(ThrowawayCa().root_pem.encode())
    now += 59.0
    assert source.current() is first
    now += 2.0
    second = source.current()
    assert second.get_ca_certs() != first.get_ca_certs()
    assert len(second.get_ca_certs()) == 1


def test_token_is_read_again_after_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubelet replaces the file; the old token is used for a minute at most."""
    now = 1000.0
    monkeypatch.setattr("fairlead_agent.kube.access.time.monotonic", lambda: now)
    (tmp_path / "token").write_text("first\n")
    source = TokenSource(ClusterAccess.in_cluster(SERVICE, tmp_path))
    assert source.current() == "first"
    (tmp_path / "token").write_text("second\n")
    now += 59.0
    assert source.current() == "first"
    now += 2.0
    assert source.current() == "second"


def test_token_that_cannot_be_read_again_is_kept(tmp_path: Path) -> None:
    """A file that is missing for a moment does not make a working agent fail."""
    (tmp_path / "token").write_text("first")
    source = TokenSource(ClusterAccess.in_cluster(SERVICE, tmp_path))
    source.current()
    (tmp_path / "token").unlink()
    source.reread()
    assert source.current() == "first"


def test_token_that_was_never_there_is_an_error(tmp_path: Path) -> None:
    """It names the file and never the token."""
    with pytest.raises(Unreachable, match="token"):
        TokenSource(ClusterAccess.in_cluster(SERVICE, tmp_path)).current()
