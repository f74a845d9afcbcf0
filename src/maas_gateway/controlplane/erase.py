"""Erasing a model or a tenant for good: its keys first, then everything else; answered by a signed certificate.

Rules: an erasure that has begun ends, also when its process dies: it is a long act whose every step
may be repeated, and whose certificate names what was there when it began. Keys are destroyed first, so that whatever comes to light later does not open. Then
rows and blobs go, in any order. Every process has dropped the keys and unloaded the models (it says
so, or its lease of five seconds has run out) before the certificate is made. A tenant's name stays
taken, and its audit records stay: they say who did what.
"""

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from maas_gateway.accounts import store as accounts
from maas_gateway.audit.event import AuditEvent
from maas_gateway.auth import store as auth
from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.operate import LongAct, Operate, Report
from maas_gateway.database.engine import Database
from maas_gateway.database.unscoped import read_all, write_all
from maas_gateway.errors import ModelNotFound, TenantNotFound
from maas_gateway.idempotency import store as idempotency
from maas_gateway.identifiers import PLATFORM, ArtifactId, KeyId, ModelRef, TenantId
from maas_gateway.keyring import store as keys
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.keyring.statements import Statements
from maas_gateway.operations import store as operations
from maas_gateway.operations.operation import Operation
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize, authorize_model
from maas_gateway.principal import Principal
from maas_gateway.quotas import store as quotas
from maas_gateway.registry import store as registry
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.model import Model
from maas_gateway.tenants import store as tenants
from maas_gateway.tenants.tenant import Tenant, TenantState
from maas_gateway.workers import store as workers
from maas_gateway.workers.store import Followed

KIND: Final = "erase"
CERTIFICATE: Final = "maas-erasure"
_DOOMED: Final = "artifacts_to_erase"
_ASK_EVERY_S: Final = 0.1
_ANSWER_WITHIN_S: Final = 25.0


@dataclass(frozen=True, slots=True)
class Stores:
    """Where what is to be erased lies.

    Attributes:
        key_store: the key store's database.
        keyring: all rings.
        data_keys: artifacts' keys.
        artifacts: sealed blobs.
        statements: signs the certificate.
    """

    key_store: Database
    keyring: Keyring
    data_keys: DataKeys
    artifacts: Artifacts
    statements: Statements


class Erase:
    """The acts of erasing."""

    def __init__(self, acting: Acting, stores: Stores, operate: Operate) -> None:
        self._acting = acting
        self._stores = stores
        self._operate = operate
        operate.carry_out(KIND, self._steps)

    async def model(self, principal: Principal, name: str) -> Operation:
        """Erase a model: all versions, labels, keys and blobs.

        Returns:
            The operation, whose result is the certificate; still running if some process is slow to let go.

        Raises:
            ModelNotFound: there is no such model for this caller.
            PermissionDenied: the caller may not erase it.
            Conflict: it is being erased already.
        """
        authorize_model(principal, Permission.MODEL_ERASE, ModelRef(name))
        async with self._acting.database.read(principal.tenant) as session:
            model = await registry.model(session, name)
        if model is None:
            raise ModelNotFound(f"model '{name}' not found")
        subject: dict[str, object] = {"model": name, "model_id": str(model.model_id)}
        return await self._begin(principal, principal.tenant, subject, f"model {name}")

    async def tenant(self, principal: Principal, slug: str) -> Operation:
        """Erase a tenant: its keys, models, accounts; none of its principals acts from the first moment on.

        Returns:
            The operation, whose result is the certificate; still running if some process is slow to let go.

        Raises:
            TenantNotFound: there is none of that slug for this caller.
            PermissionDenied: the caller may not erase it.
            Conflict: it is being erased already.
        """
        tenant = await self._tenant(slug)
        may_know = Permission.TENANT_READ in principal.everywhere
        if tenant is None or not may_know or principal.tenant not in {PLATFORM, tenant.tenant_id}:
            raise TenantNotFound(f"tenant '{slug}' not found")
        authorize(principal, Permission.TENANT_ERASE)
        subject: dict[str, object] = {"tenant": slug, "tenant_id": str(tenant.tenant_id)}
        return await self._begin(principal, PLATFORM, subject, f"tenant {slug}")

    async def _begin(
        self, principal: Principal, owner: TenantId, subject: Mapping[str, object], thing: str
    ) -> Operation:
        act = LongAct(owner, KIND, subject, thing=thing, exclusive=thing, actor=principal.name, total=4)
        return await self._operate.begin(act, wait_s=_ANSWER_WITHIN_S)

    async def _steps(self, operation: Operation, report: Report) -> Mapping[str, object]:
        owner, model_id = operation.tenant, operation.subject.get("model_id")
        if model_id is None:
            owner = TenantId(uuid.UUID(str(operation.subject["tenant_id"])))
            await self._shut_out(str(operation.subject["tenant"]))
        artifacts = await self._doomed(operation, owner, model_id)
        destroyed = await self._destroy_keys(owner, artifacts, whole=model_id is None)
        await report(1, 4)
        late = await self._drop_rows(owner, model_id) - artifacts  # taken in while the keys were being destroyed
        await report(2, 4)
        await self._stores.artifacts.discard(owner, artifacts | late)
        destroyed += _names(late)
        await self._stores.key_store.purge()
        await report(3, 4)
        confirmed = await self._wait_for_workers()
        return await self._certificate(operation, destroyed, n_artifacts=len(artifacts | late), n_workers=confirmed)

    async def _shut_out(self, slug: str) -> None:
        """Have none of a tenant's principals act any more."""
        async with write_all(self._acting.database) as session:
            await tenants.set_state(session, slug, TenantState.ERASED)
        self._acting.announce(tenants.TOPIC)

    async def _doomed(self, operation: Operation, owner: TenantId, model_id: object) -> frozenset[ArtifactId]:
        """Return the artifacts that there were when the erasure began; whoever takes it up finds the same."""
        if operation.result is not None:
            return frozenset(ArtifactId(uuid.UUID(name)) for name in cast("list[str]", operation.result[_DOOMED]))
        async with self._acting.database.read(owner) as session:
            found = _artifacts(_erased(await registry.models(session), model_id))
        async with self._acting.database.write(operation.tenant) as session:
            await operations.note(session, operation.operation_id, {_DOOMED: sorted(map(str, found))})
        return found

    async def _destroy_keys(self, owner: TenantId, artifacts: frozenset[ArtifactId], *, whole: bool) -> list[str]:
        """Destroy, and return the names of what was destroyed."""
        destroyed = _names(artifacts)
        await self._stores.data_keys.drop(owner, list(artifacts))
        if whole:
            async with self._stores.key_store.write(owner) as session:
                gone = await keys.destroy_every(session, self._acting.clock.now())
            destroyed += [str(KeyId(owner, version.purpose.value, version.version)) for version in gone]
        else:
            async with self._stores.key_store.write(owner) as session:
                await keys.touch(session)
        self._acting.announce(keys.TOPIC)
        return destroyed

    async def _drop_rows(self, owner: TenantId, model_id: object) -> frozenset[ArtifactId]:
        """Delete, and return the artifacts whose rows there were."""
        async with self._acting.database.write(owner) as session:
            models = _erased(await registry.models(session), model_id)
            for model in models:
                await registry.drop_model(session, model)
                await accounts.drop_bindings_on(session, model.name)
                await quotas.drop_on_model(session, model.name)
                for share_id in await accounts.drop_shares_of(session, model.name):
                    await quotas.drop_of_share(session, share_id)
            if model_id is None:
                await registry.drop_publishing(session)
                await accounts.drop_every(session)
                await auth.drop_every(session)
                await quotas.drop_every(session)
                await idempotency.drop_every(session)
        if model_id is None:
            async with write_all(self._acting.database) as everywhere:
                for share in await accounts.shared_with(everywhere, owner):
                    within = everywhere.within(share.owner)
                    await accounts.drop_share(within, share.share_id)
                    await quotas.drop_of_share(within, share.share_id)
        self._acting.announce(registry.TOPIC)
        self._acting.announce(accounts.TOPIC)
        self._acting.announce(quotas.TOPIC)
        return _artifacts(models)

    async def _wait_for_workers(self) -> int:
        """Wait until every process has let go or has no lease any more; return how many said so."""
        main, key_store = self._acting.database, self._stores.key_store
        followed = Followed(
            (await main.counters()).get(registry.TOPIC, 0), (await key_store.counters()).get(keys.TOPIC, 0)
        )
        while True:
            n_behind, n_there = await workers.behind(main, followed, self._acting.clock.now())
            if not n_behind:
                return n_there
            await asyncio.sleep(_ASK_EVERY_S)

    async def _certificate(
        self, operation: Operation, destroyed: list[str], *, n_artifacts: int, n_workers: int
    ) -> Mapping[str, object]:
        async with self._acting.database.write(operation.tenant) as session:
            event = AuditEvent("erasure.certified", operation.actor, operation.thing, detail={"keys": len(destroyed)})
            record = await self._acting.audit.record(session, event)
        body: dict[str, object] = {
            "what": {name: str(value) for name, value in operation.subject.items()},
            "operation": str(operation.operation_id),
            "began_at": operation.created_at.isoformat(),
            "erased_at": self._acting.clock.now().isoformat(),
            "keys_destroyed": sorted(destroyed),
            "n_artifacts": n_artifacts,
            "n_workers_confirmed": n_workers,
            "audit_record": {"number": record.number, "digest": record.digest.hex()},
        }
        return {"certificate": await self._stores.statements.sign(CERTIFICATE, body), "says": body}

    async def _tenant(self, slug: str) -> Tenant | None:
        async with read_all(self._acting.database) as session:
            return await tenants.by_slug(session, slug)


def _erased(models: Iterable[Model], model_id: object) -> list[Model]:
    """Return the model of that identifier; all of them if there is none."""
    return [model for model in models if model_id in {None, str(model.model_id)}]


def _artifacts(models: Iterable[Model]) -> frozenset[ArtifactId]:
    return frozenset(a.artifact_id for model in models for version in model.versions for a in version.artifacts)


def _names(artifacts: Iterable[ArtifactId]) -> list[str]:
    return [f"data-key/{artifact}" for artifact in artifacts]
