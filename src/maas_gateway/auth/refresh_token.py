"""A refresh token, as it is stored."""

import uuid
from dataclasses import dataclass
from datetime import datetime

from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.permissions import Permission


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """One refresh token, without its text.

    Attributes:
        digest: SHA-256 of its text, hexadecimal.
        tenant: whose account.
        subject: which account.
        family: the sign-in that it goes back to.
        scope: the most that it may be exchanged for.
        expires_at: when its family ends.
        is_spent: whether it was exchanged.
    """

    digest: str
    tenant: TenantId
    subject: SubjectId
    family: uuid.UUID
    scope: frozenset[Permission]
    expires_at: datetime
    is_spent: bool = False
