"""Whether a subject may still act, and what its bindings permit: asked for every request.

Rules: never trusted from a token; kept in memory only until anything about tenants or accounts
changes, which this process notices at once for its own acts and by the change counter for others'.
"""

from typing import Final

from maas_gateway.accounts.service_account import ServiceAccount
from maas_gateway.auth import store
from maas_gateway.database.engine import Database
from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.permissions import Permission
from maas_gateway.policy.roles import ROLES
from maas_gateway.principal import Principal

MAX_KEPT: Final = 100_000


class Standings:
    """What every subject's bindings permit now."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[tuple[TenantId, SubjectId], Principal] = {}
        self._generation = 0

    @property
    def generation(self) -> int:
        """Raised whenever anything may have changed; a `Principal` of an older one is worth nothing."""
        return self._generation

    def forget(self) -> None:
        """Ask the database again from now on."""
        self._kept.clear()
        self._generation += 1

    async def principal(self, tenant: TenantId, subject: SubjectId) -> Principal | None:
        """Return the subject with all that its bindings permit, or None where it may not act."""
        kept = self._kept.get((tenant, subject))
        if kept is not None:
            return kept
        generation = self._generation
        found = await store.account(self._database, tenant, subject)
        if found is None:
            return None
        principal = _principal(found)
        if generation == self._generation:  # else it may be out of date already
            if len(self._kept) >= MAX_KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[tenant, subject] = principal
        return principal


def _principal(found: store.Account) -> Principal:
    everywhere: set[Permission] = set()
    on_models: dict[str, frozenset[Permission]] = {}
    for binding in found.bindings:
        permits = ROLES.get(binding.role, frozenset())
        if binding.model is None:
            everywhere |= permits
        else:
            on_models[binding.model] = on_models.get(binding.model, frozenset()) | permits
    account = found.account
    is_service = isinstance(account, ServiceAccount)
    return Principal(
        tenant=account.tenant,
        subject=account.subject,
        kind="service-account" if is_service else "user",
        name=account.client_id if isinstance(account, ServiceAccount) else f"{account.name}@{found.slug}",
        everywhere=frozenset(everywhere),
        on_models=on_models,
    )
