"""Routes of shares: which other tenants may invoke a model of the caller's own."""

import uuid
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response

from maas_gateway.admin.callers import RESPONSES, Caller, Gate
from maas_gateway.admin.quota_schemas import NewShare, ShareAnswer, ShareChange, SharesAnswer
from maas_gateway.errors import InvalidRequest
from maas_gateway.web.bodies import body_schema, read_body

router: Final = APIRouter(prefix="/admin/v1", tags=["Shares"], responses=RESPONSES)

ShareId = Annotated[uuid.UUID, Path(description="The share's id.")]


@router.get("/shares")
async def list_shares(
    gateway: Gate,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=1_000, description="How many at most.")] = 100,
    cursor: Annotated[str | None, Query(max_length=64, description="`next_cursor` of the page before.")] = None,
) -> SharesAnswer:
    """List what your tenant shares."""
    try:
        after = None if cursor is None else uuid.UUID(cursor)
    except ValueError as cause:
        raise InvalidRequest("cursor: it is none that this list gave") from cause
    found = await gateway.shares.every(caller, after=after, limit=limit)
    following = str(found[-1].share.share_id) if len(found) == limit else None
    return SharesAnswer(shares=[ShareAnswer.of(limited) for limited in found], next_cursor=following)


@router.post(
    "/shares",
    status_code=201,
    openapi_extra=body_schema(
        NewShare,
        {
            "model": "breast-cancer",
            "consumer": "00000000-0000-4000-8000-000000000000",
            "quota": {"requests": {"amount": 600, "window_s": 60}, "lifetime_rows": 100_000},
        },
    ),
)
async def add_share(request: Request, response: Response, gateway: Gate, caller: Caller) -> ShareAnswer:
    """Let another tenant invoke a model of yours, as `<your slug>.<model>`, within a quota of its own.

    It may read the model's metadata and predict; which of its principals may, it decides itself.
    """
    new = await read_body(request, NewShare)
    limited = await gateway.shares.add(caller, new.model, new.consumer, new.quota.quota())
    response.headers["Location"] = f"/admin/v1/shares/{limited.share.share_id}"
    return ShareAnswer.of(limited)


@router.get("/shares/{share_id}")
async def get_share(gateway: Gate, caller: Caller, share_id: ShareId) -> ShareAnswer:
    """Describe a share."""
    return ShareAnswer.of(await gateway.shares.one(caller, share_id))


@router.patch("/shares/{share_id}", openapi_extra=body_schema(ShareChange, {"enabled": False}))
async def change_share(request: Request, gateway: Gate, caller: Caller, share_id: ShareId) -> ShareAnswer:
    """Enable or disable a share, or write its quota anew; in force in every process within a second."""
    change = await read_body(request, ShareChange)
    quota = None if change.quota is None else change.quota.quota()
    return ShareAnswer.of(await gateway.shares.change(caller, share_id, is_enabled=change.enabled, quota=quota))


@router.delete("/shares/{share_id}", status_code=204)
async def remove_share(gateway: Gate, caller: Caller, share_id: ShareId) -> None:
    """End a share; in force in every process within a second."""
    await gateway.shares.remove(caller, share_id)
