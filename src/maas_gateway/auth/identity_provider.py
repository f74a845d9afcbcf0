"""An identity provider: somebody else's issuer whose tokens a tenant takes, and what its claims are worth there.

Rules: a rule counts where its value stands in the claim; what a claim says and no rule names is worth nothing.
A claim is looked up by its whole name first and then, at its dots, member by member (`realm_access.roles`); it is
a text or a list of texts, and anything else says nothing.

Source: OpenID Connect Core 1.0 section 5.1.2 (further claims); RFC 9068 section 2.2.3.1 (groups, roles).
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from maas_gateway.identifiers import TenantId

MAX_NAME: Final = 32
MAX_PROVIDERS: Final = 16
"""How many a tenant may have."""


@dataclass(frozen=True, slots=True)
class ClaimRule:
    """Who has a value in the claim has a role.

    Attributes:
        value: as it stands in the claim, compared exactly.
        role: the role's name; `policy.roles` says what it permits.
        model: the model's name, or None for the whole tenant.
    """

    value: str
    role: str
    model: str | None = None


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """One identity provider of one tenant.

    Attributes:
        provider_id: its identifier; part of the identity of everybody who comes from it.
        tenant: whose principals its tokens' bearers are.
        name: what people call it, unique in the tenant.
        issuer: `iss` of its tokens, and where its discovery document lies.
        audience: what `aud` of its tokens must hold.
        claim: the name or the dotted path of the claim that rules look at.
        rules: what it is worth.
        is_enabled: whether its tokens count.
        created_at: when it was registered.
    """

    provider_id: uuid.UUID
    tenant: TenantId
    name: str
    issuer: str
    audience: str
    claim: str
    rules: tuple[ClaimRule, ...]
    is_enabled: bool
    created_at: datetime

    def bound(self, claims: Mapping[str, object]) -> Iterator[tuple[str, str | None]]:
        """Yield the role, and the model or None for the whole tenant, of every rule that counts for these claims."""
        values = _texts(_claim(claims, self.claim))
        return ((rule.role, rule.model) for rule in self.rules if rule.value in values)


def _claim(claims: Mapping[str, object], name: str) -> object:
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _texts(value: object) -> frozenset[str]:
    if isinstance(value, str):
        return frozenset({value})
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()
