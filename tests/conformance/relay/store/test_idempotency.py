"""Keys: taken once, settled with an answer, free again when there was none, and gone after their time."""

from __future__ import annotations

from dataclasses import replace

from fairlead_relay.store import Store
from fairlead_relay.store.idempotency import (
    CLAIM_SECONDS,
    KEPT_SECONDS,
    Claim,
    Request,
    claim_key,
    mark_key,
    release_key,
    settle_key,
)
from tests.conformance.domain import START

REQUEST = Request("token", "key", "a" * 64)


async def claim(store: Store, request: Request = REQUEST, now: float = START) -> Claim | bytes:
    """Ask for a key."""
    return await store.write(lambda c: claim_key(c, request, now))


async def test_a_key_is_taken_by_one_request_of_one_token(store: Store) -> None:
    """Another token's key of the same name is another key."""
    assert await claim(store) is Claim.FRESH
    assert await claim(store) is Claim.BUSY
    assert await claim(store, replace(REQUEST, sha256="b" * 64)) is Claim.DIFFERENT
    assert await claim(store, replace(REQUEST, token_id="other")) is Claim.FRESH
    assert await claim(store, replace(REQUEST, key="other")) is Claim.FRESH


async def test_an_answer_is_given_again_for_a_day(store: Store) -> None:
    """Then the key is as good as new."""
    await claim(store)
    await store.write(lambda c: settle_key(c, REQUEST, b"answer", START))
    assert await claim(store, now=START + KEPT_SECONDS - 1) == b"answer"
    assert await claim(store, replace(REQUEST, sha256="b" * 64)) is Claim.DIFFERENT
    await store.write(lambda c: release_key(c, REQUEST))
    assert await claim(store) == b"answer"
    assert await claim(store, now=START + KEPT_SECONDS) is Claim.FRESH


async def test_a_request_without_effect_or_without_an_end_leaves_its_key_free(store: Store) -> None:
    """It was refused for now, or its relay was killed."""
    await claim(store)
    await store.write(lambda c: release_key(c, REQUEST))
    assert await claim(store) is Claim.FRESH
    assert await claim(store, now=START + CLAIM_SECONDS - 1) is Claim.BUSY
    assert await claim(store, now=START + CLAIM_SECONDS) is Claim.FRESH


async def test_a_request_that_had_its_effect_is_not_carried_out_again(store: Store) -> None:
    """Its relay may have died before the answer was stored; whoever asks is told, once it cannot be under way."""
    await claim(store)
    await store.write(lambda c: mark_key(c, REQUEST, START + 5))
    await store.write(lambda c: release_key(c, REQUEST))
    assert await claim(store, now=START + 5 + CLAIM_SECONDS - 1) is Claim.BUSY
    assert await claim(store, now=START + 5 + CLAIM_SECONDS) is Claim.CARRIED_OUT
    assert await claim(store, replace(REQUEST, sha256="b" * 64), START + 100) is Claim.DIFFERENT
    assert await claim(store, now=START + 5 + KEPT_SECONDS) is Claim.FRESH
    await store.write(lambda c: settle_key(c, REQUEST, b"answer", START))
    await store.write(lambda c: mark_key(c, REQUEST, START))
    assert await claim(store) == b"answer"
