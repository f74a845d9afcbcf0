"""Routes of publishers' keys, and of what a tenant demands of uploads and promotions."""

from typing import Annotated, Final

from fastapi import Path, Request, Response

from maas_gateway.admin import examples
from maas_gateway.admin.callers import Caller, Gate
from maas_gateway.admin.publishing_schemas import (
    NewPublisherKey,
    NewPublishingRules,
    PublisherKeyAnswer,
    PublisherKeysAnswer,
    PublishingRulesAnswer,
)
from maas_gateway.admin.repeating import management_router
from maas_gateway.permissions import Permission
from maas_gateway.web.bodies import body_schema, read_body
from maas_gateway.web.description import needs

router: Final = management_router("Publishing")

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
async def get_publishing_rules(gateway: Gate, caller: Caller) -> PublishingRulesAnswer:
    """Tell whether uploads must be signed, and whether a second person must promote them."""
    return PublishingRulesAnswer.of(await gateway.publishing.rules(caller))


@router.put(
    "/publishing-rules",
    openapi_extra=needs(Permission.POLICY_WRITE, body_schema(NewPublishingRules, examples.PUBLISHING_RULES)),
)
async def put_publishing_rules(request: Request, gateway: Gate, caller: Caller) -> PublishingRulesAnswer:
    """Say whether uploads must be signed, and whether whoever releases or promotes a version must be another than who
    uploaded it; a rule that is left out stays as it is.

    In force from the next act on. What was accepted before stays.
    """
    rules = await read_body(request, NewPublishingRules)
    said = await gateway.publishing.set_rules(
        caller, requires_signature=rules.requires_signature, requires_second_person=rules.requires_second_person
    )
    return PublishingRulesAnswer.of(said)
