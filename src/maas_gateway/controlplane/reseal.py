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
from maas_gateway.identifiers import TenantId
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.keyring.key import Purpose
from maas_gateway.operations.operation import Operation, OperationState
from maas_gateway.permissions import Permission
from maas_gateway.principal import Principal
from maas_gateway.registry import store
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.model import Artifact, ModelVersion

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
            total=len(todo),
        )
        if is_dry_run:
            return self._operate.planned(act, state=OperationState.SUCCEEDED)
        return await self._operate.begin(act)

    async def _steps(self, operation: Operation, report: Report) -> None:
        old = await self._data_keys.made_before(operation.tenant, operation.created_at)
        todo = [(v, a) for v, a in await self._todo(operation.tenant) if a.artifact_id in old]
        replaced: list[Artifact] = []
        n_before = operation.total - len(todo) if operation.total >= len(todo) else 0
        for done, (version, artifact) in enumerate(todo, start=1):
            await self._reseal(version, artifact)
            replaced.append(artifact)
            await report(n_before + done, n_before + len(todo))
        if replaced:
            await asyncio.sleep(_GRACE_S)
            await self._artifacts.discard(operation.tenant, replaced)

    async def _reseal(self, version: ModelVersion, old: Artifact) -> None:
        new = await self._artifacts.reseal(version, old.role)
        async with self._acting.database.write(version.tenant) as session:
            is_swapped = await store.swap_artifact(session, old, new)
        if not is_swapped:  # the version has gone meanwhile
            await self._artifacts.discard(version.tenant, [new])
        self._acting.announce(store.TOPIC)

    async def _todo(self, tenant: TenantId) -> Sequence[tuple[ModelVersion, Artifact]]:
        async with self._acting.database.read(tenant) as session:
            models = await store.models(session)
        return [(v, artifact) for model in models for v in model.versions for artifact in v.artifacts]
