"""Who is calling: one value, made once by authentication, passed on unchanged."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.permissions import Permission


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller and what its bindings and its token's scope allow.

    Attributes:
        tenant: the tenant it belongs to; PLATFORM for operators.
        subject: the user's or service account's identifier; of who has no account here, one made of its provider's
            identifier and its own.
        kind: what the subject is; `federated` has no account here: an identity provider answers for it.
        name: for logs and audit: `<name>@<slug>`, a client id, or `<sub>@<provider>.<slug>`; at most 128 characters.
        everywhere: permissions held on the whole tenant (or the platform).
        on_models: permissions held on single models, by model name.
    """

    tenant: TenantId
    subject: SubjectId
    kind: Literal["user", "service-account", "federated"]
    name: str
    everywhere: frozenset[Permission] = frozenset()
    on_models: Mapping[str, frozenset[Permission]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def anywhere(self) -> frozenset[Permission]:
        """What it is permitted on the whole tenant or on some model."""
        return self.everywhere.union(*self.on_models.values())
