"""Routes of publishers' keys, and of the rule that uploads must be signed."""

from typing import Annotated, Final

from fastapi import APIRouter, Path, Request, Response

from maas_gateway.admin import examples
from maas_gateway.admin.callers import RESPONSES, Caller, Gate
from maas_gateway.admin.publishing_schemas import (
    NewPublisherKey,
    PublisherKeyAnswer,
    PublisherKeysAnswer,
    PublishingRules,
)
from maas_gateway.permissions import Permission
from maas_gateway.web.bodies import body_schema, read_body
from maas_gateway.web.description import needs

router: Final = APIRouter(prefix="/admin/v1", tags=["Publishing"], responses=RESPONSES)

KeyId = Annotated[str, Path(description="The key's id: its thumbprint (RFC 7638).")]


@router.get("/publisher-keys", openapi_extra=needs(Permission.POLICY_READ))
async def list_publisher_keys(gateway: Gate, caller: Caller) -> PublisherKeysAnswer:
    """List the public keys whose signatures your tenant takes."""
    keys = await gateway.publishing.keys(caller)
    return PublisherKeysAnswer(publisher_keys=[PublisherKeyAnswer.of(key) for key in keys])


@router.post(
    "/publisher-keys",
    status_code=201,
    openapi_extra=needs(
        Permission.POLICY_WRITE, body_schema(NewPublisherKey, {"name": "release", "jwk": examples.PUBLIC_JWK})
    ),
)
async def add_publisher_key(request: Request, response: Response, gateway: Gate, caller: Caller) -> PublisherKeyAnswer:
    """Register a publisher's public key, ECDSA on P-256.

    Make one: `openssl ecparam -name prime256v1 -genkey -noout -out key.pem`, and give what
    `openssl pkey -in key.pem -pubout` prints. Who holds `key.pem` signs with it:
    `openssl dgst -sha256 -sign key.pem -out model.sig model.keras`.
    """
    new = await read_body(request, NewPublisherKey)
    key = await gateway.publishing.add_key(caller, new.name, jwk=new.jwk, pem=new.pem)
    response.headers["Location"] = f"/admin/v1/publisher-keys/{key.key_id}"
    return PublisherKeyAnswer.of(key)


@router.delete("/publisher-keys/{key_id}", openapi_extra=needs(Permission.POLICY_WRITE), status_code=204)
async def remove_publisher_key(gateway: Gate, caller: Caller, key_id: KeyId) -> None:
    """Have a key verify no upload any more; versions that it verified stay as they are."""
    await gateway.publishing.remove_key(caller, key_id)


@router.get("/publishing-rules", openapi_extra=needs(Permission.POLICY_READ))
async def get_publishing_rules(gateway: Gate, caller: Caller) -> PublishingRules:
    """Tell whether uploads must be signed."""
    return PublishingRules(requires_signature=await gateway.publishing.requires_signature(caller))


@router.put(
    "/publishing-rules",
    openapi_extra=needs(Permission.POLICY_WRITE, body_schema(PublishingRules, examples.PUBLISHING_RULES)),
)
async def put_publishing_rules(request: Request, gateway: Gate, caller: Caller) -> PublishingRules:
    """Say whether uploads must be signed, from the next one on; versions that are there already stay."""
    rules = await read_body(request, PublishingRules)
    await gateway.publishing.require_signature(caller, is_required=rules.requires_signature)
    return rules
