"""What authentication keeps, and what it reads of tenants and accounts: who a caller is cannot be asked within a tenant.

What is revoked, and every change of an identity provider, raises the topic `accounts`, which everything that is
remembered of callers follows.
"""

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import RowMapping

from maas_gateway.accounts import store as accounts
from maas_gateway.accounts.api_key import APIKey
from maas_gateway.accounts.binding import RoleBinding
from maas_gateway.accounts.service_account import ServiceAccount
from maas_gateway.accounts.user import User
from maas_gateway.auth.attempts import MAX_REMEMBERED, Address, Attempts, Counted, Keys
from maas_gateway.auth.identity_provider import ClaimRule, IdentityProvider
from maas_gateway.auth.refresh_token import RefreshToken
from maas_gateway.auth.tables import (
    IDENTITY_PROVIDERS,
    REFRESH_FAMILIES,
    REFRESH_TOKENS,
    REVOKED_TOKENS,
    SIGN_IN_ADDRESSES,
    SIGN_IN_ATTEMPTS,
)
from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import TenantSession
from maas_gateway.database.unscoped import read_all, write_all
from maas_gateway.errors import InvalidRequest
from maas_gateway.identifiers import PLATFORM, PLATFORM_SLUG, SubjectId, TenantId, check_slug, check_username
from maas_gateway.permissions import Permission
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


async def add_family(session: TenantSession, first: RefreshToken, *, generation: int) -> None:
    """Write a new sign-in, with its first token.

    Args:
        session: in which its account is locked.
        first: the token.
        generation: the account's.
    """
    of = {"subject_id": first.subject, "generation": generation, "expires_at": first.expires_at}
    await session.insert(REFRESH_FAMILIES, id=first.family, **of)
    await add_refresh_token(session, first)


async def lock_family(session: TenantSession, family: uuid.UUID) -> int | None:
    """Return the generation of the account in which it signed in, or None where that sign-in has ended.

    Until the transaction ends, nobody else spends a token of it or ends it.
    """
    row = await session.row(REFRESH_FAMILIES, REFRESH_FAMILIES.c.id == family, for_update=True)
    return None if row is None else int(row["generation"])


async def add_refresh_token(session: TenantSession, token: RefreshToken) -> None:
    """Write a new refresh token."""
    await session.insert(
        REFRESH_TOKENS,
        digest=token.digest,
        subject_id=token.subject,
        family=token.family,
        scope=sorted(token.scope),
        expires_at=token.expires_at,
    )


async def refresh_token(database: Database, digest: str) -> RefreshToken | None:
    """Return the refresh token of that digest, whichever tenant's, spent ones too."""
    async with read_all(database) as session:
        row = await session.row(REFRESH_TOKENS, REFRESH_TOKENS.c.digest == digest)
    if row is None:
        return None
    return RefreshToken(
        digest=row["digest"],
        tenant=TenantId(row["tenant_id"]),
        subject=SubjectId(row["subject_id"]),
        family=row["family"],
        scope=frozenset(map(Permission, row["scope"])),
        expires_at=row["expires_at"],
        is_spent=row["spent_at"] is not None,
    )


async def spend_refresh_token(session: TenantSession, token: RefreshToken, now: datetime) -> bool:
    """Mark a token as spent; return whether it was there and was not."""
    is_unspent = (REFRESH_TOKENS.c.digest == token.digest, REFRESH_TOKENS.c.spent_at.is_(None))
    return bool(await session.update(REFRESH_TOKENS, *is_unspent, spent_at=now))


async def end_family(session: TenantSession, family: uuid.UUID, *, until: datetime) -> None:
    """End a sign-in: its refresh tokens, and until then the access tokens that came from it.

    The family goes first: that waits for who is spending a token of it, and then sees what came of that.
    """
    await session.delete(REFRESH_FAMILIES, REFRESH_FAMILIES.c.id == family)
    await session.delete(REFRESH_TOKENS, REFRESH_TOKENS.c.family == family)
    await revoke(session, family.hex, until=until)


async def end_families(session: TenantSession, subject: uuid.UUID) -> None:
    """End every sign-in of an account that is locked; its access tokens end with its generation."""
    for table in (REFRESH_FAMILIES, REFRESH_TOKENS):
        await session.delete(table, table.c.subject_id == subject)


async def drop_account(session: TenantSession, subject: uuid.UUID) -> None:
    """Delete what is kept here of an account that is being deleted."""
    await end_families(session, subject)
    await session.delete(SIGN_IN_ADDRESSES, SIGN_IN_ADDRESSES.c.subject_id == subject)


async def revoke(session: TenantSession, token_id: str, *, until: datetime) -> None:
    """Have an access token, or all of a family, be worth nothing; forgotten once they would have expired anyway."""
    await session.insert_unless_there(REVOKED_TOKENS, id=token_id, until=until)
    await session.bump(accounts.TOPIC)


async def revoked(database: Database, now: datetime) -> frozenset[str]:
    """Return the access tokens and families that are worth nothing, whichever tenant's."""
    async with read_all(database) as session:
        rows = await session.rows(REVOKED_TOKENS, REVOKED_TOKENS.c.until > now)
    return frozenset(row["id"] for row in rows)


async def drop_every(session: TenantSession) -> None:
    """Delete what is kept here of every account of the session's tenant, and its identity providers."""
    for table in (REFRESH_FAMILIES, REFRESH_TOKENS, SIGN_IN_ADDRESSES, IDENTITY_PROVIDERS):
        await session.delete(table)
    await session.bump(accounts.TOPIC)


async def drop_expired(database: Database, now: datetime) -> None:
    """Delete what is worth nothing by now, whichever tenant's."""
    async with write_all(database) as session:
        for table in (REFRESH_FAMILIES, REFRESH_TOKENS):
            await session.delete(table, table.c.expires_at < now)
        await session.delete(REVOKED_TOKENS, REVOKED_TOKENS.c.until < now)


async def drop_old_attempts(database: Database, *, counted_before: datetime, seen_before: datetime) -> None:
    """Forget counts of attempts last touched, and addresses last signed in from, before then."""
    async with write_all(database) as session:
        await session.delete(SIGN_IN_ATTEMPTS, SIGN_IN_ATTEMPTS.c.last_at < counted_before)
        await session.delete(SIGN_IN_ADDRESSES, SIGN_IN_ADDRESSES.c.last_at < seen_before)


async def attempts(database: Database, keys: Keys) -> tuple[Mapping[str, Attempts], bool]:
    """Return what is counted under each key, and whether the account has signed in from that address before."""
    async with read_all(database) as session:
        rows = await session.rows(SIGN_IN_ATTEMPTS, SIGN_IN_ATTEMPTS.c.key.in_(keys.all))
        known = await session.row(SIGN_IN_ADDRESSES, SIGN_IN_ADDRESSES.c.pair == keys.pair)
    return {row["key"]: Attempts(row["n_failed"], row["last_at"]) for row in rows}, known is not None


async def count_attempt(
    database: Database,
    keys: Collection[str],
    now: datetime,
    following: Callable[[Mapping[str, Attempts]], Mapping[str, Attempts]],
) -> Counted:
    """Count an attempt under each key.

    Nobody else counts under any of them meanwhile; the order of the keys keeps two from waiting for each other.

    Args:
        database: the main database.
        keys: under which to count.
        now: when it is made.
        following: what is counted with it, from what is; what it raises is raised, and nothing counted.
    """
    counted = SIGN_IN_ATTEMPTS.c
    async with write_all(database) as session:
        found = {}
        for key in sorted(keys):
            row = await session.insert_or_lock(SIGN_IN_ATTEMPTS, key=key, n_failed=0, last_at=now)
            found[key] = Attempts(row["n_failed"], row["last_at"])
        after = following(found)
        for key, one in after.items():
            await session.update(SIGN_IN_ATTEMPTS, counted.key == key, n_failed=one.n_failed, last_at=one.last_at)
    return {key: (found[key], one) for key, one in after.items()}


async def uncount_attempt(
    database: Database, made: Counted, *, cleared: Collection[str] = (), remembered: Address | None = None
) -> None:
    """Take one attempt off what is counted under each key, as if it had not been made where none has been since.

    Args:
        database: the main database.
        made: the attempt.
        cleared: keys under which all is forgotten.
        remembered: where the account has signed in from, to be kept with the latest of its addresses.
    """
    counted = SIGN_IN_ATTEMPTS.c
    async with write_all(database) as session:
        for key in sorted({*made, *cleared}):  # in the order in which they are locked to be counted
            if key in cleared:
                await session.delete(SIGN_IN_ATTEMPTS, counted.key == key)
                continue
            before, after = made[key]
            is_last = (counted.key == key, counted.n_failed == after.n_failed, counted.last_at == after.last_at)
            was = {"n_failed": before.n_failed, "last_at": before.last_at}
            if not await session.update(SIGN_IN_ATTEMPTS, *is_last, **was):
                less = counted.n_failed - 1
                await session.update(SIGN_IN_ATTEMPTS, counted.key == key, counted.n_failed > 0, n_failed=less)
        if remembered is not None:
            await _remember(session.within(remembered.tenant), remembered)


async def forget_attempts(database: Database, key: str) -> None:
    """Forget what is counted under one key."""
    async with write_all(database) as session:
        await session.delete(SIGN_IN_ATTEMPTS, SIGN_IN_ATTEMPTS.c.key == key)


async def _remember(session: TenantSession, address: Address) -> None:
    kept, last_at = SIGN_IN_ADDRESSES.c, address.last_at
    await session.insert_unless_there(SIGN_IN_ADDRESSES, pair=address.pair, subject_id=address.subject, last_at=last_at)
    await session.update(SIGN_IN_ADDRESSES, kept.pair == address.pair, last_at=last_at)
    rows = await session.rows(SIGN_IN_ADDRESSES, kept.subject_id == address.subject, order_by=[kept.last_at.desc()])
    for row in rows[MAX_REMEMBERED:]:
        await session.delete(SIGN_IN_ADDRESSES, kept.pair == row["pair"])


async def add_identity_provider(session: TenantSession, provider: IdentityProvider) -> None:
    """Write a new identity provider.

    Raises:
        Conflict: its issuer and audience are registered already, or its name is taken.
    """
    await session.insert(
        IDENTITY_PROVIDERS,
        id=provider.provider_id,
        name=provider.name,
        issuer=provider.issuer,
        audience=provider.audience,
        claim=provider.claim,
        created_at=provider.created_at,
        **_changeable(provider),
    )
    await session.bump(accounts.TOPIC)


async def change_identity_provider(session: TenantSession, provider: IdentityProvider) -> None:
    """Write what can change of an identity provider."""
    is_this = IDENTITY_PROVIDERS.c.id == provider.provider_id
    await session.update(IDENTITY_PROVIDERS, is_this, **_changeable(provider))
    await session.bump(accounts.TOPIC)


async def drop_identity_provider(session: TenantSession, provider_id: uuid.UUID) -> bool:
    """Delete an identity provider; return whether there was such a one."""
    gone = await session.delete(IDENTITY_PROVIDERS, IDENTITY_PROVIDERS.c.id == provider_id)
    await session.bump(accounts.TOPIC)
    return bool(gone)


async def identity_provider(
    session: TenantSession, provider_id: uuid.UUID, *, for_update: bool = False
) -> IdentityProvider | None:
    """Return the tenant's identity provider of that identifier, perhaps locked until the transaction ends."""
    row = await session.row(IDENTITY_PROVIDERS, IDENTITY_PROVIDERS.c.id == provider_id, for_update=for_update)
    return None if row is None else _identity_provider(row)


async def identity_providers(session: TenantSession) -> tuple[IdentityProvider, ...]:
    """Return the tenant's identity providers by name."""
    return tuple(map(_identity_provider, await session.rows(IDENTITY_PROVIDERS, order_by=[IDENTITY_PROVIDERS.c.name])))


async def slug_and_others(database: Database, tenant: TenantId, issuer: str) -> tuple[str, bool]:
    """Return a tenant's slug, and whether another tenant has registered an issuer."""
    async with read_all(database) as session:
        found = await tenants.by_id(session, tenant)
        rows = await session.rows(IDENTITY_PROVIDERS, IDENTITY_PROVIDERS.c.issuer == issuer)
    return "" if found is None else found.slug, any(row["tenant_id"] != tenant for row in rows)


async def counting_providers(database: Database) -> tuple[tuple[IdentityProvider, str, bool], ...]:
    """Return every enabled identity provider of an active tenant.

    Returns:
        Each with the tenant's slug, and whether the tenant is the first of those that have registered its issuer.
    """
    order = [IDENTITY_PROVIDERS.c.created_at, IDENTITY_PROVIDERS.c.id]
    async with read_all(database) as session:
        rows = await session.rows(IDENTITY_PROVIDERS, order_by=order)
        found = {key: await tenants.by_id(session, TenantId(key)) for key in {row["tenant_id"] for row in rows}}
    slugs = {TenantId(key): t.slug for key, t in found.items() if t is not None and t.state is TenantState.ACTIVE}
    first: dict[str, TenantId] = {}
    providers = [(each, first.setdefault(each.issuer, each.tenant)) for each in map(_identity_provider, rows)]
    counting = [(each, owner) for each, owner in providers if each.is_enabled and each.tenant in slugs]
    return tuple((each, slugs[each.tenant], each.tenant == owner) for each, owner in counting)


def _identity_provider(row: RowMapping) -> IdentityProvider:
    return IdentityProvider(
        provider_id=row["id"],
        tenant=TenantId(row["tenant_id"]),
        name=row["name"],
        issuer=row["issuer"],
        audience=row["audience"],
        claim=row["claim"],
        rules=tuple(ClaimRule(rule["value"], rule["role"], rule["model"]) for rule in row["rules"] or ()),
        is_enabled=row["is_enabled"],
        created_at=row["created_at"],
    )


def _changeable(provider: IdentityProvider) -> dict[str, Any]:
    rules = [{"value": rule.value, "role": rule.role, "model": rule.model} for rule in provider.rules]
    return {"rules": rules, "is_enabled": provider.is_enabled}


def _may_exist(name: str, slug: str) -> bool:
    """Tell whether an account can have that name at all; the database is not asked with what a stranger made up."""
    try:
        check_username(name)
        if slug != PLATFORM_SLUG:
            check_slug(slug)
    except InvalidRequest:
        return False
    return True
