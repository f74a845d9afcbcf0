"""A role binding: this subject has this role, on its whole tenant or on one model."""

import uuid
from dataclasses import dataclass

from maas_gateway.identifiers import SubjectId, TenantId


@dataclass(frozen=True, slots=True)
class RoleBinding:
    """One binding.

    Attributes:
        binding_id: its identifier.
        tenant: where it holds.
        subject: who has the role.
        role: the role's name; `policy.roles` says what it permits.
        model: the model's name, or None for the whole tenant.
    """

    binding_id: uuid.UUID
    tenant: TenantId
    subject: SubjectId
    role: str
    model: str | None = None
