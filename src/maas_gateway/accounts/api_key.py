"""An API key: a long-lived credential of one user or service account, for fewer permissions than it has."""

from dataclasses import dataclass
from datetime import datetime

from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.permissions import Permission


@dataclass(frozen=True, slots=True)
class APIKey:
    """One key, without its secret.

    Attributes:
        key_id: its identifier, the same across rotations; the middle of `maas_<id>_<secret>`.
        tenant: whose.
        subject: the user or service account that acts with it.
        name: what people call it.
        permissions: the most that it permits; what its subject is not permitted, it does not permit either.
        digest: SHA-256 of the secret, hexadecimal; the secret has 256 random bits.
        created_at: when it was made.
        expires_at: from when on it is worth nothing; None for never.
        is_enabled: whether it is worth anything.
        former_digest: of the secret before the last rotation; empty if there is none.
        former_until: until when that secret counts too.
    """

    key_id: str
    tenant: TenantId
    subject: SubjectId
    name: str
    permissions: frozenset[Permission]
    digest: str
    created_at: datetime
    expires_at: datetime | None = None
    is_enabled: bool = True
    former_digest: str = ""
    former_until: datetime | None = None
