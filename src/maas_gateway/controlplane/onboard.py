"""Tenants: onboarded by a platform operator, with a first owner and a key ring of their own.

Rules: only an operator onboards, suspends and resumes; an owner may look at its own tenant; the
owner's password is answered once and stored as a hash.
"""

from dataclasses import dataclass

from maas_gateway.accounts import store as accounts
from maas_gateway.auth.client_secrets import new_password
from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.provision import Provision
from maas_gateway.database.paging import FIRST, Asked, Page
from maas_gateway.database.unscoped import read_all, write_all
from maas_gateway.errors import Conflict, TenantNotFound
from maas_gateway.identifiers import PLATFORM, check_slug, check_username
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize
from maas_gateway.principal import Principal
from maas_gateway.tenants import store
from maas_gateway.tenants.tenant import Tenant, TenantState


@dataclass(frozen=True, slots=True)
class NewUser:
    """A user and the password that is told once."""

    username: str
    password: str


class Onboard:
    """The acts on tenants."""

    def __init__(self, acting: Acting, provision: Provision) -> None:
        self._acting = acting
        self._provision = provision

    async def onboard(self, principal: Principal, slug: str, owner: str) -> tuple[Tenant, NewUser]:
        """Make a tenant with its first owner.

        Raises:
            PermissionDenied: the caller is no operator.
            InvalidRequest: the slug or the owner's name is malformed.
            Conflict: the slug is taken.
        """
        authorize(principal, Permission.TENANT_WRITE)
        password = new_password()
        if not await self._provision.tenant(check_slug(slug), check_username(owner), password, actor=principal.name):
            raise Conflict(f"tenant '{slug}' exists")
        return await self.tenant(principal, slug), NewUser(f"{owner}@{slug}", password)

    async def tenants(self, principal: Principal, asked: Asked = FIRST) -> Page[Tenant]:
        """Return a page of the tenants that the caller may know: all of them, or its own.

        Raises:
            PermissionDenied: the caller may not read tenants.
        """
        authorize(principal, Permission.TENANT_READ)
        async with read_all(self._acting.database) as session:
            return await store.page(session, asked, only=None if principal.tenant == PLATFORM else principal.tenant)

    async def tenant(self, principal: Principal, slug: str) -> Tenant:
        """Return one tenant.

        Raises:
            TenantNotFound: there is none of that slug for this caller.
        """
        if Permission.TENANT_READ in principal.everywhere:
            async with read_all(self._acting.database) as session:
                found = await store.by_slug(session, slug)
            if found is not None and principal.tenant in {PLATFORM, found.tenant_id}:
                return found
        raise TenantNotFound(f"tenant '{slug}' not found")

    async def set_state(self, principal: Principal, slug: str, state: TenantState) -> Tenant:
        """Suspend a tenant, so that none of its principals may act, or resume it.

        Raises:
            TenantNotFound: there is none of that slug for this caller.
            PermissionDenied: the caller is no operator.
        """
        await self.tenant(principal, slug)
        authorize(principal, Permission.TENANT_SUSPEND)
        async with write_all(self._acting.database) as session:
            await store.set_state(session, slug, state)
            kind = "tenant.suspended" if state is TenantState.SUSPENDED else "tenant.resumed"
            await self._acting.record(session.within(PLATFORM), principal, kind, f"tenant {slug}")
        self._acting.announce(accounts.TOPIC)
        return await self.tenant(principal, slug)
