"""Routes of identity providers, in the caller's own tenant."""

import uuid
from typing import Annotated, Final

from fastapi import Path, Request, Response

from maas_gateway.admin import examples
from maas_gateway.admin.callers import Caller, Gate
from maas_gateway.admin.identity_provider_schemas import (
    IdentityProviderAnswer,
    IdentityProviderChange,
    IdentityProvidersAnswer,
    NewIdentityProvider,
)
from maas_gateway.admin.repeating import management_router
from maas_gateway.permissions import Permission
from maas_gateway.web.bodies import body_schema, read_body
from maas_gateway.web.description import needs

router: Final = management_router("Accounts")

ProviderId = Annotated[uuid.UUID, Path(description="The identity provider's id.")]


@router.get("/identity-providers", openapi_extra=needs(Permission.BINDING_READ))
async def list_identity_providers(gateway: Gate, caller: Caller) -> IdentityProvidersAnswer:
    """List the identity providers whose tokens your tenant takes."""
    found = await gateway.identity_providers.every(caller)
    return IdentityProvidersAnswer(identity_providers=[IdentityProviderAnswer.of(provider) for provider in found])


@router.post(
    "/identity-providers",
    status_code=201,
    openapi_extra=needs(Permission.BINDING_WRITE, body_schema(NewIdentityProvider, examples.NEW_IDENTITY_PROVIDER)),
)
async def add_identity_provider(
    request: Request, response: Response, gateway: Gate, caller: Caller
) -> IdentityProviderAnswer:
    """Register an OpenID Connect issuer, whose tokens for the audience count like our own from now on.

    Its bearers have no account here: what they may do is what the rules say of the values in the claim. The
    platform's operator lists the hosts that may be registered.
    """
    new = await read_body(request, NewIdentityProvider)
    provider = await gateway.identity_providers.add(
        caller,
        new.name,
        issuer=new.issuer,
        audience=new.audience,
        claim=new.claim,
        rules=[rule.rule() for rule in new.rules],
    )
    response.headers["Location"] = f"/admin/v1/identity-providers/{provider.provider_id}"
    return IdentityProviderAnswer.of(provider)


@router.get("/identity-providers/{provider_id}", openapi_extra=needs(Permission.BINDING_READ))
async def get_identity_provider(gateway: Gate, caller: Caller, provider_id: ProviderId) -> IdentityProviderAnswer:
    """Describe an identity provider."""
    return IdentityProviderAnswer.of(await gateway.identity_providers.one(caller, provider_id))


@router.patch(
    "/identity-providers/{provider_id}",
    openapi_extra=needs(Permission.BINDING_WRITE, body_schema(IdentityProviderChange, {"enabled": False})),
)
async def change_identity_provider(
    request: Request, gateway: Gate, caller: Caller, provider_id: ProviderId
) -> IdentityProviderAnswer:
    """Enable or disable an identity provider, or replace its rules; in force in every process within a second."""
    change = await read_body(request, IdentityProviderChange)
    rules = None if change.rules is None else [rule.rule() for rule in change.rules]
    found = await gateway.identity_providers.change(caller, provider_id, is_enabled=change.enabled, rules=rules)
    return IdentityProviderAnswer.of(found)


@router.delete("/identity-providers/{provider_id}", openapi_extra=needs(Permission.BINDING_WRITE), status_code=204)
async def remove_identity_provider(gateway: Gate, caller: Caller, provider_id: ProviderId) -> None:
    """Have an identity provider's tokens be worth nothing any more."""
    await gateway.identity_providers.remove(caller, provider_id)
