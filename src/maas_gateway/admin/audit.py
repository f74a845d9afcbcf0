"""Routes of the audit record."""

from typing import Annotated, Final

from fastapi import Query

from maas_gateway.admin.callers import Caller, Gate
from maas_gateway.admin.repeating import management_router
from maas_gateway.admin.schemas import EventAnswer, EventsAnswer
from maas_gateway.permissions import Permission
from maas_gateway.web.description import needs

MAX_NUMBER: Final = 2**31 - 1
"""The largest number that a chain can reach."""

router: Final = management_router("Audit", below="/audit")


@router.get("/events", openapi_extra=needs(Permission.AUDIT_READ))
async def list_events(
    gateway: Gate,
    caller: Caller,
    cursor: Annotated[int, Query(ge=0, le=MAX_NUMBER, description="The number behind which to begin.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000, description="How many at most.")] = 100,
) -> EventsAnswer:
    """List the records of your own chain, oldest first."""
    records = await gateway.browse.events(caller, after=cursor, limit=limit)
    next_cursor = records[-1].number if len(records) == limit else None
    return EventsAnswer(events=[EventAnswer.of(record) for record in records], next_cursor=next_cursor)
