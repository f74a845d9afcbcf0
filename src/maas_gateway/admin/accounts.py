"""Routes of users, service accounts and role bindings, in the caller's own tenant."""

import uuid
from typing import Annotated, Final

from fastapi import Path, Request, Response

from maas_gateway.admin.callers import TOO_MANY, Caller, Gate, address_of
from maas_gateway.admin.paging import ByName, BySubject, next_cursor
from maas_gateway.admin.repeating import management_router
from maas_gateway.admin.schemas import (
    AccountAnswer,
    AccountsAnswer,
    BindingAnswer,
    BindingChange,
    BindingsAnswer,
    Enabling,
    NewAccountAnswer,
    NewBinding,
    NewName,
    NewPasswordAnswer,
    PasswordChange,
)
from maas_gateway.permissions import Permission
from maas_gateway.web.bodies import body_schema, read_body
from maas_gateway.web.description import needs

router: Final = management_router("Accounts")

Subject = Annotated[uuid.UUID, Path(description="The account's id.")]
BindingId = Annotated[uuid.UUID, Path(description="The binding's id.")]


@router.get("/users", openapi_extra=needs(Permission.USER_READ))
async def list_users(gateway: Gate, caller: Caller, asked: ByName) -> AccountsAnswer:
    """List your tenant's users by name."""
    page = await gateway.credentials.users(caller, asked)
    return AccountsAnswer(accounts=[AccountAnswer.of(user) for user in page], next_cursor=next_cursor(page))


@router.post(
    "/users", status_code=201, openapi_extra=needs(Permission.USER_WRITE, body_schema(NewName, {"name": "ada"}))
)
async def add_user(request: Request, response: Response, gateway: Gate, caller: Caller) -> NewAccountAnswer:
    """Add a user; the password is told this once."""
    user, password = await gateway.credentials.add_user(caller, (await read_body(request, NewName)).name)
    response.headers["Location"] = f"/admin/v1/users/{user.subject}"
    return NewAccountAnswer(**AccountAnswer.of(user).model_dump(), password=password)


@router.get("/users/{subject}", openapi_extra=needs(Permission.USER_READ))
async def get_user(gateway: Gate, caller: Caller, subject: Subject) -> AccountAnswer:
    """Describe a user."""
    return AccountAnswer.of(await gateway.credentials.user(caller, subject))


@router.delete("/users/{subject}", openapi_extra=needs(Permission.USER_WRITE), status_code=204)
async def remove_user(gateway: Gate, caller: Caller, subject: Subject) -> None:
    """Delete a user with its roles and API keys; its tokens are worth nothing at once."""
    await gateway.credentials.remove_user(caller, subject)


@router.post("/users/{subject}:reset-password", openapi_extra=needs(Permission.USER_WRITE))
async def reset_password(gateway: Gate, caller: Caller, subject: Subject) -> NewPasswordAnswer:
    """Give a user a new password, told this once; whoever is signed in as that user is so no more."""
    return NewPasswordAnswer(password=await gateway.secrets.reset_password(caller, subject))


@router.post(
    "/password",
    status_code=204,
    openapi_extra=needs("any", body_schema(PasswordChange, {"current": "…", "new": "at least twelve"})),
    responses=TOO_MANY,
)
async def change_password(request: Request, gateway: Gate, caller: Caller) -> None:
    """Change your own password; every sign-in of yours ends, this one too.

    Who gives a wrong current password again and again waits longer and longer: 429, see Retry-After.
    """
    change = await read_body(request, PasswordChange)
    address = address_of(request)
    await gateway.secrets.change_password(caller, current=change.current, new=change.new, address=address)


@router.patch(
    "/users/{subject}",
    status_code=204,
    openapi_extra=needs(Permission.USER_WRITE, body_schema(Enabling, {"enabled": False})),
)
async def enable_user(request: Request, gateway: Gate, caller: Caller, subject: Subject) -> None:
    """Enable or disable a user; a disabled one's tokens are worth nothing at once, and for good."""
    enabling = await read_body(request, Enabling)
    await gateway.credentials.enable_user(caller, subject, is_enabled=enabling.enabled)


@router.get("/service-accounts", openapi_extra=needs(Permission.SERVICE_ACCOUNT_READ))
async def list_service_accounts(gateway: Gate, caller: Caller, asked: ByName) -> AccountsAnswer:
    """List your tenant's service accounts by name."""
    page = await gateway.credentials.service_accounts(caller, asked)
    return AccountsAnswer(accounts=[AccountAnswer.of(account) for account in page], next_cursor=next_cursor(page))


@router.post(
    "/service-accounts",
    status_code=201,
    openapi_extra=needs(Permission.SERVICE_ACCOUNT_WRITE, body_schema(NewName, {"name": "ci"})),
)
async def add_service_account(request: Request, response: Response, gateway: Gate, caller: Caller) -> NewAccountAnswer:
    """Add a service account; the secret is told this once."""
    name = (await read_body(request, NewName)).name
    account, secret = await gateway.credentials.add_service_account(caller, name)
    response.headers["Location"] = f"/admin/v1/service-accounts/{account.subject}"
    return NewAccountAnswer(**AccountAnswer.of(account).model_dump(), client_secret=secret)


@router.get("/service-accounts/{subject}", openapi_extra=needs(Permission.SERVICE_ACCOUNT_READ))
async def get_service_account(gateway: Gate, caller: Caller, subject: Subject) -> AccountAnswer:
    """Describe a service account."""
    return AccountAnswer.of(await gateway.credentials.service_account(caller, subject))


@router.delete("/service-accounts/{subject}", openapi_extra=needs(Permission.SERVICE_ACCOUNT_WRITE), status_code=204)
async def remove_service_account(gateway: Gate, caller: Caller, subject: Subject) -> None:
    """Delete a service account with its roles and API keys; its tokens are worth nothing at once."""
    await gateway.credentials.remove_service_account(caller, subject)


@router.post("/service-accounts/{subject}:rotate", openapi_extra=needs(Permission.SERVICE_ACCOUNT_WRITE))
async def rotate_service_account(gateway: Gate, caller: Caller, subject: Subject) -> NewAccountAnswer:
    """Give a service account a new secret, told this once; the old one is worth nothing at once."""
    account, secret = await gateway.secrets.rotate_secret(caller, subject)
    return NewAccountAnswer(**AccountAnswer.of(account).model_dump(), client_secret=secret)


@router.patch(
    "/service-accounts/{subject}",
    status_code=204,
    openapi_extra=needs(Permission.SERVICE_ACCOUNT_WRITE, body_schema(Enabling, {"enabled": False})),
)
async def enable_service_account(request: Request, gateway: Gate, caller: Caller, subject: Subject) -> None:
    """Enable or disable a service account; a disabled one's tokens are worth nothing at once."""
    enabling = await read_body(request, Enabling)
    await gateway.credentials.enable_service_account(caller, subject, is_enabled=enabling.enabled)


@router.get("/role-bindings", openapi_extra=needs(Permission.BINDING_READ))
async def list_bindings(gateway: Gate, caller: Caller, asked: BySubject) -> BindingsAnswer:
    """List who has which role in your tenant."""
    page = await gateway.credentials.bindings(caller, asked)
    return BindingsAnswer(bindings=[BindingAnswer.of(bound) for bound in page], next_cursor=next_cursor(page))


@router.post(
    "/role-bindings",
    status_code=201,
    openapi_extra=needs(
        Permission.BINDING_WRITE,
        body_schema(NewBinding, {"subject": "00000000-0000-4000-8000-000000000000", "role": "invoker"}),
    ),
)
async def bind(request: Request, response: Response, gateway: Gate, caller: Caller) -> BindingAnswer:
    """Give an account a role, on the whole tenant or on one model."""
    new = await read_body(request, NewBinding)
    binding = await gateway.credentials.bind(caller, new.subject, new.role, new.model)
    response.headers["Location"] = f"/admin/v1/role-bindings/{binding.binding_id}"
    return BindingAnswer.of(binding)


@router.get("/role-bindings/{binding_id}", openapi_extra=needs(Permission.BINDING_READ))
async def get_binding(gateway: Gate, caller: Caller, binding_id: BindingId) -> BindingAnswer:
    """Tell who has which role where by a binding."""
    return BindingAnswer.of(await gateway.credentials.binding(caller, binding_id))


@router.patch(
    "/role-bindings/{binding_id}",
    openapi_extra=needs(Permission.BINDING_WRITE, body_schema(BindingChange, {"role": "publisher"})),
)
async def change_binding(request: Request, gateway: Gate, caller: Caller, binding_id: BindingId) -> BindingAnswer:
    """Change the role of a binding; in force in every process within a second."""
    change = await read_body(request, BindingChange)
    return BindingAnswer.of(await gateway.credentials.rebind(caller, binding_id, change.role))


@router.delete("/role-bindings/{binding_id}", openapi_extra=needs(Permission.BINDING_WRITE), status_code=204)
async def unbind(gateway: Gate, caller: Caller, binding_id: BindingId) -> None:
    """Take a role away."""
    await gateway.credentials.unbind(caller, binding_id)
