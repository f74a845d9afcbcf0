"""Routes of shares: which other tenants may invoke a model of the caller's own."""

import uuid
from typing import Annotated, Final

from fastapi import Path, Request, Response

from maas_gateway.admin import examples
from maas_gateway.admin.callers import Caller, Gate
from maas_gateway.admin.paging import ById, next_cursor
from maas_gateway.admin.quota_schemas import NewShare, ShareAnswer, ShareChange, SharesAnswer
from maas_gateway.admin.repeating import management_router
from maas_gateway.permissions import Permission
from maas_gateway.web.bodies import body_schema, read_body
from maas_gateway.web.description import needs

router: Final = management_router("Shares")

ShareId = Annotated[uuid.UUID, Path(description="The share's id.")]


@router.get("/shares", openapi_extra=needs(Permission.SHARE_READ))
async def list_shares(gateway: Gate, caller: Caller, asked: ById) -> SharesAnswer:
    """List what your tenant shares."""
    page = await gateway.shares.every(caller, asked)
    return SharesAnswer(shares=[ShareAnswer.of(limited) for limited in page], next_cursor=next_cursor(page))


@router.post(
    "/shares",
    status_code=201,
    openapi_extra=needs(Permission.SHARE_WRITE, body_schema(NewShare, examples.NEW_SHARE)),
)
async def add_share(request: Request, response: Response, gateway: Gate, caller: Caller) -> ShareAnswer:
    """Let another tenant invoke a model of yours, as `<your slug>.<model>`, within a quota of its own.

    It may read the model's metadata and predict; which of its principals may, it decides itself.
    """
    new = await read_body(request, NewShare)
    limited = await gateway.shares.add(caller, new.model, new.consumer, new.quota.quota())
    response.headers["Location"] = f"/admin/v1/shares/{limited.share.share_id}"
    return ShareAnswer.of(limited)


@router.get("/shares/{share_id}", openapi_extra=needs(Permission.SHARE_READ))
async def get_share(gateway: Gate, caller: Caller, share_id: ShareId) -> ShareAnswer:
    """Describe a share."""
    return ShareAnswer.of(await gateway.shares.one(caller, share_id))


@router.patch(
    "/shares/{share_id}", openapi_extra=needs(Permission.SHARE_WRITE, body_schema(ShareChange, {"enabled": False}))
)
async def change_share(request: Request, gateway: Gate, caller: Caller, share_id: ShareId) -> ShareAnswer:
    """Enable or disable a share, or write its quota anew; in force in every process within a second."""
    change = await read_body(request, ShareChange)
    quota = None if change.quota is None else change.quota.quota()
    return ShareAnswer.of(await gateway.shares.change(caller, share_id, is_enabled=change.enabled, quota=quota))


@router.delete("/shares/{share_id}", openapi_extra=needs(Permission.SHARE_WRITE), status_code=204)
async def remove_share(gateway: Gate, caller: Caller, share_id: ShareId) -> None:
    """End a share; in force in every process within a second."""
    await gateway.shares.remove(caller, share_id)
