"""Throwing away a version that does not serve, and a model that has no version left.

Rules: the keys go first, then the rows, then the blobs, so that whatever comes to light later does not open; the
model's row is locked meanwhile, so that nothing is promoted whose keys are gone. Killed after the keys, it leaves a
version that does not open, which can be deleted again; killed after the rows, it leaves litter, which the sweep clears.
What serves is retired first; a whole model that serves is erased (`erase`), which waits until no process has it.
"""

from maas_gateway.accounts import store as accounts
from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.promote import found_version
from maas_gateway.errors import Conflict, IllegalTransition, ModelNotFound
from maas_gateway.identifiers import ModelRef
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize_model
from maas_gateway.principal import Principal
from maas_gateway.quotas import store as quotas
from maas_gateway.registry import store
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.model import Stage


class Delete:
    """The acts of throwing away.

    Args:
        acting: what every act needs.
        artifacts: sealed blobs.
        data_keys: their wrapped keys.
    """

    def __init__(self, acting: Acting, artifacts: Artifacts, data_keys: DataKeys) -> None:
        self._acting = acting
        self._artifacts = artifacts
        self._data_keys = data_keys

    async def version(self, principal: Principal, ref: ModelRef) -> None:
        """Delete a version that does not serve: its keys, rows and blobs.

        Raises:
            ModelNotFound: there is no such version for this caller.
            PermissionDenied: the caller may not write this model.
            IllegalTransition: it serves.
        """
        authorize_model(principal, Permission.MODEL_WRITE, ref)
        acting = self._acting
        async with acting.database.write(principal.tenant) as session:
            _, version = await found_version(session, ref)
            if version.stage is Stage.SERVING:
                raise IllegalTransition(f"version {version.version} of '{version.model}' serves; retire it first")
            gone = [artifact.artifact_id for artifact in version.artifacts]
            await self._data_keys.drop(principal.tenant, gone)
            await store.drop_version(session, version)
            detail = {"digest": version.digest, "stage": version.stage.value}
            await acting.record(session, principal, "model.version-deleted", f"model {ref}", **detail)
        acting.announce(store.TOPIC)
        await self._artifacts.discard(principal.tenant, gone)

    async def model(self, principal: Principal, name: str) -> None:
        """Delete a model that has no version, with the shares, bindings and quotas that name it.

        Raises:
            ModelNotFound: there is no such model for this caller.
            PermissionDenied: the caller may not write this model.
            Conflict: it has versions.
        """
        ref = ModelRef(name)
        authorize_model(principal, Permission.MODEL_WRITE, ref)
        acting = self._acting
        async with acting.database.write(principal.tenant) as session:
            model = await store.model(session, name, for_update=True)
            if model is None:
                raise ModelNotFound(f"model '{name}' not found")
            if model.versions:
                raise Conflict(
                    f"model '{name}' has {len(model.versions)} versions; delete them first, or erase the model with them"
                    f" (POST /admin/v1/models/{name}:erase)"
                )
            await store.drop_model(session, model)
            await accounts.drop_bindings_on(session, name)
            await quotas.drop_on_model(session, name)
            for share_id in await accounts.drop_shares_of(session, name):
                await quotas.drop_of_share(session, share_id)
            await acting.record(session, principal, "model.deleted", f"model {name}")
        for topic in (store.TOPIC, accounts.TOPIC, quotas.TOPIC):
            acting.announce(topic)
