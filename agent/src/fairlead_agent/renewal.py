"""
Renewal of the agent's certificate over the live connection, with a new key, before it lapses.

Due when a random 20-25 % of the certificate's life is left, so that a fleet enrolled together does not renew
together. The new pair is stored first and used from the next connection on; the present one lives on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric import ec

from fairlead_agent.errors import IdentityInvalid, KubeError
from fairlead_agent.identity_store import Certificate, IdentityStore, new_key, signing_request
from fairlead_agent.logs import Logger
from fairlead_shared.frames import CertificateIssued, CertificateRequest, Message

EARLIEST_LEFT, LATEST_LEFT = 0.25, 0.20
"""Share of the certificate's life that is left when it is renewed."""
ANSWER_SECONDS = 30.0
"""How long to wait for the relay's answer before asking again."""
RETRY_SHARE = 0.02
"""Share of the certificate's life between two attempts: about ten fit into what is left."""


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
        self._answer: asyncio.Future[CertificateIssued] | None = None

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

    async def run(self) -> None:
        """Renew for as long as the agent runs."""
        await self._opened.wait()
        while True:
            certificate = self._identities.current.certificate
            if certificate is None:
                self._opened.clear()
                await self._opened.wait()
                continue
            life = _life(certificate)
            left = LATEST_LEFT + (EARLIEST_LEFT - LATEST_LEFT) * self._random()
            await asyncio.sleep(max(0.0, _expiry(certificate) - life * left - self._clock()))
            if not await self._renew():
                await asyncio.sleep(max(1.0, life * RETRY_SHARE))

    async def _renew(self) -> bool:
        """Ask once; returns whether a new certificate is stored."""
        key = new_key()
        self._answer = asyncio.get_running_loop().create_future()
        self._send(CertificateRequest(csr_pem=signing_request(key)))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                issued = await self._answer
            return await self._store(key, issued)
        except TimeoutError:
            self._logger.warning("certificate.renewal_unanswered", seconds=ANSWER_SECONDS)
        except (IdentityInvalid, KubeError) as error:
            self._logger.warning("certificate.renewal_failed", error=str(error))
        finally:
            self._answer = None
        return False

    async def _store(self, key: ec.EllipticCurvePrivateKey, issued: CertificateIssued) -> bool:
        identity = await self._identities.save_renewed(key, issued.certificate_pem, issued.root_pem)
        if identity.certificate is not None:
            self._logger.info("certificate.renewed", expires=identity.certificate.leaf.not_valid_after_utc.isoformat())
        return True


def _expiry(certificate: Certificate) -> float:
    return certificate.leaf.not_valid_after_utc.timestamp()


def _life(certificate: Certificate) -> float:
    return _expiry(certificate) - certificate.leaf.not_valid_before_utc.timestamp()
