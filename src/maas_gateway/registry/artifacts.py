"""Artifacts: sealed when they are written, verified and opened when they are read.

Rules: the data key's row is written first, then the blob; the caller writes the version's row last,
so that a crash leaves litter and never a version without its bytes. What is opened goes straight
into a `MemoryFile`; no plaintext touches a disk.
"""

import asyncio
import uuid
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from maas_gateway.crypto.envelope import ArtifactHeader, ArtifactOpener, ArtifactSealer, DataKey
from maas_gateway.identifiers import ArtifactId, ModelId, TenantId, new_id
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.registry.blobs import Blobs
from maas_gateway.registry.memory import MemoryFile
from maas_gateway.registry.model import Artifact, ArtifactRole, ModelVersion


@dataclass(frozen=True, slots=True)
class Place:
    """Which version an artifact belongs to."""

    tenant: TenantId
    model_id: ModelId
    version: int


class Artifacts:
    """Every tenant's sealed artifacts.

    Args:
        blobs: where the sealed bytes lie.
        data_keys: where their wrapped keys lie.
    """

    def __init__(self, blobs: Blobs, data_keys: DataKeys) -> None:
        self._blobs = blobs
        self._data_keys = data_keys

    async def seal(self, place: Place, role: ArtifactRole, chunks: Iterable[bytes]) -> Artifact:
        """Seal plaintext under a fresh data key and store it.

        Args:
            place: the version it will belong to.
            role: what it is to that version.
            chunks: the plaintext; iterated in a thread.
        """
        artifact = ArtifactId(new_id())
        header = _header(place, role, artifact)
        data_key = DataKey.generate()
        await self._data_keys.add(place.tenant, artifact, data_key, context=header.context())
        return await asyncio.to_thread(self._write, header, data_key, chunks)

    async def open(self, version: ModelVersion, role: ArtifactRole) -> MemoryFile:
        """Verify and open an artifact into memory.

        Raises:
            CiphertextRejected: the blob, its header or its wrapped key is not what was sealed.
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        artifact = version.artifact(role)
        header = _header(Place(version.tenant, version.model_id, version.version), role, artifact.artifact_id)
        data_key, context = await self._data_keys.open(version.tenant, artifact.artifact_id)
        return await asyncio.to_thread(self._read, header, data_key, context)

    async def discard(self, tenant: TenantId, artifacts: Iterable[Artifact]) -> None:
        """Delete artifacts that no version has: their keys first, then their blobs."""
        gone = list(artifacts)
        await self._data_keys.drop(tenant, [artifact.artifact_id for artifact in gone])
        for artifact in gone:
            await asyncio.to_thread(self._blobs.delete, str(artifact.artifact_id))

    async def clear_litter(self, known: Collection[uuid.UUID], *, age_s: float, now: datetime) -> int:
        """Delete what no version has and is older than `age_s`: wrapped keys first, then blobs; return how many blobs."""
        await self._data_keys.drop_litter(known, now - timedelta(seconds=age_s))
        names = {str(artifact) for artifact in known}

        def clear() -> int:
            litter = [name for name in self._blobs.older_than(age_s) if name not in names]
            for name in litter:
                self._blobs.delete(name)
            return len(litter)

        return await asyncio.to_thread(clear)

    def _write(self, header: ArtifactHeader, data_key: DataKey, chunks: Iterable[bytes]) -> Artifact:
        n_plain = 0
        sealer = ArtifactSealer(data_key, header)

        def sealed() -> Iterator[bytes]:
            nonlocal n_plain
            yield sealer.prefix()
            for chunk in chunks:
                n_plain += len(chunk)
                yield sealer.update(chunk)
            yield sealer.finish()

        n_sealed = self._blobs.write(str(header.artifact_id), sealed())
        return Artifact(ArtifactId(header.artifact_id), ArtifactRole(header.role), n_plain, n_sealed)

    def _read(self, header: ArtifactHeader, data_key: DataKey, context: bytes) -> MemoryFile:
        with self._blobs.open(str(header.artifact_id)) as source:
            opener = ArtifactOpener(data_key, header, context, source)
            return MemoryFile(opener.size_bytes).fill(opener.open_each)


def _header(place: Place, role: ArtifactRole, artifact: ArtifactId) -> ArtifactHeader:
    return ArtifactHeader(
        tenant_id=place.tenant,
        model_id=place.model_id,
        artifact_id=artifact,
        version=place.version,
        role=role.value,
    )
