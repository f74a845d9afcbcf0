"""Routes of quotas and usage, in the caller's own tenant."""

import uuid
from datetime import date
from typing import Annotated, Final

from fastapi import Path, Query, Request, Response

from maas_gateway.admin.callers import Caller, Gate
from maas_gateway.admin.paging import ByDay, ById, next_cursor
from maas_gateway.admin.quota_schemas import (
    BudgetLine,
    BudgetsAnswer,
    NewQuota,
    QuotaChange,
    QuotaRuleAnswer,
    QuotasAnswer,
    SharedUsageAnswer,
    SharedUsageLine,
    UsageAnswer,
    UsageLine,
)
from maas_gateway.admin.repeating import management_router
from maas_gateway.permissions import Permission
from maas_gateway.web.bodies import body_schema, read_body
from maas_gateway.web.description import needs

router: Final = management_router("Quotas and usage")

QuotaId = Annotated[uuid.UUID, Path(description="The quota's id.")]
Since = Annotated[date | None, Query(alias="from", description="The first day (UTC); none means 30 days before `to`.")]
Until = Annotated[date | None, Query(alias="to", description="The last day (UTC); none means today.")]


@router.get("/quotas", openapi_extra=needs(Permission.POLICY_READ))
async def list_quotas(gateway: Gate, caller: Caller, asked: ById) -> QuotasAnswer:
    """List quotas of your principals and models, and the one that the platform has written for your tenant."""
    page = await gateway.quotas.every(caller, asked)
    return QuotasAnswer(quotas=[QuotaRuleAnswer.of(rule) for rule in page], next_cursor=next_cursor(page))


@router.post(
    "/quotas",
    status_code=201,
    openapi_extra=needs(
        Permission.POLICY_WRITE,
        body_schema(NewQuota, {"model": "breast-cancer", "quota": {"requests": {"amount": 600, "window_s": 60}}}),
    ),
)
async def add_quota(request: Request, response: Response, gateway: Gate, caller: Caller) -> QuotaRuleAnswer:
    """Limit a principal, a model, or a principal on a model; every rate that covers a caller holds.

    A model's rates and places are for all its callers together; its `lifetime_rows` are each principal's own, unless
    a quota of that principal on that model says otherwise. Beyond a limit, predictions are answered 429.
    """
    new = await read_body(request, NewQuota)
    rule = await gateway.quotas.add(caller, new.quota.quota(), subject=new.subject, model=new.model)
    response.headers["Location"] = f"/admin/v1/quotas/{rule.rule_id}"
    return QuotaRuleAnswer.of(rule)


@router.get("/quotas/{quota_id}", openapi_extra=needs(Permission.POLICY_READ))
async def get_quota(gateway: Gate, caller: Caller, quota_id: QuotaId) -> QuotaRuleAnswer:
    """Describe a quota."""
    return QuotaRuleAnswer.of(await gateway.quotas.one(caller, quota_id))


@router.patch(
    "/quotas/{quota_id}",
    openapi_extra=needs(Permission.POLICY_WRITE, body_schema(QuotaChange, {"quota": {"lifetime_rows": 10_000}})),
)
async def change_quota(request: Request, gateway: Gate, caller: Caller, quota_id: QuotaId) -> QuotaRuleAnswer:
    """Write what a quota allows from now on; what is left out of it is limited no more."""
    change = await read_body(request, QuotaChange)
    return QuotaRuleAnswer.of(await gateway.quotas.change(caller, quota_id, change.quota.quota()))


@router.delete("/quotas/{quota_id}", openapi_extra=needs(Permission.POLICY_WRITE), status_code=204)
async def remove_quota(gateway: Gate, caller: Caller, quota_id: QuotaId) -> None:
    """Have a quota limit nobody any more; rows spent of a lifetime budget stay spent."""
    await gateway.quotas.remove(caller, quota_id)


@router.get("/budgets", openapi_extra=needs(Permission.USAGE_READ))
async def list_budgets(gateway: Gate, caller: Caller) -> BudgetsAnswer:
    """Tell what is spent of lifetime budgets."""
    spent = await gateway.quotas.spent(caller)
    return BudgetsAnswer(
        budgets=[BudgetLine(holder=holder, model=model, spent_rows=n) for (holder, model), n in sorted(spent.items())]
    )


@router.get("/usage", openapi_extra=needs(Permission.USAGE_READ))
async def list_usage(
    gateway: Gate, caller: Caller, asked: ByDay, since: Since = None, until: Until = None
) -> UsageAnswer:
    """Tell what your principals used, by day, principal and model: predictions answered, rows, engine time.

    What was answered within the last second or so may be missing still.
    """
    page = await gateway.quotas.usage(caller, since, until, asked)
    return UsageAnswer(usage=[UsageLine.of(line) for line in page], next_cursor=next_cursor(page))


@router.get("/usage/shares", openapi_extra=needs(Permission.USAGE_READ))
async def list_shared_usage(
    gateway: Gate, caller: Caller, since: Since = None, until: Until = None
) -> SharedUsageAnswer:
    """Tell what other tenants used of your models through shares, by day, tenant and model."""
    lines = [
        SharedUsageLine(
            day=line["day"],
            consumer=line["tenant_id"],
            model=line["own_name"],
            requests=line["requests"],
            rows=line["rows"],
            compute_ms=round(int(line["compute_us"]) / 1e3, 3),
        )
        for line in await gateway.quotas.shared_usage(caller, since, until)
    ]
    return SharedUsageAnswer(usage=lines)
