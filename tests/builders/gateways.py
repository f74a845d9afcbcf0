"""A whole gateway in this process, without a port: real databases, real keys, real tokens.

    async with running_gateway(tmp_path) as world:
        acme = await world.tenant("acme")
        invoker = await world.service("acme", "invoker")
        answer = await world.http.get("/admin/v1/models", headers=await world.headers(invoker))

A test enters and leaves it in one task, so that the gateway's task group sees only its own.
"""

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.engine import make_url

from maas_gateway.app import GatewayApp, create_app
from maas_gateway.auth.client_secrets import new_client_id, new_secret
from maas_gateway.gateway import Gateway
from maas_gateway.identifiers import TenantId
from maas_gateway.place import migrate_all, prepare
from maas_gateway.principal import Principal
from maas_gateway.settings import Settings, load_settings

ADDRESS = "http://127.0.0.1:8080"
"""Where the gateway believes to be: the `iss` of its tokens."""

CHEAP_PASSWORDS: Mapping[str, int] = {"memory_kib": 8_192, "passes": 1}
SQLITE = "sqlite"
_SCHEMAS: list[bytes] = []
"""SQLite's files of this version's schema without a row: the main database's, the key store's."""

POSTGRES_SLOWLY = pytest.mark.parametrize(
    "database_url",
    [SQLITE, pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.slow])],
    indirect=True,
)
"""For what takes long: on SQLite in `make test`, on PostgreSQL in `make test-slow`."""


@dataclass(frozen=True)
class Account:
    """An account that a test made, and how it signs in.

    Attributes:
        tenant: its tenant's slug; "platform" for an operator.
        name: a username `<name>@<tenant>`, or a client id.
        secret: its password or client secret.
        is_service: whether it is a service account.
        subject: its identifier.
    """

    tenant: str
    name: str
    secret: str
    is_service: bool
    subject: str = ""

    def form(self, **more: str) -> dict[str, str]:
        """Return the form that `POST /oauth/token` takes."""
        if self.is_service:
            return {"grant_type": "client_credentials", "client_id": self.name, "client_secret": self.secret, **more}
        return {"grant_type": "password", "username": self.name, "password": self.secret, **more}


@dataclass
class World:
    """A running gateway and what a test does with it.

    Attributes:
        settings: its configuration.
        app: the ASGI application.
        gateway: every collaborator, for what has no route.
        http: a client of it.
        operator: the platform operator.
        owners: each tenant's owner, by slug.
    """

    settings: Settings
    app: GatewayApp
    http: httpx.AsyncClient
    operator: Account
    owners: dict[str, Account] = field(default_factory=dict)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    @asynccontextmanager
    async def at(self, address: str) -> AsyncIterator[httpx.AsyncClient]:
        """Yield a client of it at another address than this machine's own."""
        transport = httpx.ASGITransport(app=self.app, client=(address, 50_000))
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS, timeout=60) as http:
            yield http

    @property
    def gateway(self) -> Gateway:
        return self.app.state.gateway  # type: ignore[no-any-return]

    async def tenant(self, slug: str) -> Account:
        """Make a tenant; return its owner."""
        secret = secrets.token_urlsafe(12)
        assert await self.gateway.provision.tenant(slug, "owner", secret)
        self.owners[slug] = await self._with_subject(Account(slug, f"owner@{slug}", secret, False))
        return self.owners[slug]

    async def tenants(self, *slugs: str) -> None:
        """Make tenants."""
        for slug in slugs:
            await self.tenant(slug)

    async def service(self, slug: str, *roles: str, **on_models: str) -> Account:
        """Make a service account of a tenant with roles.

        Args:
            slug: the tenant, made before by `tenant`.
            roles: bound to the whole tenant; none for an account that may do nothing.
            on_models: `role="model"` binds the role to that one model.
        """
        owner = await self.principal(self.owners[slug])
        credentials = self.gateway.credentials
        made, secret = await credentials.add_service_account(owner, f"robot-{next(self._numbers)}")
        for role in roles:
            await credentials.bind(owner, made.subject, role, None)
        for role, model in on_models.items():
            await credentials.bind(owner, made.subject, role, model)
        return Account(slug, made.client_id, secret, True, str(made.subject))

    async def first_service(self, slug: str, role: str) -> Account:
        """Make a service account as the first start does, named after its role."""
        client_id, secret = new_client_id(), new_secret()
        assert await self.gateway.provision.service_account(slug, role, client_id=client_id, secret=secret)
        return await self._with_subject(Account(slug, client_id, secret, True))

    async def user(self, slug: str, name: str, *roles: str) -> Account:
        """Make a user of a tenant with roles on the whole tenant."""
        owner = await self.principal(self.owners[slug])
        made, password = await self.gateway.credentials.add_user(owner, name)
        for role in roles:
            await self.gateway.credentials.bind(owner, made.subject, role, None)
        return Account(slug, f"{name}@{slug}", password, False, str(made.subject))

    async def principal(self, account: Account, scope: str | None = None) -> Principal:
        """Sign an account in; return who it is."""
        return (await self._issued(account, scope))[1]

    async def token(self, account: Account, scope: str | None = None) -> str:
        """Sign an account in; return its access token."""
        return (await self._issued(account, scope))[0]

    async def headers(self, account: Account | None, scope: str | None = None) -> dict[str, str]:
        """Sign an account in; return the header that bears its token, none for nobody."""
        return {} if account is None else bearer(await self.token(account, scope))

    async def tenant_id(self, slug: str) -> TenantId:
        """Return a tenant's identifier."""
        return (await self.principal(self.owners[slug])).tenant

    async def _issued(self, account: Account, scope: str | None) -> tuple[str, Principal]:
        sign_in = self.gateway.sign_in
        by = sign_in.by_secret if account.is_service else sign_in.by_password
        issued = await by(account.name, account.secret, scope, address="")
        return issued.token, issued.principal

    async def _with_subject(self, account: Account) -> Account:
        subject = str((await self.principal(account)).subject)
        return Account(account.tenant, account.name, account.secret, account.is_service, subject)


def bearer(token: str) -> dict[str, str]:
    """Return the header that bears a token."""
    return {"authorization": f"Bearer {token}"}


def gateway_settings(folder: Path, database: str = SQLITE, **overrides: Any) -> Settings:
    """Return settings for a gateway below `folder`, with cheap passwords.

    Args:
        folder: where its data directory goes.
        database: "sqlite", or the main database's URL (its key store is `<name>_keys`).
        overrides: further settings, nested like the configuration file; they win.
    """
    over: dict[str, Any] = {
        "data_dir": folder / "gateway",
        "passwords": dict(CHEAP_PASSWORDS),
        "grpc": {"is_enabled": False},
    }
    if database != SQLITE:
        over["database"] = {"url": database}
    for name, value in overrides.items():
        over[name] = {**over[name], **value} if isinstance(over.get(name), dict) else value
    return load_settings(None, over)


@asynccontextmanager
async def running_gateway(folder: Path, database: str = SQLITE, **overrides: Any) -> AsyncIterator[World]:
    """Run a fresh gateway with a platform operator and nothing else.

    Args:
        folder: where its data directory goes.
        database: "sqlite", or the main database's URL; the fixture `database_url` gives both in turn.
        overrides: settings, for example `tokens={"life_s": 60}`.
    """
    settings = gateway_settings(folder, database, **overrides)
    if database == SQLITE:
        await _lay_schema(settings)
    await prepare(settings, makes_root_key=True)
    operator = Account("platform", "operator@platform", secrets.token_urlsafe(12), False)
    async with joined_gateway(settings, operator) as world:
        assert await world.gateway.provision.operator("operator", operator.secret)
        yield world


async def _lay_schema(settings: Settings) -> None:
    """Have both databases of a new place be of this version's schema already, which is made once in this process."""
    files = [Path(make_url(url).database or "") for url in (settings.main_url, settings.keys_url)]
    if any(file.exists() for file in files):
        return
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not _SCHEMAS:
        await migrate_all(settings)
        _SCHEMAS.extend(file.read_bytes() for file in files)
    for file, content in zip(files, _SCHEMAS, strict=True):
        file.write_bytes(content)


@asynccontextmanager
async def joined_gateway(place: Settings | World, operator: Account | None = None) -> AsyncIterator[World]:
    """Run one more gateway process's worth on a place that is prepared already: same databases, keys and blobs."""
    settings = place.settings if isinstance(place, World) else place
    app = create_app(settings)
    failure: BaseException | None = None
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS, timeout=60) as http:
            known = place.operator if isinstance(place, World) else operator
            assert known is not None
            owners = dict(place.owners) if isinstance(place, World) else {}
            try:
                yield World(settings, app, http, known, owners)
            except asyncio.CancelledError:
                raise
            except BaseException as caught:  # noqa: BLE001  a test's own failure is no fault of the gateway's task group
                failure = caught
    if failure is not None:
        raise failure
