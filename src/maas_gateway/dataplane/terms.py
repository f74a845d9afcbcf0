"""Under which terms a caller uses a model: whose it is, what limits hold, where its use is counted.

Rules: found out once for each caller and model, and kept until anything about tenants, accounts or quotas changes;
asking costs one look into a dictionary.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

from maas_gateway.database.engine import Database
from maas_gateway.dataplane.shares import DOT, Shares
from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.memory import Memory
from maas_gateway.principal import Principal
from maas_gateway.quotas import store
from maas_gateway.quotas.limits import Asked, Limits, limits_of
from maas_gateway.quotas.usage import Meter, Usage

MAX_KEPT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Terms:
    """One caller's terms for one model.

    Attributes:
        owner: whose model it is.
        own_name: what the owner calls it.
        limits: what holds; None where nothing is limited.
        meter: counts what is answered.
    """

    owner: TenantId
    own_name: str
    limits: Limits | None
    meter: Meter


class TermsBook:
    """Every caller's terms.

    Args:
        database: the main database.
        shares: which tenants may invoke whose models.
        usage: where use is counted.
    """

    def __init__(self, database: Database, shares: Shares, usage: Usage) -> None:
        self._database = database
        self._shares = shares
        self._usage = usage
        self._kept: Memory[tuple[SubjectId, str], Terms] = Memory(MAX_KEPT)
        self._weights: dict[TenantId, int] = {}

    def forget(self) -> None:
        """Ask the database again from now on."""
        self._kept.forget()
        self._weights.clear()

    def weight_of(self, tenant: TenantId) -> int:
        """Return how much of busy engines a tenant gets for each 1 of others, as far as it has asked for anything."""
        return self._weights.get(tenant, 1)

    def kept(self, principal: Principal, name: str) -> Terms | None:
        """Return a caller's terms for a model if they are known; never waits."""
        return self._kept.get((principal.subject, name))

    async def find(self, principal: Principal, name: str) -> Terms:
        """Return a caller's terms for a model; for one of its own tenant's whether or not there is such a model.

        Raises:
            ModelNotFound: nobody shares a model of that name with the caller's tenant.
        """
        return await self._kept.find((principal.subject, name), partial(self._ask, principal, name))

    async def _ask(self, principal: Principal, name: str) -> Terms:
        asked = Asked(principal.tenant, principal.subject, name, principal.tenant, name)
        if DOT in name:
            share = await self._shares.share(principal.tenant, name)
            asked = Asked(principal.tenant, principal.subject, name, share.owner, share.model, share.share_id)
        rules = await store.covering(self._database, asked)
        limits = limits_of(rules, asked)
        for rule in rules:
            if rule.tenant == asked.tenant and rule.quota.weight:
                self._weights[asked.tenant] = rule.quota.weight
        return Terms(asked.owner, asked.own_name, limits, self._usage.meter(asked))
