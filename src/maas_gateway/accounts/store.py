"""Accounts in the database. Every change raises the topic `accounts`, which standings follow."""

import uuid
from typing import Any, Final

from sqlalchemy import RowMapping, Table

from maas_gateway.accounts.api_key import APIKey
from maas_gateway.accounts.binding import RoleBinding
from maas_gateway.accounts.service_account import ServiceAccount
from maas_gateway.accounts.share import Share
from maas_gateway.accounts.tables import API_KEYS, ROLE_BINDINGS, SERVICE_ACCOUNTS, SHARES, USERS
from maas_gateway.accounts.user import User
from maas_gateway.database.paging import Asked, Page
from maas_gateway.database.sessions import Session, TenantSession, UnscopedSession
from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.permissions import Permission

TOPIC: Final = "accounts"


def _user(row: RowMapping) -> User:
    plain = (row[column] for column in ("name", "password_hash", "is_enabled", "created_at", "generation"))
    return User(SubjectId(row["id"]), TenantId(row["tenant_id"]), *plain)


def _service_account(row: RowMapping) -> ServiceAccount:
    return ServiceAccount(
        subject=SubjectId(row["id"]),
        tenant=TenantId(row["tenant_id"]),
        client_id=row["client_id"],
        name=row["name"],
        secret_digest=row["secret_digest"],
        is_enabled=row["is_enabled"],
        created_at=row["created_at"],
        generation=row["generation"],
    )


def _binding(row: RowMapping) -> RoleBinding:
    return RoleBinding(
        row["id"], TenantId(row["tenant_id"]), SubjectId(row["subject_id"]), row["role"], row["model"] or None
    )


def _share(row: RowMapping) -> Share:
    return Share(
        share_id=row["id"],
        owner=TenantId(row["tenant_id"]),
        model=row["model"],
        consumer=TenantId(row["consumer_id"]),
        is_enabled=row["is_enabled"],
        created_at=row["created_at"],
    )


def _api_key(row: RowMapping) -> APIKey:
    known = {permission.value for permission in Permission}  # one that a later program knows permits nothing here
    return APIKey(
        key_id=row["id"],
        tenant=TenantId(row["tenant_id"]),
        subject=SubjectId(row["subject_id"]),
        name=row["name"],
        permissions=frozenset(Permission(text) for text in row["permissions"] or () if text in known),
        digest=row["digest"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        is_enabled=row["is_enabled"],
        former_digest=row["former_digest"],
        former_until=row["former_until"],
    )


async def add_user(session: TenantSession, user: User) -> None:
    """Write a new user.

    Raises:
        Conflict: the name is taken.
    """
    await session.insert(
        USERS,
        id=user.subject,
        name=user.name,
        password_hash=user.password_hash,
        is_enabled=user.is_enabled,
        created_at=user.created_at,
    )
    await session.bump(TOPIC)


async def user_named(session: TenantSession, name: str) -> User | None:
    """Return the session's tenant's user of that name."""
    row = await session.row(USERS, USERS.c.name == name)
    return None if row is None else _user(row)


async def users(session: TenantSession) -> tuple[User, ...]:
    """Return all users of the tenant by name."""
    return tuple(_user(row) for row in await session.rows(USERS, order_by=[USERS.c.name]))


async def users_page(session: TenantSession, asked: Asked) -> Page[User]:
    """Return a page of the tenant's users by name."""
    rows, following = await session.page(USERS, order_by=[USERS.c.name], asked=asked)
    return Page(tuple(map(_user, rows)), following)


async def enable_user(session: TenantSession, subject: uuid.UUID, *, is_enabled: bool) -> bool:
    """Enable or disable a user, whose tokens so far are worth nothing then; return whether there is such a one."""
    return await _enable(session, USERS, subject, is_enabled=is_enabled)


async def rehash(session: TenantSession, user: User, password_hash: str) -> None:
    """Replace a user's password hash by a stronger one of the same password, unless it was replaced meanwhile."""
    is_same = USERS.c.password_hash == user.password_hash
    await session.update(USERS, USERS.c.id == user.subject, is_same, password_hash=password_hash)


async def add_service_account(session: TenantSession, account: ServiceAccount) -> None:
    """Write a new service account.

    Raises:
        Conflict: the name or the client id is taken.
    """
    await session.insert(
        SERVICE_ACCOUNTS,
        id=account.subject,
        client_id=account.client_id,
        name=account.name,
        secret_digest=account.secret_digest,
        is_enabled=account.is_enabled,
        created_at=account.created_at,
    )
    await session.bump(TOPIC)


async def service_accounts_page(session: TenantSession, asked: Asked) -> Page[ServiceAccount]:
    """Return a page of the tenant's service accounts by name."""
    rows, following = await session.page(SERVICE_ACCOUNTS, order_by=[SERVICE_ACCOUNTS.c.name], asked=asked)
    return Page(tuple(map(_service_account, rows)), following)


async def service_account_named(session: TenantSession, name: str) -> ServiceAccount | None:
    """Return the tenant's service account of that name."""
    row = await session.row(SERVICE_ACCOUNTS, SERVICE_ACCOUNTS.c.name == name)
    return None if row is None else _service_account(row)


async def replace_secret(session: TenantSession, subject: SubjectId, secret_digest: str) -> None:
    """Replace a service account's secret; its tokens so far are worth nothing."""
    await _end_generation(session, SERVICE_ACCOUNTS, subject, secret_digest=secret_digest)


async def replace_password(session: TenantSession, subject: uuid.UUID, password_hash: str) -> None:
    """Replace a user's password; its tokens so far are worth nothing."""
    await _end_generation(session, USERS, subject, password_hash=password_hash)


async def note_told(session: TenantSession, subject: uuid.UUID, to: SubjectId | None) -> None:
    """Note to which account another's secret was told; None once nobody else knows it."""
    for table in (USERS, SERVICE_ACCOUNTS):
        await session.update(table, table.c.id == subject, told_to=to)


async def told_to(session: TenantSession, subject: uuid.UUID) -> frozenset[SubjectId]:
    """Return the accounts to which a secret of another was told: its password or client secret, or an API key of it."""
    rows = [row for t in (USERS, SERVICE_ACCOUNTS) for row in await session.rows(t, t.c.id == subject)]
    rows += await session.rows(API_KEYS, API_KEYS.c.subject_id == subject)
    return frozenset(SubjectId(row["told_to"]) for row in rows if row["told_to"] is not None)


async def n_other_owners(session: TenantSession, subject: uuid.UUID, role: str) -> int:
    """Return how many enabled users besides that one have a role on the whole tenant; nobody loses it meanwhile."""
    on_tenant = (ROLE_BINDINGS.c.role == role, ROLE_BINDINGS.c.model == "")
    bound = await session.rows(ROLE_BINDINGS, *on_tenant, order_by=[ROLE_BINDINGS.c.id], for_update=True)
    others = {row["subject_id"] for row in bound} - {subject}
    return await session.count(USERS, USERS.c.id.in_(others), USERS.c.is_enabled)


async def drop_account(session: TenantSession, subject: uuid.UUID) -> None:
    """Delete a user or service account, its bindings and its API keys."""
    await session.delete(ROLE_BINDINGS, ROLE_BINDINGS.c.subject_id == subject)
    await session.delete(API_KEYS, API_KEYS.c.subject_id == subject)
    for table in (USERS, SERVICE_ACCOUNTS):
        await session.delete(table, table.c.id == subject)
    await session.bump(TOPIC)


async def binding(session: TenantSession, binding_id: uuid.UUID) -> RoleBinding | None:
    """Return the role binding of that identifier."""
    row = await session.row(ROLE_BINDINGS, ROLE_BINDINGS.c.id == binding_id)
    return None if row is None else _binding(row)


async def enable_service_account(session: TenantSession, subject: uuid.UUID, *, is_enabled: bool) -> bool:
    """Enable or disable a service account, whose tokens so far are worth nothing then; return whether there is one."""
    return await _enable(session, SERVICE_ACCOUNTS, subject, is_enabled=is_enabled)


async def by_client_id(session: UnscopedSession, client_id: str) -> ServiceAccount | None:
    """Return the service account of that client id, whichever tenant's."""
    row = await session.row(SERVICE_ACCOUNTS, SERVICE_ACCOUNTS.c.client_id == client_id)
    return None if row is None else _service_account(row)


async def bind(session: TenantSession, binding: RoleBinding) -> None:
    """Write a new role binding.

    Raises:
        Conflict: the subject has that role there already.
    """
    await session.insert(
        ROLE_BINDINGS,
        id=binding.binding_id,
        subject_id=binding.subject,
        role=binding.role,
        model=binding.model or "",
    )
    await session.bump(TOPIC)


async def rebind(session: TenantSession, binding: RoleBinding) -> None:
    """Write another role into a binding that is there.

    Raises:
        Conflict: the subject has that role there already.
    """
    await unbind(session, binding.binding_id)
    await bind(session, binding)


async def unbind(session: TenantSession, binding_id: uuid.UUID) -> bool:
    """Delete a role binding; return whether there was such a one."""
    gone = await session.delete(ROLE_BINDINGS, ROLE_BINDINGS.c.id == binding_id)
    await session.bump(TOPIC)
    return bool(gone)


async def bindings(session: TenantSession, subject: uuid.UUID | None = None) -> tuple[RoleBinding, ...]:
    """Return the tenant's role bindings, perhaps of one subject only."""
    where = [] if subject is None else [ROLE_BINDINGS.c.subject_id == subject]
    rows = await session.rows(ROLE_BINDINGS, *where, order_by=[ROLE_BINDINGS.c.subject_id, ROLE_BINDINGS.c.role])
    return tuple(_binding(row) for row in rows)


async def bindings_page(session: TenantSession, asked: Asked) -> Page[RoleBinding]:
    """Return a page of the tenant's role bindings by subject."""
    order = [ROLE_BINDINGS.c.subject_id, ROLE_BINDINGS.c.id]
    rows, following = await session.page(ROLE_BINDINGS, order_by=order, asked=asked)
    return Page(tuple(map(_binding, rows)), following)


async def user(session: TenantSession, subject: uuid.UUID, *, for_update: bool = False) -> User | None:
    """Return the tenant's user of that identifier, perhaps locked until the transaction ends."""
    row = await session.row(USERS, USERS.c.id == subject, for_update=for_update)
    return None if row is None else _user(row)


async def service_account(session: TenantSession, subject: uuid.UUID) -> ServiceAccount | None:
    """Return the tenant's service account of that identifier."""
    row = await session.row(SERVICE_ACCOUNTS, SERVICE_ACCOUNTS.c.id == subject)
    return None if row is None else _service_account(row)


async def subject(session: TenantSession, subject: uuid.UUID) -> User | ServiceAccount | None:
    """Return the tenant's user or service account of that identifier."""
    return await user(session, subject) or await service_account(session, subject)


async def add_share(session: TenantSession, share: Share) -> None:
    """Write a new share.

    Raises:
        Conflict: the model is shared with that tenant already.
    """
    await session.insert(
        SHARES,
        id=share.share_id,
        model=share.model,
        consumer_id=share.consumer,
        is_enabled=share.is_enabled,
        created_at=share.created_at,
    )
    await session.bump(TOPIC)


async def share(session: TenantSession, share_id: uuid.UUID) -> Share | None:
    """Return the tenant's share of that identifier."""
    row = await session.row(SHARES, SHARES.c.id == share_id)
    return None if row is None else _share(row)


async def shares_page(session: TenantSession, asked: Asked) -> Page[Share]:
    """Return a page of what the tenant shares, in the order of identifiers."""
    rows, following = await session.page(SHARES, order_by=[SHARES.c.id], asked=asked)
    return Page(tuple(map(_share, rows)), following)


async def shared_with(session: Session, consumer: TenantId, owner: TenantId | None = None) -> tuple[Share, ...]:
    """Return the shares with a tenant, perhaps of one owner only, among those that the session sees."""
    where = [SHARES.c.consumer_id == consumer]
    if owner is not None:
        where.append(SHARES.c.tenant_id == owner)
    rows = await session.rows(SHARES, *where, order_by=[SHARES.c.tenant_id, SHARES.c.model])
    return tuple(map(_share, rows))


async def enable_share(session: TenantSession, share_id: uuid.UUID, *, is_enabled: bool) -> None:
    """Have a share be of use, or of none."""
    await session.update(SHARES, SHARES.c.id == share_id, is_enabled=is_enabled)
    await session.bump(TOPIC)


async def drop_share(session: TenantSession, share_id: uuid.UUID) -> None:
    """Delete a share."""
    await session.delete(SHARES, SHARES.c.id == share_id)
    await session.bump(TOPIC)


async def drop_bindings_on(session: TenantSession, model: str) -> None:
    """Delete the bindings on a model that is being erased: another one of its name begins without."""
    await session.delete(ROLE_BINDINGS, ROLE_BINDINGS.c.model == model)
    await session.bump(TOPIC)


async def drop_shares_of(session: TenantSession, model: str) -> frozenset[uuid.UUID]:
    """Delete every share of a model of the tenant; return their identifiers."""
    gone = await session.rows(SHARES, SHARES.c.model == model)
    await session.delete(SHARES, SHARES.c.model == model)
    await session.bump(TOPIC)
    return frozenset(row["id"] for row in gone)


async def add_api_key(session: TenantSession, key: APIKey) -> None:
    """Write a new API key."""
    fixed = {"id": key.key_id, "subject_id": key.subject, "name": key.name, "created_at": key.created_at}
    await session.insert(API_KEYS, **fixed, permissions=sorted(key.permissions), **_changeable(key))
    await session.bump(TOPIC)


async def note_key_told(session: TenantSession, key: APIKey, to: SubjectId) -> None:
    """Note to which account an API key's secret was told."""
    await session.update(API_KEYS, API_KEYS.c.id == key.key_id, told_to=None if to == key.subject else to)


async def change_api_key(session: TenantSession, key: APIKey) -> None:
    """Write what can change of an API key."""
    await session.update(API_KEYS, API_KEYS.c.id == key.key_id, **_changeable(key))
    await session.bump(TOPIC)


async def drop_api_key(session: TenantSession, key_id: str) -> bool:
    """Delete an API key; return whether there was such a one."""
    gone = await session.delete(API_KEYS, API_KEYS.c.id == key_id)
    await session.bump(TOPIC)
    return bool(gone)


async def api_key(session: Session, key_id: str, *, for_update: bool = False) -> APIKey | None:
    """Return the API key of that identifier, among those that the session sees, perhaps locked."""
    row = await session.row(API_KEYS, API_KEYS.c.id == key_id, for_update=for_update)
    return None if row is None else _api_key(row)


async def api_keys_page(session: TenantSession, asked: Asked) -> Page[APIKey]:
    """Return a page of the tenant's API keys by name."""
    rows, following = await session.page(API_KEYS, order_by=[API_KEYS.c.name, API_KEYS.c.id], asked=asked)
    return Page(tuple(map(_api_key, rows)), following)


def _changeable(key: APIKey) -> dict[str, Any]:
    return {
        "digest": key.digest,
        "former_digest": key.former_digest,
        "former_until": key.former_until,
        "expires_at": key.expires_at,
        "is_enabled": key.is_enabled,
    }


async def _enable(session: TenantSession, table: Table, subject: uuid.UUID, *, is_enabled: bool) -> bool:
    if not is_enabled:
        return await _end_generation(session, table, subject, is_enabled=False)
    changed = await session.update(table, table.c.id == subject, is_enabled=True)
    await session.bump(TOPIC)
    return bool(changed)


async def _end_generation(session: TenantSession, table: Table, subject: uuid.UUID, **values: Any) -> bool:
    """Change an account so that its tokens so far are worth nothing; return whether there is such a one."""
    changed = await session.update(table, table.c.id == subject, generation=table.c.generation + 1, **values)
    await session.bump(TOPIC)
    return bool(changed)


async def drop_every(session: TenantSession) -> None:
    """Delete every account, API key, binding and share of the session's tenant."""
    for table in (SHARES, ROLE_BINDINGS, API_KEYS, SERVICE_ACCOUNTS, USERS):
        await session.delete(table)
    await session.bump(TOPIC)
