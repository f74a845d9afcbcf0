"""Taking a model in: looked at, converted, compared, sealed; nothing serves yet.

Rules: the caller is known and permitted before a byte is read; what arrives is never on a disk in the clear; a
publisher's signature is verified before anything looks into the file, and once more when its row is written; what is
sealed are the forms in which the model can be served (`examining`), never the upload itself; data keys first, then
blobs, then the row, which alone makes it exist. A version about which a scanner asks for a person begins in quarantine.
The same content under the same number is the same upload; other content is a conflict.
"""

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.arriving import Arriving, Incoming
from maas_gateway.controlplane.bounds import UploadBounds
from maas_gateway.controlplane.examining import Converter, Examined, Examiner
from maas_gateway.controlplane.four_eyes import behind
from maas_gateway.controlplane.publishing import publisher_of
from maas_gateway.errors import Conflict, InvalidRequest, PayloadTooLarge, StorageFull, Unsupported, VersionExists
from maas_gateway.identifiers import MAX_VERSION, ModelRef, check_model_name
from maas_gateway.keyring.statements import Statements
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize_model
from maas_gateway.principal import Principal
from maas_gateway.registry import store
from maas_gateway.registry.artifacts import Artifacts, Place
from maas_gateway.registry.manifest import KIND as MANIFEST
from maas_gateway.registry.manifest import manifest_of
from maas_gateway.registry.model import Artifact, ArtifactRole, Model, ModelVersion, Stage
from maas_gateway.registry.publishers import Publisher, PublisherSignature
from maas_gateway.registry.spool import Spool
from maas_gateway.scanning.catalogue import UPLOADS

FORMATS = tuple(UPLOADS)


@dataclass(frozen=True, slots=True)
class _Accepted:
    """An upload that is taken.

    Attributes:
        spool: what arrived.
        format: what it is.
        signature: what came with it.
        publisher: whose signature that is.
        examined: what was found, and the forms in which it can be served.
    """

    spool: Spool
    format: str
    signature: PublisherSignature | None
    publisher: Publisher | None
    examined: Examined


class Upload:
    """The act of taking a model in.

    Args:
        acting: what every act needs.
        artifacts: where sealed artifacts go.
        statements: signs manifests.
        convert: makes the plans, in a confined child.
        spool_folder: where uploads lie, sealed, while they are looked at.
        max_bytes: the largest upload accepted.
        bounds: what a tenant may store.
    """

    def __init__(
        self,
        acting: Acting,
        artifacts: Artifacts,
        statements: Statements,
        convert: Converter,
        *,
        spool_folder: Path,
        max_bytes: int,
        bounds: UploadBounds,
    ) -> None:
        self._statements = statements
        self._acting = acting
        self._artifacts = artifacts
        self._examiner = Examiner(convert, spool_folder=spool_folder)
        self._spool_folder = spool_folder
        self._max_bytes = max_bytes
        self._bounds = bounds

    async def upload(self, principal: Principal, ref: ModelRef, incoming: Incoming) -> tuple[ModelVersion, bool]:
        """Take a model in.

        Returns:
            The version, stage `staged` or `quarantined`; and whether it is new.

        Raises:
            ModelNotFound, PermissionDenied: the caller may not write this model.
            InvalidRequest: the name, the number, the sample's length or the digest is wrong.
            PayloadTooLarge: it, or its sample, is too large.
            ArtifactRefused: it is unsafe, broken, or cannot be served faithfully, or is not signed as the
                tenant demands or the caller says.
            VersionExists: the number is taken by other content.
            StorageFull: the tenant has stored as much as it may.
        """
        authorize_model(principal, Permission.MODEL_WRITE, ref)
        version = _checked(ref, incoming)
        arriving = Arriving(incoming)
        if arriving.model_bytes is not None and arriving.model_bytes > self._max_bytes:
            raise PayloadTooLarge(f"the model is larger than the {self._max_bytes} bytes that are accepted")
        await self._bounds.foresee(self._acting.database, principal.tenant, ref, arriving.model_bytes)
        with ExitStack() as held:
            spool = held.enter_context(Spool(self._spool_folder, max_bytes=self._max_bytes))
            sample = await arriving.sample()
            await spool.take(arriving.model())
            arriving.check_digest(spool.digest)
            async with self._acting.database.read(principal.tenant) as session:
                publisher = await publisher_of(session, spool.digest, incoming.signature)
            known = await self._known(principal, ref, spool.digest.hex(), incoming.runtime)
            if known is not None:
                return known, False
            examined = await self._examiner.examine(
                incoming.format, spool, held, sample=sample, runtime=incoming.runtime
            )
            model = await self._model(principal, ref.name)
            place = Place(principal.tenant, model.model_id, version)
            accepted = _Accepted(spool, incoming.format, incoming.signature, publisher, examined)
            try:
                staged = await self._seal(principal, ref, place, accepted)
            except VersionExists:  # came into being meanwhile: perhaps by the same upload, sent twice
                known = await self._known(principal, ref, spool.digest.hex(), incoming.runtime)
                if known is None:
                    raise
                return known, False
        self._acting.announce(store.TOPIC)
        return staged, True

    async def _seal(self, principal: Principal, ref: ModelRef, place: Place, accepted: _Accepted) -> ModelVersion:
        """Seal every form and write the row; leave none if anything fails."""
        sealed: list[Artifact] = []
        try:
            for form in accepted.examined.forms:
                role = ArtifactRole(form.plan.runtime)
                sealed.append(await self._artifacts.seal(place, role, form.content.chunks()))
            unsigned = self._version(principal, place, ref.name, accepted, sealed=tuple(sealed))
            async with self._acting.database.read(principal.tenant) as session:
                unsigned = replace(unsigned, uploaders=await behind(session, principal))
            said = manifest_of(unsigned, scanners=accepted.examined.scanners)
            staged = replace(unsigned, manifest=await self._statements.sign(MANIFEST, said))
            await self._write(principal, ref, staged, accepted.signature)
        except BaseException:
            gone = [artifact.artifact_id for artifact in sealed]
            await asyncio.shield(self._artifacts.discard(principal.tenant, gone))
            raise
        return staged

    async def _known(
        self, principal: Principal, ref: ModelRef, digest: str, runtime: str | None
    ) -> ModelVersion | None:
        async with self._acting.database.read(principal.tenant) as session:
            model = await store.model(session, ref.name)
        for version in () if model is None else model.versions:
            if version.version == ref.version:
                if version.digest == digest and runtime in {None, version.plan.runtime}:
                    return version
                if version.digest == digest:
                    raise VersionExists(
                        f"version {ref.version} of '{ref.name}' exists, with runtime '{version.plan.runtime}'; "
                        "take the next number"
                    )
                raise VersionExists(
                    f"version {ref.version} of '{ref.name}' exists with other content; take the next number"
                )
        return None

    async def _model(self, principal: Principal, name: str) -> Model:
        while True:
            try:
                async with self._acting.database.write(principal.tenant) as session:
                    return await store.ensure_model(session, name, self._acting.clock.now())
            except Conflict:  # another process has made it meanwhile: it is found now
                continue

    def _version(
        self, principal: Principal, place: Place, name: str, accepted: _Accepted, *, sealed: tuple[Artifact, ...]
    ) -> ModelVersion:
        examined = accepted.examined
        plan, *other_plans = (form.plan for form in examined.forms)
        return ModelVersion(
            tenant=place.tenant,
            model_id=place.model_id,
            model=name,
            version=place.version,
            stage=Stage.QUARANTINED if examined.asks_for_a_person else Stage.STAGED,
            format=accepted.format,
            digest=accepted.spool.digest.hex(),
            size_bytes=accepted.spool.size_bytes,
            signature=examined.signature,
            plan=plan,
            other_plans=tuple(other_plans),
            findings=examined.findings,
            artifacts=sealed,
            created_by=principal.name,
            created_at=self._acting.clock.now(),
            publisher=accepted.publisher,
        )

    async def _write(
        self, principal: Principal, ref: ModelRef, staged: ModelVersion, signature: PublisherSignature | None
    ) -> None:
        signed_by = None if staged.publisher is None else staged.publisher.key_id
        try:
            async with self._acting.database.write(principal.tenant) as session:
                # Its key may have been removed, or a signature demanded, while it was looked at.
                await publisher_of(session, bytes.fromhex(staged.digest), signature)
                await self._bounds.take(session, staged)
                await store.add_version(session, staged)
                await self._acting.record(
                    session,
                    principal,
                    "model.uploaded",
                    f"model {ref}",
                    digest=staged.digest,
                    bytes=staged.size_bytes,
                    publisher=signed_by,
                )
        except StorageFull:
            raise
        except Conflict as cause:
            raise VersionExists(f"version {ref.version} of '{ref.name}' came into being meanwhile") from cause


def _checked(ref: ModelRef, incoming: Incoming) -> int:
    check_model_name(ref.name)
    if ref.version is None or not 1 <= ref.version <= MAX_VERSION:
        raise InvalidRequest(f"version: a whole number from 1 to {MAX_VERSION}")
    if incoming.format not in FORMATS:
        raise Unsupported(f"format: '{incoming.format}' is not taken; this gateway takes {', '.join(FORMATS)}")
    return ref.version
