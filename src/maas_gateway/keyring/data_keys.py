"""Data keys by artifact: wrapped under the tenant's `artifacts` ring, one row each.

Rules: a data key is wrapped with the primary of the very transaction that stores it, so none
appears under an old version once a rotation has made a new primary; opening reads the row first and
follows it once more if the version it named has been retired meanwhile.
"""

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from maas_gateway.crypto.envelope import DataKey, WrappedDataKey, unwrap_data_key, wrap_data_key
from maas_gateway.errors import CiphertextRejected, Conflict
from maas_gateway.identifiers import ArtifactId, TenantId
from maas_gateway.keyring import store
from maas_gateway.keyring.key import Purpose
from maas_gateway.keyring.keyring import Keyring

_ATTEMPTS: Final = 5


class DataKeys:
    """The wrapped data keys of every tenant's artifacts."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def add(self, tenant: TenantId, artifact: ArtifactId, data_key: DataKey, *, context: bytes) -> None:
        """Wrap and store an artifact's data key.

        Args:
            tenant: whose artifact.
            artifact: which.
            data_key: what sealed it.
            context: 32 bytes, `ArtifactHeader.context()`.
        """
        for _ in range(_ATTEMPTS):
            version, key = await self._keyring.primary(tenant, Purpose.ARTIFACTS)
            wrapped = wrap_data_key(
                key,
                data_key,
                artifact_id=artifact,
                tenant_id=tenant,
                purpose=Purpose.ARTIFACTS.value,
                key_version=version,
                context=context,
            )
            async with self._keyring.database.write(tenant) as session:
                if await store.is_primary(session, Purpose.ARTIFACTS, version):
                    await store.add_data_key(session, wrapped, self._keyring.clock.now())
                    return
            self._keyring.forget()  # another process has rotated the ring; look again
        raise Conflict("the keyring is being rotated; try again", retry_after_s=1)

    async def open(self, tenant: TenantId, artifact: ArtifactId) -> tuple[DataKey, bytes]:
        """Return an artifact's data key and the context it is bound to.

        Raises:
            CiphertextRejected: there is none, it was altered, or its key opens nothing any more.
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        wrapped = await self._wrapped(tenant, artifact)
        try:
            return await self._unwrap(tenant, wrapped), wrapped.context
        except CiphertextRejected:
            again = await self._wrapped(tenant, artifact)
            if again == wrapped:
                raise
            return await self._unwrap(tenant, again), again.context

    async def drop(self, tenant: TenantId, artifacts: Sequence[uuid.UUID]) -> None:
        """Delete data keys; what they sealed is lost for ever."""
        async with self._keyring.database.write(tenant) as session:
            await store.drop_data_keys(session, artifacts)

    async def drop_litter(self, known: Collection[uuid.UUID], created_before: datetime) -> int:
        """Delete data keys made before that time whose artifacts are not known; return how many."""
        async with store.every_ring(self._keyring.database, is_write=True) as session:
            litter = await store.data_keys_before(session, created_before) - frozenset(known)
            for artifact in litter:
                await store.drop_data_keys(session, [artifact])
        return len(litter)

    async def made_before(self, tenant: TenantId, moment: datetime) -> frozenset[uuid.UUID]:
        """Return the tenant's artifacts whose data keys were made before that moment."""
        async with self._keyring.database.read(tenant) as session:
            return await store.data_keys_before(session, moment)

    async def _wrapped(self, tenant: TenantId, artifact: ArtifactId) -> WrappedDataKey:
        async with self._keyring.database.read(tenant) as session:
            wrapped = await store.data_key(session, artifact)
        if wrapped is None:
            raise CiphertextRejected("the artifact has no data key")
        return wrapped

    async def _unwrap(self, tenant: TenantId, wrapped: WrappedDataKey) -> DataKey:
        return unwrap_data_key(await self._keyring.key(tenant, Purpose.ARTIFACTS, wrapped.key_version), wrapped)
