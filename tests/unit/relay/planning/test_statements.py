"""Deployment statements: what is fixed, and that the signature is over exactly those bytes."""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fairlead_relay.planning.statements import Change, Target, make_statement, sign_statement
from fairlead_shared.envelope import verify
from fairlead_shared.statement import PAYLOAD_TYPE, Consent, DeploymentStatement

CONSENTS = frozenset({Consent.RECREATE, Consent.ADOPT})
TARGET = Target("acme", "shop", "staging", "staging", "harbour")


def test_a_statement_says_everything_that_its_signers_agree_to() -> None:
    """Validity covers the time from now to the expiry, in whole seconds and never less."""
    made = make_statement(
        "d" * 26,
        TARGET,
        Change("a" * 64, None, rollback=True, consents=CONSENTS),
        ["shop", "web"],
        now=1000.7,
        expires=2000.2,
    )
    assert (made.not_before, made.expires) == (1000, 2001)
    assert (made.cluster, made.environment_type, made.rollback) == ("harbour", "staging", True)
    assert made.namespaces == ("shop", "web")
    assert made.consents == (Consent.ADOPT, Consent.RECREATE)


def test_the_signature_is_good_for_the_relays_key_alone() -> None:
    """An agent that trusts this key reads the same statement from the envelope."""
    key = Ed25519PrivateKey.generate()
    made = make_statement("d" * 26, TARGET, Change("a" * 64, "b" * 64), [], now=0, expires=1)
    payload, signers = verify(sign_statement(made, key), PAYLOAD_TYPE, {"relay": key.public_key()}, 1)
    assert (DeploymentStatement.from_bytes(payload), signers) == (made, ("relay",))
