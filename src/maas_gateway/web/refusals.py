"""Every refusal leaves a record: who, what, why."""

from maas_gateway.audit.event import AuditEvent, Outcome, actor_of
from maas_gateway.errors import (
    GatewayError,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
    Refused,
    Unauthenticated,
)
from maas_gateway.identifiers import PLATFORM, TenantId
from maas_gateway.principal import Principal

_RECORDED = (Unauthenticated, PermissionDenied, NotFound, Refused, QuotaExceeded)


def refusal(error: GatewayError, principal: Principal | None, what: str) -> tuple[TenantId, AuditEvent] | None:
    """Return the record of a refusal and whose chain it belongs to; None where nobody was refused anything.

    Args:
        error: why.
        principal: who, where that is known.
        what: the method and the route's pattern, which callers cannot make up, or the thing named.
    """
    if not isinstance(error, _RECORDED):
        return None
    event = AuditEvent("request.refused", actor_of(principal), what, Outcome.REFUSED, error.slug)
    return PLATFORM if principal is None else principal.tenant, event
