"""Routes of keyrings and of the operations that rotate them."""

import uuid
from typing import Annotated, Final

from fastapi import Path, Query

from maas_gateway.admin.callers import Caller, Gate
from maas_gateway.admin.repeating import management_router
from maas_gateway.admin.schemas import KeyringAnswer, KeyringsAnswer, OperationAnswer
from maas_gateway.permissions import Permission
from maas_gateway.web.description import needs

router: Final = management_router("Keys")

PurposeName = Annotated[
    str,
    Path(
        description="`root`, `artifacts`, `token-signing`, `statements`, `audit` or `console-sessions`, of those that are yours.",
        examples=["artifacts"],
    ),
]
OperationId = Annotated[uuid.UUID, Path(description="The operation's id, as the act answered it.")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="The key version's number.")]


@router.get("/keyrings", openapi_extra=needs(Permission.KEYRING_READ))
async def list_keyrings(gateway: Gate, caller: Caller) -> KeyringsAnswer:
    """List your keyrings: versions, states, and what still uses each."""
    return KeyringsAnswer.model_validate({"keyrings": await gateway.rotate.describe(caller)})


@router.get("/keyrings/{purpose}", openapi_extra=needs(Permission.KEYRING_READ))
async def get_keyring(gateway: Gate, caller: Caller, purpose: PurposeName) -> KeyringAnswer:
    """Describe a keyring."""
    return KeyringAnswer.model_validate(await gateway.rotate.describe_one(caller, purpose))


@router.post("/keyrings/{purpose}:rotate", openapi_extra=needs(Permission.KEYRING_ROTATE))
async def rotate(
    gateway: Gate,
    caller: Caller,
    purpose: PurposeName,
    dry_run: Annotated[bool, Query(description="Only count what would be rewrapped.")] = False,  # noqa: FBT002
    holder: Annotated[
        str | None,
        Query(description="Of the root key: move it to this configured holder.", max_length=16),
    ] = None,
) -> OperationAnswer:
    """Give a keyring a new primary and rewrap what the old one wraps, while requests go on.

    Answers the operation: finished if it was short, else running; follow it at /admin/v1/operations/{id}.
    """
    operation = await gateway.rotate.rotate(caller, purpose, is_dry_run=dry_run, holder=holder)
    return OperationAnswer.of(operation)


@router.post("/keyrings/{purpose}:reseal", openapi_extra=needs(Permission.KEYRING_ROTATE))
async def reseal(
    gateway: Gate,
    caller: Caller,
    purpose: PurposeName,
    dry_run: Annotated[bool, Query(description="Only count what would be resealed.")] = False,  # noqa: FBT002
) -> OperationAnswer:
    """Seal every artifact of yours anew: a new data key and a new blob each, while requests go on.

    For a data key that may have leaked; a rotation changes only what wraps data keys.
    """
    operation = await gateway.reseal.reseal(caller, purpose, is_dry_run=dry_run)
    return OperationAnswer.of(operation)


@router.post("/keyrings/{purpose}/versions/{version}:retire", openapi_extra=needs(Permission.KEYRING_RETIRE))
async def retire(gateway: Gate, caller: Caller, purpose: PurposeName, version: Number) -> KeyringAnswer:
    """Have an old version open and verify nothing any more; refused while anything needs it."""
    return KeyringAnswer.model_validate(await gateway.rotate.retire(caller, purpose, version))


@router.post("/keyrings/{purpose}/versions/{version}:destroy", openapi_extra=needs(Permission.KEYRING_DESTROY))
async def destroy(gateway: Gate, caller: Caller, purpose: PurposeName, version: Number) -> KeyringAnswer:
    """Delete a retired version for ever; refused while anything needs it."""
    return KeyringAnswer.model_validate(await gateway.rotate.destroy(caller, purpose, version))


@router.get("/operations/{operation_id}", openapi_extra=needs(Permission.OPERATION_READ))
async def get_operation(gateway: Gate, caller: Caller, operation_id: OperationId) -> OperationAnswer:
    """Tell how far a long act is."""
    return OperationAnswer.of(await gateway.browse.operation(caller, operation_id))


@router.post("/operations/{operation_id}:cancel", openapi_extra=needs(Permission.OPERATION_CANCEL))
async def cancel_operation(gateway: Gate, caller: Caller, operation_id: OperationId) -> OperationAnswer:
    """Have a long act stop at its next step; what it has done stays, and beginning it again goes on from there."""
    return OperationAnswer.of(await gateway.operate.cancel(caller, operation_id))
