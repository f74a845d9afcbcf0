"""Routes of tenants."""

from typing import Annotated, Final

from fastapi import Path, Request, Response

from maas_gateway.admin.callers import Caller, Gate
from maas_gateway.admin.paging import ByName, next_cursor
from maas_gateway.admin.quota_schemas import QuotaBody, TenantChange
from maas_gateway.admin.repeating import management_router
from maas_gateway.admin.schemas import (
    NewTenant,
    OnboardedAnswer,
    OperationAnswer,
    OwnerAnswer,
    TenantAnswer,
    TenantsAnswer,
)
from maas_gateway.operations.operation import OperationState
from maas_gateway.permissions import Permission
from maas_gateway.tenants.tenant import TenantState
from maas_gateway.web.bodies import body_schema, read_body
from maas_gateway.web.description import needs

router: Final = management_router("Tenants", below="/tenants")

Slug = Annotated[str, Path(description="The tenant's name in usernames.", examples=["acme"])]


@router.get("", openapi_extra=needs(Permission.TENANT_READ))
async def list_tenants(gateway: Gate, caller: Caller, asked: ByName) -> TenantsAnswer:
    """List tenants by name: all for an operator, your own otherwise."""
    page = await gateway.onboard.tenants(caller, asked)
    return TenantsAnswer(tenants=[TenantAnswer.of(tenant) for tenant in page], next_cursor=next_cursor(page))


@router.post(
    "",
    status_code=201,
    openapi_extra=needs(Permission.TENANT_WRITE, body_schema(NewTenant, {"slug": "acme", "owner": "owner"})),
)
async def onboard(request: Request, response: Response, gateway: Gate, caller: Caller) -> OnboardedAnswer:
    """Onboard a tenant; the first owner's password is told this once."""
    new = await read_body(request, NewTenant)
    tenant, owner = await gateway.onboard.onboard(caller, new.slug, new.owner)
    response.headers["Location"] = f"/admin/v1/tenants/{tenant.slug}"
    answer = TenantAnswer.of(tenant)
    return OnboardedAnswer(**answer.model_dump(), owner=OwnerAnswer(username=owner.username, password=owner.password))


@router.get("/{slug}", openapi_extra=needs(Permission.TENANT_READ))
async def get_tenant(gateway: Gate, caller: Caller, slug: Slug) -> TenantAnswer:
    """Describe a tenant."""
    return TenantAnswer.of(await gateway.onboard.tenant(caller, slug))


@router.patch(
    "/{slug}",
    openapi_extra=needs(Permission.TENANT_WRITE, body_schema(TenantChange, {"quota": {"concurrent": 64, "weight": 2}})),
)
async def change_tenant(request: Request, gateway: Gate, caller: Caller, slug: Slug) -> TenantAnswer:
    """Write how much a tenant as a whole may ask for, and its weight among others; what is left out is not limited."""
    change = await read_body(request, TenantChange)
    await gateway.quotas.limit_tenant(caller, slug, change.quota.quota())
    return TenantAnswer.of(await gateway.onboard.tenant(caller, slug))


@router.get("/{slug}/quota", openapi_extra=needs(Permission.TENANT_READ))
async def get_tenant_quota(gateway: Gate, caller: Caller, slug: Slug) -> QuotaBody:
    """Tell how much a tenant as a whole may ask for."""
    return QuotaBody.of(await gateway.quotas.of_tenant(caller, slug))


@router.post("/{slug}:suspend", openapi_extra=needs(Permission.TENANT_SUSPEND))
async def suspend(gateway: Gate, caller: Caller, slug: Slug) -> TenantAnswer:
    """Have none of a tenant's principals act."""
    return TenantAnswer.of(await gateway.onboard.set_state(caller, slug, TenantState.SUSPENDED))


@router.post("/{slug}:resume", openapi_extra=needs(Permission.TENANT_SUSPEND))
async def resume(gateway: Gate, caller: Caller, slug: Slug) -> TenantAnswer:
    """Have a suspended tenant's principals act again."""
    return TenantAnswer.of(await gateway.onboard.set_state(caller, slug, TenantState.ACTIVE))


@router.post("/{slug}:erase", openapi_extra=needs(Permission.TENANT_ERASE))
async def erase_tenant(gateway: Gate, caller: Caller, response: Response, slug: Slug) -> OperationAnswer:
    """Erase a tenant for good: its keys first, then models, accounts and blobs.

    Answers the operation; its `result` holds the signed certificate. 202 if some process is slow to
    let go: follow the operation at /admin/v1/operations/{id}.
    """
    operation = await gateway.erase.tenant(caller, slug)
    response.status_code = 202 if operation.state is OperationState.RUNNING else 200
    return OperationAnswer.of(operation)
