"""Doing once what is asked for twice.

Rules: a request with a key is written down before it is done, and its answer after; the same request with that key is
then answered as the first was, another one with it is refused. One that was refused has changed nothing and is
forgotten, so that it can be sent again. Of one that broke off nobody knows what it has changed: it is never done again
under its key. A key is its caller's own, and an answer is kept for a day.

Source: draft-ietf-httpapi-idempotency-key-header-07 sections 2.3 to 2.7.
"""

from maas_gateway.controlplane.acting import Acting
from maas_gateway.errors import Conflict, IdempotencyKeyReused
from maas_gateway.idempotency import store
from maas_gateway.idempotency.request import LIFE, PATIENCE, Answer, digest_of
from maas_gateway.principal import Principal


class Repeats:
    """What has been asked for with a key.

    Args:
        acting: what every act needs.
    """

    def __init__(self, acting: Acting) -> None:
        self._acting = acting

    async def begin(self, principal: Principal, key: str, fingerprint: str) -> Answer | None:
        """Return the answer that was given before; None if it is to be done now, and `keep` or `forget` follows.

        Raises:
            IdempotencyKeyReused: the key came with another request.
            Conflict: the first request with it has no answer yet, or broke off.
            CiphertextRejected: the answer that was kept is not what was sealed.
        """
        now = self._acting.clock.now()
        async with self._acting.database.write(principal.tenant) as session:
            digest = digest_of(principal.name, key)
            kept = await store.begin(session, digest, fingerprint, now, dead_before=now - LIFE)
        if kept.is_new:
            return None
        if kept.fingerprint != fingerprint:
            raise IdempotencyKeyReused("Idempotency-Key: it came with another request; take a new one for each act")
        if kept.answer is not None:
            return Answer.opened(key, kept.answer)
        if now - kept.began_at < PATIENCE:
            raise Conflict("the first request with this Idempotency-Key is still being answered", retry_after_s=1)
        raise Conflict(
            "the first request with this Idempotency-Key broke off, and nobody knows whether it took effect; look, and"
            " take a new key if it did not"
        )

    async def keep(self, principal: Principal, key: str, answer: Answer) -> None:
        """Keep the answer that was given."""
        async with self._acting.database.write(principal.tenant) as session:
            await store.keep(session, digest_of(principal.name, key), answer.sealed(key))

    async def forget(self, principal: Principal, key: str) -> None:
        """Forget a request that changed nothing."""
        async with self._acting.database.write(principal.tenant) as session:
            await store.forget(session, digest_of(principal.name, key))
