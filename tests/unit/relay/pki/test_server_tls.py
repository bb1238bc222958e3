"""TLS contexts: their rules, and the renewal of the certificate they share."""

import ssl
from pathlib import Path

from cryptography import x509

from fairlead_relay.pki.authority import SERVER_LIFE, CertificateAuthority
from fairlead_relay.pki.server_tls import RENEW_AFTER, ServerTls


class Clock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_a_certificate_is_made_at_first_and_renewed_after_two_thirds_of_its_life(tmp_path: Path) -> None:
    """Ten days remain to notice that the renewal fails."""
    clock = Clock()
    file = tmp_path / "server.pem"
    tls = ServerTls(CertificateAuthority.open(tmp_path / "pki", clock), ["localhost"], file, clock)
    assert tls.renew_if_due()
    first = x509.load_pem_x509_certificates(file.read_bytes())[0]
    clock.now += SERVER_LIFE.total_seconds() * RENEW_AFTER - 1
    assert not tls.renew_if_due()
    clock.now += 1
    assert tls.renew_if_due()
    second = x509.load_pem_x509_certificates(file.read_bytes())[0]
    assert second.serial_number != first.serial_number
    assert second.not_valid_after_utc > first.not_valid_after_utc


def test_both_ports_speak_tls_1_3_without_tickets_and_only_agents_are_asked_for_a_certificate(tmp_path: Path) -> None:
    """Asked, not required: an agent that comes to enrol has none."""
    clock = Clock()
    tls = ServerTls(CertificateAuthority.open(tmp_path / "pki", clock), ["localhost"], tmp_path / "server.pem", clock)
    for context in (tls.agent_port, tls.api):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.num_tickets == 0
    assert tls.agent_port.verify_mode is ssl.CERT_OPTIONAL
    assert tls.api.verify_mode is ssl.CERT_NONE


def test_a_certificate_of_a_time_that_is_yet_to_come_is_made_anew(tmp_path: Path) -> None:
    """The clock went back: to clients whose clock is right it is not valid yet."""
    clock = Clock()
    file = tmp_path / "server.pem"
    tls = ServerTls(CertificateAuthority.open(tmp_path / "pki", clock), ["localhost"], file, clock)
    assert tls.renew_if_due()
    clock.now -= 86_400
    assert tls.renew_if_due()
    assert x509.load_pem_x509_certificates(file.read_bytes())[0].not_valid_before_utc.timestamp() < clock.now
    assert not tls.renew_if_due()
