"""What authentication reads of tenants and accounts: who a caller is cannot be asked within a tenant."""

import uuid
from dataclasses import dataclass
from typing import Final

from maas_gateway.accounts import store as accounts
from maas_gateway.accounts.api_key import APIKey
from maas_gateway.accounts.binding import RoleBinding
from maas_gateway.accounts.service_account import ServiceAccount
from maas_gateway.accounts.user import User
from maas_gateway.database.engine import Database
from maas_gateway.database.unscoped import read_all
from maas_gateway.errors import InvalidRequest
from maas_gateway.identifiers import PLATFORM, PLATFORM_SLUG, TenantId, check_slug, check_username
from maas_gateway.tenants import store as tenants
from maas_gateway.tenants.tenant import TenantState

_MAX_CLIENT_ID: Final = 64


@dataclass(frozen=True, slots=True)
class Account:
    """An account that may act, and what is bound to it.

    Attributes:
        account: the user or service account, enabled.
        slug: its tenant's slug.
        bindings: its role bindings.
    """

    account: User | ServiceAccount
    slug: str
    bindings: tuple[RoleBinding, ...]


async def user(database: Database, username: str) -> User | None:
    """Return the enabled user `<name>@<slug>` of an active tenant, or None."""
    name, _, slug = username.rpartition("@")
    if not _may_exist(name, slug):
        return None
    async with read_all(database) as session:
        if slug == PLATFORM_SLUG:
            tenant = PLATFORM
        else:
            found = await tenants.by_slug(session, slug)
            if found is None or found.state is not TenantState.ACTIVE:
                return None
            tenant = found.tenant_id
        user = await accounts.user_named(session.within(tenant), name)
    return user if user is not None and user.is_enabled else None


async def client(database: Database, client_id: str) -> ServiceAccount | None:
    """Return the enabled service account of that client id in an active tenant, or None."""
    if len(client_id) > _MAX_CLIENT_ID or not (client_id.isascii() and client_id.isprintable()):
        return None
    async with read_all(database) as session:
        account = await accounts.by_client_id(session, client_id)
        if account is None or not account.is_enabled:
            return None
        tenant = await tenants.by_id(session, account.tenant)
    return account if tenant is not None and tenant.state is TenantState.ACTIVE else None


async def account(database: Database, tenant: TenantId, subject: uuid.UUID) -> Account | None:
    """Return a subject that may act now, or None: unknown, disabled, or of a tenant that is not active."""
    async with read_all(database) as session:
        slug = PLATFORM_SLUG
        if tenant != PLATFORM:
            found = await tenants.by_id(session, tenant)
            if found is None or found.state is not TenantState.ACTIVE:
                return None
            slug = found.slug
        within = session.within(tenant)
        account = await accounts.subject(within, subject)
        if account is None or not account.is_enabled:
            return None
        return Account(account, slug, await accounts.bindings(within, subject))


async def api_key(database: Database, key_id: str) -> APIKey | None:
    """Return the API key of that identifier, whichever tenant's."""
    async with read_all(database) as session:
        return await accounts.api_key(session, key_id)


async def rehash(database: Database, user: User, password_hash: str) -> None:
    """Replace a user's password hash by a stronger one of the same password."""
    async with database.write(user.tenant) as session:
        await accounts.rehash(session, user.subject, password_hash)


def _may_exist(name: str, slug: str) -> bool:
    """Tell whether an account can have that name at all; the database is not asked with what a stranger made up."""
    try:
        check_username(name)
        if slug != PLATFORM_SLUG:
            check_slug(slug)
    except InvalidRequest:
        return False
    return True
