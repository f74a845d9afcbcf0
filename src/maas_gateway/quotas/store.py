"""Quotas, lifetime budgets and usage in the database. A quota's change raises the topic `quotas`."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, Final

from sqlalchemy import RowMapping, or_

from maas_gateway.database import paging
from maas_gateway.database.engine import Database
from maas_gateway.database.paging import Page
from maas_gateway.database.sessions import TenantSession
from maas_gateway.database.unscoped import read_all, write_all
from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.quotas.limits import Asked, Budget
from maas_gateway.quotas.quota import Quota, QuotaRule
from maas_gateway.quotas.tables import BUDGETS, QUOTAS, USAGE
from maas_gateway.quotas.usage import Use, UseLine

TOPIC: Final = "quotas"


def _rule(row: RowMapping) -> QuotaRule:
    return QuotaRule(
        rule_id=row["id"],
        tenant=TenantId(row["tenant_id"]),
        quota=Quota.from_json(row["quota"]),
        subject=SubjectId(uuid.UUID(row["subject"])) if row["subject"] else None,
        model=row["model"] or None,
        share=uuid.UUID(row["share"]) if row["share"] else None,
    )


def _line(row: RowMapping) -> UseLine:
    use = Use(row["requests"], row["rows"], row["compute_us"] / 1e6)
    return UseLine(row["day"], SubjectId(row["subject_id"]), row["model"], use)


async def add(session: TenantSession, rule: QuotaRule) -> None:
    """Write a new quota.

    Raises:
        Conflict: there is one for the same principal, model or share.
    """
    await session.insert(
        QUOTAS,
        id=rule.rule_id,
        subject=_text(rule.subject),
        model=rule.model or "",
        share=_text(rule.share),
        quota=rule.quota.to_json(),
    )
    await session.bump(TOPIC)


async def rule(session: TenantSession, rule_id: uuid.UUID) -> QuotaRule | None:
    """Return the tenant's quota of that identifier; a share's is not among them."""
    row = await session.row(QUOTAS, QUOTAS.c.id == rule_id, QUOTAS.c.share == "")
    return None if row is None else _rule(row)


async def rules_page(session: TenantSession, asked: paging.Asked) -> Page[QuotaRule]:
    """Return a page of the tenant's quotas, those of shares left out, in the order of their identifiers."""
    rows, following = await session.page(QUOTAS, QUOTAS.c.share == "", order_by=[QUOTAS.c.id], asked=asked)
    return Page(tuple(map(_rule, rows)), following)


async def tenants_own(session: TenantSession) -> QuotaRule | None:
    """Return the quota of the tenant as a whole."""
    row = await session.row(QUOTAS, QUOTAS.c.subject == "", QUOTAS.c.model == "", QUOTAS.c.share == "")
    return None if row is None else _rule(row)


async def of_shares(session: TenantSession) -> Mapping[uuid.UUID, Quota]:
    """Return the quotas of the tenant's shares, by share."""
    rows = await session.rows(QUOTAS, QUOTAS.c.share != "")
    return {uuid.UUID(row["share"]): Quota.from_json(row["quota"]) for row in rows}


async def set_of_share(session: TenantSession, share: uuid.UUID, quota: Quota) -> None:
    """Write a share's quota in the place of the one that it had."""
    await drop_of_share(session, share)
    await add(session, QuotaRule(uuid.uuid4(), session.tenant, quota, share=share))


async def drop_of_share(session: TenantSession, share: uuid.UUID) -> None:
    """Delete a share's quota."""
    await session.delete(QUOTAS, QUOTAS.c.share == str(share))
    await session.bump(TOPIC)


async def change(session: TenantSession, rule_id: uuid.UUID, quota: Quota) -> None:
    """Write what a quota allows from now on."""
    await session.update(QUOTAS, QUOTAS.c.id == rule_id, quota=quota.to_json())
    await session.bump(TOPIC)


async def drop(session: TenantSession, rule_id: uuid.UUID) -> bool:
    """Delete a quota; return whether there was such a one."""
    gone = await session.delete(QUOTAS, QUOTAS.c.id == rule_id)
    await session.bump(TOPIC)
    return bool(gone)


async def drop_of_subject(session: TenantSession, subject: uuid.UUID) -> None:
    """Delete the quotas of a principal that is being deleted; what it has spent stays."""
    await session.delete(QUOTAS, QUOTAS.c.subject == str(subject))
    await session.bump(TOPIC)


async def drop_on_model(session: TenantSession, model: str) -> None:
    """Delete the quotas on a model that is being erased; what was spent stays."""
    await session.delete(QUOTAS, QUOTAS.c.model == model)
    await session.bump(TOPIC)


async def drop_every(session: TenantSession) -> None:
    """Delete every quota, budget and line of usage of the session's tenant."""
    for table in (QUOTAS, BUDGETS, USAGE):
        await session.delete(table)
    await session.bump(TOPIC)


async def covering(database: Database, asked: Asked) -> Sequence[QuotaRule]:
    """Return every quota that may cover a caller of a model: its own tenant's and, through a share, the owner's."""
    async with read_all(database) as session:
        own = session.within(asked.tenant)
        subject = QUOTAS.c.subject.in_(["", str(asked.subject)])
        found = list(await own.rows(QUOTAS, subject, QUOTAS.c.model.in_(["", asked.model]), QUOTAS.c.share == ""))
        if asked.share is not None:
            of_model = (QUOTAS.c.subject == "") & (QUOTAS.c.model == asked.own_name) & (QUOTAS.c.share == "")
            of_share = QUOTAS.c.share == str(asked.share)
            found += await session.within(asked.owner).rows(QUOTAS, or_(of_model, of_share))
    return [_rule(row) for row in found]


async def reserve(database: Database, budget: Budget, n_rows: int) -> bool:
    """Count rows as spent if the budget has as many left; return whether it had."""
    where = (
        BUDGETS.c.holder == budget.holder,
        BUDGETS.c.model == budget.model,
        BUDGETS.c.spent_rows + n_rows <= budget.max_rows,
    )
    async with database.write(budget.tenant) as session:
        if await session.update(BUDGETS, *where, spent_rows=BUDGETS.c.spent_rows + n_rows):
            return True
        await session.insert_unless_there(BUDGETS, holder=budget.holder, model=budget.model, spent_rows=0)
        return bool(await session.update(BUDGETS, *where, spent_rows=BUDGETS.c.spent_rows + n_rows))


async def unreserve(database: Database, budget: Budget, n_rows: int) -> None:
    """Count rows as not spent after all."""
    where = (BUDGETS.c.holder == budget.holder, BUDGETS.c.model == budget.model)
    async with database.write(budget.tenant) as session:
        await session.update(BUDGETS, *where, spent_rows=BUDGETS.c.spent_rows - n_rows)


async def spent(session: TenantSession) -> Mapping[tuple[uuid.UUID, str], int]:
    """Return how many rows of lifetime budgets are spent, by holder and model."""
    return {(row["holder"], row["model"]): row["spent_rows"] for row in await session.rows(BUDGETS)}


async def add_usage(database: Database, day: date, used: Mapping[Asked, Use]) -> None:
    """Add what was used on a day, of any number of tenants, all of it or none."""
    async with write_all(database) as session:
        for asked in sorted(used, key=lambda asked: (asked.tenant, asked.subject, asked.model)):  # no two in a knot
            use = used[asked]
            await session.within(asked.tenant).insert_or_add(
                USAGE,
                key={"day": day, "subject_id": asked.subject, "model": asked.model},
                fixed={"owner_id": asked.owner, "own_name": asked.own_name},
                amounts={"requests": use.requests, "rows": use.rows, "compute_us": round(use.compute_s * 1e6)},
            )


async def usage_page(session: TenantSession, since: date, until: date, asked: paging.Asked) -> Page[UseLine]:
    """Return a page of what the tenant's principals used, by day, principal and model."""
    order = [USAGE.c.day, USAGE.c.subject_id, USAGE.c.model]
    within = (USAGE.c.day >= since, USAGE.c.day <= until)
    rows, following = await session.page(USAGE, *within, order_by=order, asked=asked)
    return Page(tuple(map(_line, rows)), following)


async def shared_usage(database: Database, owner: TenantId, since: date, until: date) -> Sequence[Mapping[str, Any]]:
    """Return what other tenants used of a tenant's models through shares, by day, tenant and model."""
    by, of = (USAGE.c.day, USAGE.c.tenant_id, USAGE.c.own_name), ("requests", "rows", "compute_us")
    where = (USAGE.c.owner_id == owner, USAGE.c.tenant_id != owner, USAGE.c.day >= since, USAGE.c.day <= until)
    async with read_all(database) as session:
        return [dict(row) for row in await session.sums(USAGE, *where, by=by, of=of)]


def _text(identifier: uuid.UUID | None) -> str:
    return "" if identifier is None else str(identifier)
