"""
Renewal of the agent's certificate over the live connection, with a new key, before it lapses.

Due when a random 20-25 % of the certificate's life is left, so that a fleet enrolled together does not renew
together; or when the relay asks for it, since its CA changes. The new pair is stored first and used from the next
connection on; the present connection lives on.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec

from fairlead_agent.errors import IdentityInvalid, KubeError
from fairlead_agent.identity_store import Certificate, IdentityStore, new_key, signing_request
from fairlead_agent.logs import Logger
from fairlead_shared.frames import CertificateDue, CertificateIssued, CertificateRequest, CertificateStored, Message
from fairlead_shared.identity import issued_at

EARLIEST_LEFT, LATEST_LEFT = 0.25, 0.20
"""Share of the certificate's life that is left when it is renewed."""
ANSWER_SECONDS = 30.0
"""How long to wait for the relay's answer before asking again."""
RETRY_SHARE = 0.02
"""Share of the certificate's life between two attempts: about ten fit into what is left."""
LEAST_RETRY_SECONDS = 0.1
LOOK_SECONDS = 60.0
"""How often to look at the clock again: it may have been set, or the machine may have slept."""


class Renewal:
    """
    Renews the stored certificate in time.

    Args:
        identities: The stored identity.
        send: Queues a message for the relay; drops it while there is no connection.
        logger: For outcomes.
        clock: Seconds since the epoch.
        random_unit: Uniform random numbers in [0, 1).
    """

    def __init__(
        self,
        identities: IdentityStore,
        send: Callable[[Message], None],
        logger: Logger,
        clock: Callable[[], float],
        random_unit: Callable[[], float],
    ) -> None:
        self._identities = identities
        self._send = send
        self._logger = logger
        self._clock = clock
        self._random = random_unit
        self._opened = asyncio.Event()
        """A connection was opened, or the relay asked, since this was last looked at."""
        self._answer: asyncio.Future[CertificateIssued] | None = None
        self._planned: tuple[Certificate, float] | None = None
        """When to renew which certificate, seconds since the epoch."""

    @property
    def has_valid_certificate(self) -> bool:
        """Whether there is a certificate that has not expired by this agent's clock."""
        certificate = self._identities.current.certificate
        return certificate is not None and self._clock() < _expiry(certificate)

    def wake(self) -> None:
        """Say that a connection was opened: there may be a certificate now, and an asked one may have been lost."""
        self._opened.set()

    def take(self, issued: CertificateIssued) -> None:
        """Take the relay's answer; one that nobody waits for is dropped."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(issued)

    def ask_within(self, due: CertificateDue) -> None:
        """Renew at a random moment of the span that the relay names, or when it is due anyway, if that is sooner."""
        certificate = self._identities.current.certificate
        if certificate is not None and self._answer is None:
            asked = self._clock() + due.within_seconds * self._random()
            self._planned = (certificate, min(asked, self._due_at(certificate)))
            self._opened.set()

    async def run(self) -> None:
        """Renew for as long as the agent runs."""
        while True:
            certificate = self._identities.current.certificate
            if certificate is None:
                await self._wait(LOOK_SECONDS)
                continue
            left = self._due_at(certificate) - self._clock()
            if left > 0:
                await self._wait(min(left, LOOK_SECONDS))
            elif not await self._renew():
                life = _expiry(certificate) - issued_at(certificate.leaf)
                await self._wait(max(LEAST_RETRY_SECONDS, life * RETRY_SHARE))

    async def _wait(self, seconds: float) -> None:
        """Wait, but no longer than until a connection opens."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._opened.wait()
        self._opened.clear()

    def _due_at(self, certificate: Certificate) -> float:
        if self._planned is None or self._planned[0] is not certificate:
            share = LATEST_LEFT + (EARLIEST_LEFT - LATEST_LEFT) * self._random()
            life = _expiry(certificate) - issued_at(certificate.leaf)
            self._planned = (certificate, _expiry(certificate) - life * share)
        return self._planned[1]

    async def _renew(self) -> bool:
        """Ask once; returns whether a new certificate is stored."""
        key = new_key()
        self._opened.clear()
        answer = self._answer = asyncio.get_running_loop().create_future()
        self._send(CertificateRequest(csr_pem=signing_request(key)))
        reopened = asyncio.create_task(self._opened.wait(), name="link/renewal-reopened")
        try:
            await asyncio.wait({answer, reopened}, timeout=ANSWER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return await self._store(key, answer.result())
            if not reopened.done():
                self._logger.warning("certificate.renewal_unanswered", seconds=ANSWER_SECONDS)
        except (IdentityInvalid, KubeError) as error:
            self._logger.warning("certificate.renewal_failed", error=str(error))
        finally:
            reopened.cancel()
            self._answer = None
        return False

    async def _store(self, key: ec.EllipticCurvePrivateKey, issued: CertificateIssued) -> bool:
        identity = await self._identities.save_renewed(key, issued.certificate_pem, issued.root_pem)
        if identity.certificate is not None:
            leaf = identity.certificate.leaf
            self._send(CertificateStored(serial=f"{leaf.serial_number:x}"))
            self._logger.info("certificate.renewed", expires=leaf.not_valid_after_utc.isoformat())
        return True


def _expiry(certificate: Certificate) -> float:
    return certificate.leaf.not_valid_after_utc.timestamp()
