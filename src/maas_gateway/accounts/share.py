"""A share: the owner of a model lets another tenant invoke it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from maas_gateway.identifiers import TenantId


@dataclass(frozen=True, slots=True)
class Share:
    """One share.

    Attributes:
        share_id: its identifier.
        owner: whose model it is.
        model: what the owner calls it.
        consumer: who may invoke it, as `<owner's slug>.<model>`.
        is_enabled: whether it may be used.
        created_at: when it was made.
    """

    share_id: UUID
    owner: TenantId
    model: str
    consumer: TenantId
    is_enabled: bool
    created_at: datetime
