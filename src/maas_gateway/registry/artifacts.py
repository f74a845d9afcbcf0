"""Artifacts: sealed when they are written, verified and opened when they are read.

Rules: the data key's row is written first, then the blob; the caller writes the version's row last,
so that a crash leaves litter and never a version without its bytes. What is opened goes straight
into a `MemoryFile`; no plaintext touches a disk.
"""

import asyncio
import hashlib
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from maas_gateway.crypto.envelope import ArtifactHeader, ArtifactOpener, ArtifactSealer, DataKey
from maas_gateway.errors import CiphertextRejected, SignatureRejected
from maas_gateway.identifiers import ArtifactId, ModelId, TenantId, new_id
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.keyring.statements import Statements
from maas_gateway.registry.blobs import Blobs
from maas_gateway.registry.manifest import KIND, check_manifest, digest_in, resealed
from maas_gateway.registry.memory import MemoryFile
from maas_gateway.registry.model import Artifact, ArtifactRole, ModelVersion

_PIECE_BYTES: Final = 8 << 20
_N_THREADS: Final = 2
"""What opening takes of a machine: twice as quick as one, and cores are left for those who predict."""


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
        statements: verifies manifests.
    """

    def __init__(self, blobs: Blobs, data_keys: DataKeys, statements: Statements) -> None:
        self._blobs = blobs
        self._data_keys = data_keys
        self._statements = statements

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

    async def open(self, version: ModelVersion, role: str) -> MemoryFile:
        """Verify and open an artifact into memory.

        Args:
            version: as the registry's rows say.
            role: of its artifact, as a row says.

        Raises:
            SignatureRejected: the version's manifest does not verify, or says something else than its rows.
            CiphertextRejected: the blob, its header or its wrapped key is not what was sealed.
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        size_bytes = check_manifest(await self.manifest(version), version, role)
        header, data_key, context = await self._key(version, role)
        return await asyncio.to_thread(self._read, header, data_key, context, size_bytes)

    async def manifest(self, version: ModelVersion) -> Mapping[str, object]:
        """Return a version's manifest, verified.

        Raises:
            SignatureRejected: it has none, or it does not verify.
        """
        if not version.manifest:
            raise SignatureRejected(f"version {version.version} of '{version.model}' has no manifest; upload it again")
        return await self._statements.verify(KIND, version.manifest)

    async def reseal(self, version: ModelVersion) -> ModelVersion:
        """Seal every artifact of a version anew, under other data keys, beside the old blobs; streamed.

        Returns:
            The version with the new artifacts, and a manifest that names them.

        Raises:
            SignatureRejected, CiphertextRejected: it is not what was sealed.
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        manifest = await self.manifest(version)
        sealed: list[Artifact] = []
        try:
            for artifact in version.artifacts:
                check_manifest(manifest, version, artifact.role)
                sealed.append(await self._sealed_anew(version, artifact.role))
                _require_digest(sealed[-1], digest_in(manifest, artifact.role))
            signed = await self._statements.sign(KIND, resealed(manifest, sealed))
        except BaseException:
            await asyncio.shield(self.discard(version.tenant, [artifact.artifact_id for artifact in sealed]))
            raise
        return replace(version, artifacts=tuple(sealed), manifest=signed)

    async def _sealed_anew(self, version: ModelVersion, role: ArtifactRole) -> Artifact:
        header, data_key, context = await self._key(version, role)
        with self._blobs.open(str(header.artifact_id)) as source:
            opener = ArtifactOpener(data_key, header, context, source)
            place = Place(version.tenant, version.model_id, version.version)
            return await self.seal(place, role, _pieces(opener))

    async def digest(self, version: ModelVersion, role: ArtifactRole) -> str:
        """Return SHA-256, hexadecimal, of an artifact's plaintext as it is stored; streamed, for `doctor --deep`.

        Raises:
            SignatureRejected, CiphertextRejected: it is not what was sealed.
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        check_manifest(await self.manifest(version), version, role)
        return await self.unsigned_digest(version, role)

    async def unsigned_digest(self, version: ModelVersion, role: ArtifactRole) -> str:
        """Return the same for a version that has no manifest yet.

        Raises:
            CiphertextRejected: it is not what was sealed.
            KeyHolderUnavailable: the root-key holder does not answer.
        """
        header, data_key, context = await self._key(version, role)

        def digested() -> str:
            digest = hashlib.sha256()
            with self._blobs.open(str(header.artifact_id)) as source:
                ArtifactOpener(data_key, header, context, source).open_each(lambda _start, piece: digest.update(piece))
            return digest.hexdigest()

        return await asyncio.to_thread(digested)

    async def _key(self, version: ModelVersion, role: str) -> tuple[ArtifactHeader, DataKey, bytes]:
        artifact = version.artifact(role)
        header = _header(Place(version.tenant, version.model_id, version.version), role, artifact.artifact_id)
        return header, *await self._data_keys.open(version.tenant, artifact.artifact_id)

    async def discard(self, tenant: TenantId, artifacts: Iterable[ArtifactId]) -> None:
        """Delete artifacts that no version has: their keys first, then their blobs."""
        gone = list(artifacts)
        await self._data_keys.drop(tenant, gone)
        for artifact in gone:
            await asyncio.to_thread(self._blobs.delete, str(artifact))

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
        digest = hashlib.sha256()
        sealer = ArtifactSealer(data_key, header)

        def sealed() -> Iterator[bytes]:
            nonlocal n_plain
            yield sealer.prefix()
            for chunk in chunks:
                n_plain += len(chunk)
                digest.update(chunk)
                yield sealer.update(chunk)
            yield sealer.finish()

        n_sealed = self._blobs.write(str(header.artifact_id), sealed())
        role = ArtifactRole(header.role)
        return Artifact(ArtifactId(header.artifact_id), role, n_plain, n_sealed, digest.hexdigest())

    def _read(self, header: ArtifactHeader, data_key: DataKey, context: bytes, size_bytes: int) -> MemoryFile:
        with self._blobs.open(str(header.artifact_id)) as source:
            opener = ArtifactOpener(data_key, header, context, source)
            if opener.size_bytes != size_bytes:
                raise CiphertextRejected("a sealed artifact does not have the size that its manifest says")
            return MemoryFile(size_bytes).fill(partial(opener.open_each, n_threads=_N_THREADS))


def _require_digest(artifact: Artifact, digest: str) -> None:
    if artifact.digest != digest:
        raise CiphertextRejected("an artifact's plaintext does not have the digest that its manifest says")


def _pieces(opener: ArtifactOpener) -> Iterator[bytes]:
    for offset in range(0, opener.size_bytes, _PIECE_BYTES):
        yield opener.read_at(offset, _PIECE_BYTES)


def _header(place: Place, role: str, artifact: ArtifactId) -> ArtifactHeader:
    return ArtifactHeader(
        tenant_id=place.tenant,
        model_id=place.model_id,
        artifact_id=artifact,
        version=place.version,
        role=str(role),
    )
