"""Whether a subject may still act, and what its bindings permit: asked for every request.

Rules: never trusted from a token; kept in memory only until anything about tenants or accounts
changes, which this process notices at once for its own acts and by the change counter for others'.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from maas_gateway.accounts.service_account import ServiceAccount
from maas_gateway.auth import store
from maas_gateway.database.engine import Database
from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.memory import Memory
from maas_gateway.permissions import Permission
from maas_gateway.policy.roles import ROLES
from maas_gateway.principal import Principal

MAX_KEPT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Standing:
    """A subject that may act.

    Attributes:
        principal: with all that its bindings permit.
        generation: its account's; tokens of an earlier one are worth nothing.
    """

    principal: Principal
    generation: int


class Standings:
    """What every subject's bindings permit now."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: Memory[tuple[TenantId, SubjectId], Standing | None] = Memory(MAX_KEPT)

    def forget(self) -> None:
        """Ask the database again from now on."""
        self._kept.forget()

    async def of(self, tenant: TenantId, subject: SubjectId) -> Standing | None:
        """Return a subject's standing, or None where it may not act."""
        return await self._kept.find((tenant, subject), partial(self._ask, tenant, subject))

    async def _ask(self, tenant: TenantId, subject: SubjectId) -> Standing | None:
        found = await store.account(self._database, tenant, subject)
        return None if found is None else Standing(_principal(found), found.account.generation)


def permits(
    bound: Iterable[tuple[str, str | None]],
) -> tuple[frozenset[Permission], Mapping[str, frozenset[Permission]]]:
    """Return what roles permit together, on the whole tenant and on single models.

    Args:
        bound: each a role, and the model that it is bound to or None for the whole tenant.
    """
    everywhere: set[Permission] = set()
    on_models: dict[str, frozenset[Permission]] = {}
    for role, model in bound:
        given = ROLES.get(role, frozenset())
        if model is None:
            everywhere |= given
        else:
            on_models[model] = on_models.get(model, frozenset()) | given
    return frozenset(everywhere), on_models


def _principal(found: store.Account) -> Principal:
    everywhere, on_models = permits((binding.role, binding.model) for binding in found.bindings)
    account = found.account
    is_service = isinstance(account, ServiceAccount)
    return Principal(
        tenant=account.tenant,
        subject=account.subject,
        kind="service-account" if is_service else "user",
        name=account.client_id if isinstance(account, ServiceAccount) else f"{account.name}@{found.slug}",
        everywhere=everywhere,
        on_models=on_models,
    )
