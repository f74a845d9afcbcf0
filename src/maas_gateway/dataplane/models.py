"""What a name means for a tenant: a model of its own, or one that another tenant shares with it."""

from maas_gateway.clock import Deadline
from maas_gateway.dataplane.reconcile import Reconciler
from maas_gateway.dataplane.shares import DOT, Shares
from maas_gateway.errors import LabelNotFound, ModelNotFound
from maas_gateway.identifiers import ModelRef, TenantId
from maas_gateway.registry.model import Model, ModelVersion


class Models:
    """The models that a tenant may name.

    Args:
        reconciler: every tenant's models as this process serves them.
        shares: which of others' a tenant may invoke.
    """

    def __init__(self, reconciler: Reconciler, shares: Shares) -> None:
        self._reconciler = reconciler
        self._shares = shares

    def find(self, tenant: TenantId, ref: ModelRef) -> ModelVersion | None:
        """Return the serving version of a model of the tenant's own, or None where that is not known yet; never waits."""
        return None if self._reconciler.is_stale else self._reconciler.find(tenant, ref)

    async def resolve(self, tenant: TenantId, ref: ModelRef, deadline: Deadline) -> ModelVersion:
        """Return the serving version that `ref` means.

        Raises:
            ModelNotFound: there is none such for the tenant.
            LabelNotFound: the model has no such label.
        """
        if DOT not in ref.name:
            return await self._reconciler.resolve(tenant, ref, deadline)
        share = await self._shares.share(tenant, ref.name)
        try:
            return await self._reconciler.resolve(share.owner, ModelRef(share.model, ref.version, ref.label), deadline)
        except LabelNotFound as cause:
            raise LabelNotFound(f"model '{ref}' not found") from cause
        except ModelNotFound as cause:
            raise ModelNotFound(f"model '{ref}' not found") from cause

    async def model(self, tenant: TenantId, name: str, deadline: Deadline) -> Model:
        """Return a model as it is served, staged and retired versions included.

        Raises:
            ModelNotFound: there is none such for the tenant.
        """
        if DOT not in name:
            return await self._reconciler.model(tenant, name, deadline)
        share = await self._shares.share(tenant, name)
        try:
            return await self._reconciler.model(share.owner, share.model, deadline)
        except ModelNotFound as cause:
            raise ModelNotFound(f"model '{name}' not found") from cause

    async def every(self, tenant: TenantId) -> list[tuple[str, Model]]:
        """Return the models that the tenant may name, its own first, each by the name that it uses."""
        await self._reconciler.refresh()
        found = [(model.name, model) for model in self._reconciler.published(tenant)]
        for name, share in sorted((await self._shares.every(tenant)).items()):
            model = self._reconciler.published_as(share.owner, share.model)
            if model is not None:
                found.append((name, model))
        return found
