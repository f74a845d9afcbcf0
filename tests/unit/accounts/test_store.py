"""Accounts and tenants in the database: unique where they must be, one tenant's only, noticed when they change."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from builders.gateways import SQLITE
from maas_gateway.accounts import store
from maas_gateway.accounts.binding import RoleBinding
from maas_gateway.accounts.service_account import ServiceAccount
from maas_gateway.accounts.user import User
from maas_gateway.auth import store as auth
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.database.migrations import migrate
from maas_gateway.database.sessions import TenantSession
from maas_gateway.database.unscoped import write_all
from maas_gateway.errors import Conflict, TenantNotFound
from maas_gateway.identifiers import PLATFORM, SubjectId, TenantId, new_id
from maas_gateway.tenants import store as tenants
from maas_gateway.tenants.tenant import Tenant, TenantState

pytestmark = pytest.mark.anyio

ACME, GLOBEX = TenantId(new_id()), TenantId(new_id())
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def user(name: str = "ada", tenant: TenantId = ACME) -> User:
    return User(SubjectId(new_id()), tenant, name, "a hash", True, NOW)


def robot(name: str = "ci", tenant: TenantId = ACME, client_id: str = "sa-1") -> ServiceAccount:
    return ServiceAccount(SubjectId(new_id()), tenant, client_id, name, "0" * 64, True, NOW)


@pytest.fixture
async def database(tmp_path: Path, database_url: str) -> AsyncIterator[Database]:
    url = f"sqlite+aiosqlite:///{tmp_path / 'main.sqlite'}" if database_url == SQLITE else database_url
    database = Database(url, CHANGES)
    await migrate(database, "main")
    async with write_all(database) as session:
        for tenant, slug in ((ACME, "acme"), (GLOBEX, "globex")):
            await tenants.add(session, Tenant(tenant, slug, TenantState.ACTIVE, NOW))
    yield database
    await database.close()


async def test_user_comes_back_as_it_was_to_its_own_tenant_only(database: Database) -> None:
    ada = user()
    async with database.write(ACME) as session:
        await store.add_user(session, ada)
        assert await store.user_named(session, "ada") == ada
        assert await store.users(session) == (ada,)
        assert await store.subject(session, ada.subject) == ada
    async with database.write(GLOBEX) as session:
        assert await store.user_named(session, "ada") is None
        assert await store.subject(session, ada.subject) is None
        assert not await store.enable_user(session, ada.subject, is_enabled=False)


async def test_names_are_unique_in_a_tenant_and_free_in_another(database: Database) -> None:
    async with database.write(ACME) as session:
        await store.add_user(session, user())
        await store.add_service_account(session, robot())
    async with database.write(GLOBEX) as session:
        await store.add_user(session, user(tenant=GLOBEX))
        await store.add_service_account(session, robot(tenant=GLOBEX, client_id="sa-2"))

    async def add(made: User | ServiceAccount) -> None:
        async with database.write(made.tenant) as session:
            if isinstance(made, User):
                await store.add_user(session, made)
            else:
                await store.add_service_account(session, made)

    for taken in (user(), robot(client_id="sa-3"), robot("other", client_id="sa-1"), robot("other", GLOBEX, "sa-1")):
        with pytest.raises(Conflict):
            await add(taken)


async def test_role_is_bound_once_on_the_tenant_and_once_on_each_model(database: Database) -> None:
    ada = user()

    async def bind(model: str | None) -> None:
        async with database.write(ACME) as session:
            await store.bind(session, RoleBinding(new_id(), ACME, ada.subject, "invoker", model))

    for model in (None, "m", "n"):
        await bind(model)
        with pytest.raises(Conflict):
            await bind(model)
    async with database.write(ACME) as session:
        found = await store.bindings(session, ada.subject)
        assert sorted(str(binding.model) for binding in found) == ["None", "m", "n"]
        assert await store.unbind(session, found[0].binding_id)
        assert not await store.unbind(session, found[0].binding_id)
        assert len(await store.bindings(session)) == 2


async def test_every_change_that_counts_is_noticed(database: Database) -> None:
    ada, ci = user(), robot()
    binding = RoleBinding(new_id(), ACME, ada.subject, "invoker")

    changes: dict[str, Callable[[TenantSession], Awaitable[object]]] = {
        "add user": lambda session: store.add_user(session, ada),
        "add service account": lambda session: store.add_service_account(session, ci),
        "bind": lambda session: store.bind(session, binding),
        "disable user": lambda session: store.enable_user(session, ada.subject, is_enabled=False),
        "disable robot": lambda session: store.enable_service_account(session, ci.subject, is_enabled=False),
        "replace secret": lambda session: store.replace_secret(session, ci.subject, "1" * 64),
        "replace password": lambda session: store.replace_password(session, ada.subject, "another hash"),
        "unbind": lambda session: store.unbind(session, binding.binding_id),
    }
    for name, change in changes.items():
        before = (await database.counters())[store.TOPIC]
        async with database.write(ACME) as session:
            await change(session)
        assert (await database.counters())[store.TOPIC] > before, name


async def test_authentication_finds_only_who_may_act(database: Database) -> None:
    ada, ci = user(), robot()
    async with database.write(ACME) as session:
        await store.add_user(session, ada)
        await store.add_service_account(session, ci)

    async def found() -> list[bool]:
        return [
            await auth.user(database, "ada@acme") is not None,
            await auth.client(database, "sa-1") is not None,
            await auth.account(database, ACME, ada.subject) is not None,
            await auth.account(database, ACME, ci.subject) is not None,
        ]

    assert await found() == [True] * 4
    assert await auth.account(database, GLOBEX, ada.subject) is None
    assert await auth.account(database, PLATFORM, ada.subject) is None
    async with write_all(database) as session:
        await tenants.set_state(session, "acme", TenantState.SUSPENDED)
    assert await found() == [False] * 4
    async with write_all(database) as session:
        await tenants.set_state(session, "acme", TenantState.ACTIVE)
    assert await found() == [True] * 4
    async with database.write(ACME) as within:
        await store.enable_user(within, ada.subject, is_enabled=False)
        await store.enable_service_account(within, ci.subject, is_enabled=False)
    assert await found() == [False] * 4


MALFORMED = [
    "", "@", "ada", "ada@", "@acme", "ada@acme@acme", "Ada@acme", "ada@ACME", " ada@acme", "ada@acme ", "a\x00@acme",
    "ada@ac\x00me", "ada@" + "a" * 5_000, "a" * 5_000 + "@acme", "ada@null", "\U0001f600@acme", "\ud800@acme",
]  # fmt: skip


async def test_malformed_username_is_nobodys(database: Database) -> None:
    async with database.write(ACME) as session:
        await store.add_user(session, user())
    for username in MALFORMED:
        assert await auth.user(database, username) is None, username
    for client_id in ("", "\x00", "sa-\x001", "sa-1 ", "\ud800", "ключ", "s" * 5_000):
        assert await auth.client(database, client_id) is None, client_id


async def test_operator_is_found_on_the_platform(database: Database) -> None:
    async with database.write(PLATFORM) as session:
        await store.add_user(session, user("root", PLATFORM))
    found = await auth.user(database, "root@platform")
    assert found is not None
    assert found.tenant == PLATFORM


async def test_rehash_replaces_the_hash_of_that_user(database: Database) -> None:
    ada, eve = user(), user("eve")
    async with database.write(ACME) as session:
        await store.add_user(session, ada)
        await store.add_user(session, eve)
    async with database.write(ACME) as session:
        await store.rehash(session, ada, "a stronger hash")
    async with database.read(ACME) as session:
        assert await store.users(session) == (replace(ada, password_hash="a stronger hash"), eve)


async def test_rehash_leaves_a_password_that_was_replaced_meanwhile(database: Database) -> None:
    ada = user()
    async with database.write(ACME) as session:
        await store.add_user(session, ada)
        await store.replace_password(session, ada.subject, "another password's hash")
        await store.rehash(session, ada, "a stronger hash of the old password")
        assert await store.users(session) == (replace(ada, password_hash="another password's hash", generation=1),)


async def test_tenants_are_found_by_name_and_number(database: Database) -> None:
    async with write_all(database) as session:
        acme = await tenants.by_slug(session, "acme")
        assert acme is not None
        assert acme == await tenants.by_id(session, ACME)
        assert await tenants.by_slug(session, "none") is None
        assert await tenants.by_id(session, TenantId(new_id())) is None
        assert [tenant.slug for tenant in await tenants.every(session)] == ["acme", "globex"]
        with pytest.raises(TenantNotFound):
            await tenants.set_state(session, "none", TenantState.SUSPENDED)


async def test_slug_is_taken_once(database: Database) -> None:
    async def add() -> None:
        async with write_all(database) as session:
            await tenants.add(session, Tenant(TenantId(new_id()), "acme", TenantState.ACTIVE, NOW))

    with pytest.raises(Conflict):
        await add()
