"""A tenant: the owner of models, people, keys and records."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from maas_gateway.identifiers import TenantId


class TenantState(StrEnum):
    """Whether a tenant's principals may act."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    ERASED = "erased"


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant.

    Attributes:
        tenant_id: its identifier, never reused.
        slug: its name in usernames and in shares.
        state: active, suspended or erased; erased is for ever.
        created_at: when it was onboarded.
    """

    tenant_id: TenantId
    slug: str
    state: TenantState
    created_at: datetime
