"""Read-only listings: models, operations, the audit record."""

import uuid

from maas_gateway.audit import store as audit
from maas_gateway.audit.chain import AuditRecord
from maas_gateway.database.engine import Database
from maas_gateway.database.paging import FIRST, Asked, Page
from maas_gateway.errors import ModelNotFound, NotFound
from maas_gateway.identifiers import ModelRef
from maas_gateway.operations import store as operations
from maas_gateway.operations.operation import Operation
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize, authorize_model, authorize_thing
from maas_gateway.principal import Principal
from maas_gateway.registry import store as registry
from maas_gateway.registry.model import Model, ModelVersion


class Browse:
    """What a caller may look at, in its own tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def models(self, principal: Principal, asked: Asked = FIRST) -> Page[Model]:
        """Return a page of the models that the caller may read."""
        readable = [name for name, permits in principal.on_models.items() if Permission.MODEL_READ in permits]
        among = None if Permission.MODEL_READ in principal.everywhere else readable
        async with self._database.read(principal.tenant) as session:
            return await registry.models_page(session, asked, among=among)

    async def model(self, principal: Principal, name: str) -> Model:
        """Return one model.

        Raises:
            ModelNotFound: there is none of that name for this caller.
        """
        authorize_model(principal, Permission.MODEL_READ, ModelRef(name))
        async with self._database.read(principal.tenant) as session:
            model = await registry.model(session, name)
        if model is None:
            raise ModelNotFound(f"model '{name}' not found")
        return model

    async def version(self, principal: Principal, ref: ModelRef) -> ModelVersion:
        """Return one version.

        Raises:
            ModelNotFound: there is no such version for this caller.
        """
        for version in (await self.model(principal, ref.name)).versions:
            if version.version == ref.version:
                return version
        raise ModelNotFound(f"model '{ref}' not found")

    async def operation(self, principal: Principal, operation_id: uuid.UUID) -> Operation:
        """Return one operation.

        Raises:
            NotFound: there is none of that id for this caller.
        """
        absent = NotFound(f"operation '{operation_id}' not found")
        authorize_thing(principal, Permission.OPERATION_READ, principal.tenant, absent=absent)
        async with self._database.read(principal.tenant) as session:
            found = await operations.get(session, operation_id)
        if found is None:
            raise absent
        return found

    async def events(self, principal: Principal, *, after: int, limit: int) -> list[AuditRecord]:
        """Return records of the caller's own chain behind number `after`.

        Raises:
            PermissionDenied: the caller may not read it.
        """
        authorize(principal, Permission.AUDIT_READ)
        async with self._database.read(principal.tenant) as session:
            return await audit.records(session, after=after, limit=limit)
