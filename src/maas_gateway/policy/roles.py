"""What each role permits, and where it may be bound.

Rules: `operator` exists on the platform only and holds no `model:` permission; `publisher` and
`invoker` may be bound to one model; every other role holds on the whole tenant.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from maas_gateway.identifiers import PLATFORM, TenantId
from maas_gateway.permissions import Permission

_P = Permission

OPERATOR: Final = "operator"
OWNER: Final = "owner"

_PUBLISHER = frozenset({_P.MODEL_READ, _P.MODEL_WRITE, _P.MODEL_PROMOTE, _P.MODEL_PREDICT})
_PLATFORM_ONLY = frozenset({_P.TENANT_WRITE, _P.TENANT_SUSPEND})

ROLES: Final[Mapping[str, frozenset[Permission]]] = MappingProxyType(
    {
        OPERATOR: frozenset(
            {
                *(p for p in _P if p.resource in {"tenant", "keyring", "operation"}),
                _P.AUDIT_READ,
                _P.AUDIT_EXPORT,
            }
        ),
        OWNER: frozenset(p for p in _P if p not in _PLATFORM_ONLY),
        "publisher": _PUBLISHER,
        "invoker": frozenset({_P.MODEL_READ, _P.MODEL_PREDICT}),
        "auditor": frozenset({_P.AUDIT_READ, _P.MODEL_READ}),
        "key-custodian": frozenset({_P.KEYRING_READ, _P.KEYRING_ROTATE, _P.KEYRING_RETIRE, _P.OPERATION_READ}),
    }
)

_ON_ONE_MODEL = frozenset({"publisher", "invoker"})
_ON_PLATFORM = frozenset({OPERATOR, "auditor"})


def permitted(roles: Iterable[str]) -> frozenset[Permission]:
    """Return what roles permit together, wherever they are bound."""
    return frozenset().union(*(ROLES.get(role, frozenset()) for role in roles))


def may_be_bound(role: str, tenant: TenantId, *, to_model: bool) -> bool:
    """Tell whether `role` exists where someone wants to bind it."""
    if role not in ROLES:
        return False
    if tenant == PLATFORM:
        return role in _ON_PLATFORM and not to_model
    return role != OPERATOR and (role in _ON_ONE_MODEL or not to_model)
