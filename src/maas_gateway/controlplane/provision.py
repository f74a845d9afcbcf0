"""The first start's accounts, made with secrets that the caller has written down beforehand.

Rules: each step may be repeated, and a thing that is there already is left as it is; the secrets are
in the caller's file before an account has them, so a killed first start loses none.
"""

from maas_gateway.accounts import store as accounts
from maas_gateway.accounts.binding import RoleBinding
from maas_gateway.accounts.service_account import ServiceAccount
from maas_gateway.accounts.user import User
from maas_gateway.audit.event import AuditEvent
from maas_gateway.auth.client_secrets import digest_of
from maas_gateway.auth.passwords import Passwords
from maas_gateway.controlplane.acting import Acting
from maas_gateway.database.unscoped import read_all, write_all
from maas_gateway.errors import TenantNotFound
from maas_gateway.identifiers import PLATFORM, SubjectId, TenantId, check_slug, check_username, new_id
from maas_gateway.keyring.key import Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.policy.roles import OPERATOR, OWNER
from maas_gateway.tenants import store as tenants
from maas_gateway.tenants.tenant import Tenant, TenantState

ACTOR = "first-start"


class Provision:
    """What a first start makes; only a process that holds the data directory can call it."""

    def __init__(self, acting: Acting, keyring: Keyring, passwords: Passwords) -> None:
        self._acting = acting
        self._keyring = keyring
        self._passwords = passwords

    async def operator(self, name: str, password: str) -> bool:
        """Make the platform's first operator, unless it has a user; return whether it was made."""
        password_hash = await self._passwords.hash(password)
        now = self._acting.clock.now()
        async with self._acting.database.write(PLATFORM) as session:
            if await accounts.users(session):
                return False
            user = User(SubjectId(new_id()), PLATFORM, check_username(name), password_hash, True, now)
            await accounts.add_user(session, user)
            await accounts.bind(session, RoleBinding(new_id(), PLATFORM, user.subject, OPERATOR))
            await self._acting.audit.record(session, AuditEvent("user.added", ACTOR, f"user {name}@platform"))
        self._acting.announce(accounts.TOPIC)
        return True

    async def tenant(self, slug: str, owner: str, password: str, *, actor: str = ACTOR) -> bool:
        """Make a tenant with its owner and its key rings, unless there is one of that slug; return whether it was made.

        The rings come first, so that a tenant without keys cannot exist; the rest is one transaction.
        """
        if await self._tenant(slug) is not None:
            return False
        password_hash = await self._passwords.hash(password)
        now = self._acting.clock.now()
        tenant = Tenant(TenantId(new_id()), check_slug(slug), TenantState.ACTIVE, now)
        for purpose in Purpose:
            if purpose.has_ring(tenant.tenant_id):
                await self._keyring.ensure(tenant.tenant_id, purpose)
        async with write_all(self._acting.database) as session:
            await tenants.add(session, tenant)
            within = session.within(tenant.tenant_id)
            user = User(SubjectId(new_id()), tenant.tenant_id, check_username(owner), password_hash, True, now)
            await accounts.add_user(within, user)
            await accounts.bind(within, RoleBinding(new_id(), tenant.tenant_id, user.subject, OWNER))
            event = AuditEvent("tenant.onboarded", actor, f"tenant {slug}")
            await self._acting.audit.record(session.within(PLATFORM), event)
        self._acting.announce(accounts.TOPIC)
        return True

    async def service_account(self, slug: str, role: str, *, client_id: str, secret: str) -> bool:
        """Make a tenant's service account named after its role, unless there is one; return whether it was made.

        Raises:
            TenantNotFound: there is no tenant of that slug.
        """
        tenant = await self._tenant(slug)
        if tenant is None:
            raise TenantNotFound(f"tenant '{slug}' not found")
        account = ServiceAccount(
            subject=SubjectId(new_id()),
            tenant=tenant.tenant_id,
            client_id=client_id,
            name=role,
            secret_digest=digest_of(secret),
            is_enabled=True,
            created_at=self._acting.clock.now(),
        )
        async with self._acting.database.write(tenant.tenant_id) as session:
            if await accounts.service_account_named(session, role) is not None:
                return False
            await accounts.add_service_account(session, account)
            await accounts.bind(session, RoleBinding(new_id(), tenant.tenant_id, account.subject, role))
            event = AuditEvent("service-account.added", ACTOR, f"service account {role}")
            await self._acting.audit.record(session, event)
        self._acting.announce(accounts.TOPIC)
        return True

    async def _tenant(self, slug: str) -> Tenant | None:
        async with read_all(self._acting.database) as session:
            return await tenants.by_slug(session, slug)
