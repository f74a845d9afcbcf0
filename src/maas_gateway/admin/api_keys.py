"""Routes of API keys, in the caller's own tenant."""

from datetime import timedelta
from typing import Annotated, Final

from fastapi import Path, Request, Response

from maas_gateway.accounts.api_key import APIKey
from maas_gateway.admin.api_key_schemas import (
    APIKeyAnswer,
    APIKeyChange,
    APIKeyRotation,
    APIKeysAnswer,
    NewAPIKey,
    NewAPIKeyAnswer,
)
from maas_gateway.admin.callers import Caller, Gate
from maas_gateway.admin.paging import ByNameAndId, next_cursor
from maas_gateway.admin.repeating import management_router
from maas_gateway.permissions import Permission
from maas_gateway.web.bodies import body_schema, read_body
from maas_gateway.web.description import needs

router: Final = management_router("Accounts")

KeyId = Annotated[str, Path(description="The key's id, the middle of `maas_<id>_<secret>`.")]


@router.get("/api-keys", openapi_extra=needs(Permission.API_KEY_READ))
async def list_api_keys(gateway: Gate, caller: Caller, asked: ByNameAndId) -> APIKeysAnswer:
    """List your tenant's API keys by name."""
    page = await gateway.api_keys.every(caller, asked)
    return APIKeysAnswer(api_keys=[APIKeyAnswer.of(key) for key in page], next_cursor=next_cursor(page))


@router.post(
    "/api-keys",
    status_code=201,
    openapi_extra=needs(
        Permission.API_KEY_WRITE, body_schema(NewAPIKey, {"name": "ci", "permissions": ["model:read", "model:predict"]})
    ),
)
async def add_api_key(request: Request, response: Response, gateway: Gate, caller: Caller) -> NewAPIKeyAnswer:
    """Make an API key for yourself or for a service account; its text is told this once.

    Send it as `Authorization: Bearer maas_…` or as `X-API-Key: maas_…`. It permits what it says and its account
    is permitted too, for as long as that is so.
    """
    new = await read_body(request, NewAPIKey)
    key, text = await gateway.api_keys.add(
        caller, new.name, new.scope(), subject=new.subject, expires_at=new.expires_at
    )
    response.headers["Location"] = f"/admin/v1/api-keys/{key.key_id}"
    return _told(key, text)


@router.get("/api-keys/{key_id}", openapi_extra=needs(Permission.API_KEY_READ))
async def get_api_key(gateway: Gate, caller: Caller, key_id: KeyId) -> APIKeyAnswer:
    """Describe an API key."""
    return APIKeyAnswer.of(await gateway.api_keys.one(caller, key_id))


@router.patch(
    "/api-keys/{key_id}", openapi_extra=needs(Permission.API_KEY_WRITE, body_schema(APIKeyChange, {"enabled": False}))
)
async def change_api_key(request: Request, gateway: Gate, caller: Caller, key_id: KeyId) -> APIKeyAnswer:
    """Enable or disable an API key, or say when it ends; in force in every process within a second."""
    change = await read_body(request, APIKeyChange)
    key = await gateway.api_keys.change(caller, key_id, is_enabled=change.enabled, expires_at=change.expires_at)
    return APIKeyAnswer.of(key)


@router.post(
    "/api-keys/{key_id}:rotate",
    openapi_extra=needs(Permission.API_KEY_WRITE, body_schema(APIKeyRotation, {"grace_s": 3600})),
)
async def rotate_api_key(request: Request, gateway: Gate, caller: Caller, key_id: KeyId) -> NewAPIKeyAnswer:
    """Give an API key a new secret, told this once; its id stays, and the old secret counts for `grace_s` more."""
    rotation = await read_body(request, APIKeyRotation)
    key, text = await gateway.api_keys.rotate(caller, key_id, grace=timedelta(seconds=rotation.grace_s))
    return _told(key, text)


@router.delete("/api-keys/{key_id}", openapi_extra=needs(Permission.API_KEY_WRITE), status_code=204)
async def remove_api_key(gateway: Gate, caller: Caller, key_id: KeyId) -> None:
    """Have an API key be worth nothing any more, for good."""
    await gateway.api_keys.remove(caller, key_id)


def _told(key: APIKey, text: str) -> NewAPIKeyAnswer:
    return NewAPIKeyAnswer(**APIKeyAnswer.of(key).model_dump(), api_key=text)
