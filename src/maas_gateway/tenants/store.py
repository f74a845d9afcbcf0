"""Tenants in the database. Every change raises the topic `accounts`, which standings follow."""

from typing import Final

from sqlalchemy import RowMapping

from maas_gateway.database.paging import Asked, Page
from maas_gateway.database.sessions import UnscopedSession
from maas_gateway.errors import TenantNotFound
from maas_gateway.identifiers import TenantId
from maas_gateway.tenants.tables import TENANTS
from maas_gateway.tenants.tenant import Tenant, TenantState

TOPIC: Final = "accounts"


def _tenant(row: RowMapping) -> Tenant:
    return Tenant(TenantId(row["id"]), row["slug"], TenantState(row["state"]), row["created_at"])


async def add(session: UnscopedSession, tenant: Tenant) -> None:
    """Write a new tenant.

    Raises:
        Conflict: the slug is taken.
    """
    await session.insert(
        TENANTS, id=tenant.tenant_id, slug=tenant.slug, state=tenant.state.value, created_at=tenant.created_at
    )
    await session.bump(TOPIC)


async def by_id(session: UnscopedSession, tenant: TenantId) -> Tenant | None:
    """Return the tenant of that identifier."""
    row = await session.row(TENANTS, TENANTS.c.id == tenant)
    return None if row is None else _tenant(row)


async def by_slug(session: UnscopedSession, slug: str) -> Tenant | None:
    """Return the tenant of that slug."""
    row = await session.row(TENANTS, TENANTS.c.slug == slug)
    return None if row is None else _tenant(row)


async def every(session: UnscopedSession) -> tuple[Tenant, ...]:
    """Return all tenants by slug."""
    return tuple(_tenant(row) for row in await session.rows(TENANTS, order_by=[TENANTS.c.slug]))


async def page(session: UnscopedSession, asked: Asked, *, only: TenantId | None = None) -> Page[Tenant]:
    """Return a page of the tenants by slug, perhaps of one only."""
    where = [] if only is None else [TENANTS.c.id == only]
    rows, following = await session.page(TENANTS, *where, order_by=[TENANTS.c.slug], asked=asked)
    return Page(tuple(map(_tenant, rows)), following)


async def set_state(session: UnscopedSession, slug: str, state: TenantState) -> None:
    """Suspend, resume or erase a tenant.

    Raises:
        TenantNotFound: there is none of that slug, or it is erased and is to become something else.
    """
    where = [TENANTS.c.slug == slug]
    if state is not TenantState.ERASED:
        where.append(TENANTS.c.state != TenantState.ERASED.value)
    if not await session.update(TENANTS, *where, state=state.value):
        raise TenantNotFound(f"tenant '{slug}' not found")
    await session.bump(TOPIC)
