"""A service account: a program of one tenant, known by a client id and a secret."""

from dataclasses import dataclass
from datetime import datetime

from maas_gateway.identifiers import SubjectId, TenantId


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """One service account.

    Attributes:
        subject: its identifier, never reused.
        tenant: whose account it is.
        client_id: what it signs in with; unique in the deployment and random, so it tells nothing.
        name: what people call it, unique in the tenant.
        secret_digest: SHA-256 of the secret, hexadecimal. The secret has 256 random bits, so a
            slow hash would add nothing.
        is_enabled: whether it may sign in and act.
        created_at: when it was added.
        generation: how often what it had proved itself with was worth nothing from then on; tokens and sign-ins
            of an earlier generation count no more.
    """

    subject: SubjectId
    tenant: TenantId
    client_id: str
    name: str
    secret_digest: str
    is_enabled: bool
    created_at: datetime
    generation: int = 0
