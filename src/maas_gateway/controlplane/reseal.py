"""Sealing artifacts anew: a new data key, the blob rewritten beside the old one and swapped in by the row.

Rules: what rewrapping cannot undo, a data key that may have leaked, this does; whatever was sealed
before the act began is done, so a killed act goes on where it stopped; the row is swapped in one
transaction, and an old blob and its key go only when no process can still be about to open them.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.operate import LongAct, Operate, Report
from maas_gateway.controlplane.rotate import own_ring
from maas_gateway.errors import InvalidRequest
from maas_gateway.identifiers import ArtifactId, TenantId
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.keyring.key import Purpose
from maas_gateway.operations.operation import Operation, OperationState
from maas_gateway.permissions import Permission
from maas_gateway.principal import Principal
from maas_gateway.registry import store
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.model import Model, ModelVersion

KIND: Final = "reseal"
_GRACE_S: Final = 5.0
"""Longer than any process takes to notice a change of the registry."""


class Reseal:
    """The act of sealing a tenant's artifacts anew.

    Args:
        acting: what every act needs.
        artifacts: every tenant's sealed artifacts.
        data_keys: their wrapped keys.
        operate: runs long acts.
    """

    def __init__(self, acting: Acting, artifacts: Artifacts, data_keys: DataKeys, operate: Operate) -> None:
        self._acting = acting
        self._artifacts = artifacts
        self._data_keys = data_keys
        self._operate = operate
        operate.carry_out(KIND, self._steps)

    async def reseal(self, principal: Principal, purpose: str, *, is_dry_run: bool = False) -> Operation:
        """Give every artifact of the caller's tenant a new data key and a new blob.

        Raises:
            KeyNotFound: the caller has no such ring.
            InvalidRequest: it is not the ring that seals artifacts.
            PermissionDenied: the caller may not rotate it.
            Conflict: its artifacts are being resealed already.
        """
        own_ring(principal, purpose, Permission.KEYRING_ROTATE)
        if purpose != Purpose.ARTIFACTS:
            raise InvalidRequest("purpose: only 'artifacts' seals blobs; rotate the others")
        todo = await self._todo(principal.tenant)
        act = LongAct(
            tenant=principal.tenant,
            kind=KIND,
            subject={"purpose": purpose, "dry_run": is_dry_run},
            thing="artifacts",
            exclusive="artifacts",
            actor=principal.name,
            total=_n_artifacts(todo),
        )
        if is_dry_run:
            return self._operate.planned(act, state=OperationState.SUCCEEDED)
        return await self._operate.begin(act)

    async def _steps(self, operation: Operation, report: Report) -> None:
        old = await self._data_keys.made_before(operation.tenant, operation.created_at)
        todo = [v for v in await self._todo(operation.tenant) if any(a.artifact_id in old for a in v.artifacts)]
        replaced: list[ArtifactId] = []
        total = max(operation.total, _n_artifacts(todo))
        done = total - _n_artifacts(todo)
        for version in todo:
            replaced += await self._reseal(version)
            done += len(version.artifacts)
            await report(done, total)
        if replaced:
            await asyncio.sleep(_GRACE_S)
            await self._artifacts.discard(operation.tenant, replaced)

    async def _reseal(self, version: ModelVersion) -> Sequence[ArtifactId]:
        """Seal a version anew and have it name what is new; return what it does not name any more."""
        now: ModelVersion | None = version
        while now is not None:
            new = await self._artifacts.reseal(now)
            async with self._acting.database.write(now.tenant) as session:
                is_swapped = await store.swap_artifacts(session, now, new)
                found = await store.model(session, now.model)
            if is_swapped:
                self._acting.announce(store.TOPIC)
                return _ids(now)
            await self._artifacts.discard(now.tenant, _ids(new))
            now = _same(now, found)  # its manifest was signed by a newer key meanwhile, or it has gone
        return ()

    async def _todo(self, tenant: TenantId) -> Sequence[ModelVersion]:
        async with self._acting.database.read(tenant) as session:
            models = await store.models(session)
        return [version for model in models for version in model.versions]


def _same(version: ModelVersion, model: Model | None) -> ModelVersion | None:
    """Return the version as its model has it now; None if it has gone."""
    if model is None or model.model_id != version.model_id:
        return None
    return next((found for found in model.versions if found.version == version.version), None)


def _ids(version: ModelVersion) -> list[ArtifactId]:
    return [artifact.artifact_id for artifact in version.artifacts]


def _n_artifacts(versions: Sequence[ModelVersion]) -> int:
    return sum(len(version.artifacts) for version in versions)
