"""Models that other tenants share: what `<owner's slug>.<model>` means for a tenant.

Rules: a name with a dot is never a model of one's own; a share that does not exist, is disabled, or whose owner is not
active is the same as a model that does not exist; kept in memory until anything about tenants or accounts changes.
"""

from functools import partial
from typing import Final

from maas_gateway.accounts import store
from maas_gateway.accounts.share import Share
from maas_gateway.database.engine import Database
from maas_gateway.database.unscoped import read_all
from maas_gateway.errors import ModelNotFound
from maas_gateway.identifiers import TenantId
from maas_gateway.memory import Memory
from maas_gateway.tenants import store as tenants
from maas_gateway.tenants.tenant import TenantState

MAX_KEPT: Final = 10_000
DOT: Final = "."


class Shares:
    """What tenants may invoke of others."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: Memory[tuple[TenantId, str], Share | None] = Memory(MAX_KEPT)
        self._listed: Memory[TenantId, dict[str, Share]] = Memory(MAX_KEPT)

    def forget(self) -> None:
        """Ask the database again from now on."""
        self._kept.forget()
        self._listed.forget()

    async def share(self, consumer: TenantId, name: str) -> Share:
        """Return the share that a name with a dot means for a tenant.

        Raises:
            ModelNotFound: there is none.
        """
        found = await self._kept.find((consumer, name), partial(self._ask, consumer, name))
        if found is None:
            raise ModelNotFound(f"model '{name}' not found")
        return found

    async def every(self, consumer: TenantId) -> dict[str, Share]:
        """Return what a tenant may invoke of others, by the names that it uses."""
        return await self._listed.find(consumer, partial(self._ask_every, consumer)) or {}

    async def _ask(self, consumer: TenantId, name: str) -> Share | None:
        slug, _, model = name.partition(DOT)
        async with read_all(self._database) as session:
            owner = await tenants.by_slug(session, slug)
            if owner is None or owner.state is not TenantState.ACTIVE:
                return None
            shared = await store.shared_with(session, consumer, owner.tenant_id)
        return next((share for share in shared if share.model == model and share.is_enabled), None)

    async def _ask_every(self, consumer: TenantId) -> dict[str, Share]:
        async with read_all(self._database) as session:
            shared = await store.shared_with(session, consumer)
            owners = {share.owner: await tenants.by_id(session, share.owner) for share in shared}
        active = {key: owner.slug for key, owner in owners.items() if owner and owner.state is TenantState.ACTIVE}
        return {
            f"{active[share.owner]}{DOT}{share.model}": share
            for share in shared
            if share.is_enabled and share.owner in active
        }
