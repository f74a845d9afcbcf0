"""A user: a person of one tenant, or an operator of the platform."""

from dataclasses import dataclass
from datetime import datetime

from maas_gateway.identifiers import SubjectId, TenantId


@dataclass(frozen=True, slots=True)
class User:
    """One user.

    Attributes:
        subject: its identifier, never reused.
        tenant: whose user it is; PLATFORM for operators.
        name: the part of the username before the '@', unique in the tenant.
        password_hash: argon2id in PHC string form.
        is_enabled: whether it may sign in and act.
        created_at: when it was added.
        generation: how often what it had proved itself with was worth nothing from then on; tokens and sign-ins
            of an earlier generation count no more.
    """

    subject: SubjectId
    tenant: TenantId
    name: str
    password_hash: str
    is_enabled: bool
    created_at: datetime
    generation: int = 0
