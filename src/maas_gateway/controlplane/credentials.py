"""Who belongs to a tenant, and in which roles: users, service accounts, role bindings.

Rules: a secret is made by us, answered once and stored as a digest or a hash; nobody binds a role that permits more
than the binder's own permissions; what is named and is not there, or is another tenant's, is not found; a tenant keeps
an owner who can act. Who was disabled and is enabled again signs in anew: no token or sign-in from before comes back;
the password, the secret and API keys do.
"""

import uuid
from contextlib import suppress
from dataclasses import replace
from functools import partial

from maas_gateway.accounts import store
from maas_gateway.accounts.binding import RoleBinding
from maas_gateway.accounts.service_account import ServiceAccount
from maas_gateway.accounts.user import User
from maas_gateway.auth import store as auth
from maas_gateway.auth.client_secrets import digest_of, new_client_id, new_password, new_secret
from maas_gateway.auth.passwords import Passwords
from maas_gateway.auth.throttle import SignInThrottle
from maas_gateway.controlplane.acting import Acting
from maas_gateway.database.paging import FIRST, Asked, Page
from maas_gateway.database.sessions import TenantSession
from maas_gateway.errors import Conflict, InvalidRequest, NotFound, Unavailable
from maas_gateway.identifiers import SubjectId, check_username, new_id
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize, authorize_binding, authorize_thing
from maas_gateway.policy.roles import OWNER
from maas_gateway.principal import Principal
from maas_gateway.quotas import store as quotas


class Credentials:
    """The acts on accounts and bindings of the caller's own tenant."""

    def __init__(self, acting: Acting, passwords: Passwords, throttle: SignInThrottle) -> None:
        self._throttle = throttle
        self._acting = acting
        self._passwords = passwords

    async def users(self, principal: Principal, asked: Asked = FIRST) -> Page[User]:
        """Return a page of the tenant's users.

        Raises:
            PermissionDenied: the caller may not read them.
        """
        authorize(principal, Permission.USER_READ)
        async with self._acting.database.read(principal.tenant) as session:
            return await store.users_page(session, asked)

    async def user(self, principal: Principal, subject: uuid.UUID) -> User:
        """Return one user.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
        """
        find = partial(store.user, subject=subject)
        return await self._acting.one(principal, Permission.USER_READ, find, _no_user(subject))

    async def remove_user(self, principal: Principal, subject: uuid.UUID) -> None:
        """Delete a user with its bindings and API keys; its tokens are worth nothing at once.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not.
            Conflict: it is the last owner.
        """
        absent = _no_user(subject)
        authorize_thing(principal, Permission.USER_WRITE, principal.tenant, absent=absent)
        async with self._acting.database.write(principal.tenant) as session:
            user = await store.user(session, subject, for_update=True)
            if user is None:
                raise absent
            await _keep_an_owner(session, subject)
            await auth.drop_account(session, subject)
            await store.drop_account(session, subject)
            await quotas.drop_of_subject(session, subject)
            await self._acting.record(session, principal, "user.removed", f"user {subject}", name=user.name)
        self._acting.announce(store.TOPIC)

    async def add_user(self, principal: Principal, name: str) -> tuple[User, str]:
        """Make a user; return it and the password that is told once.

        Raises:
            PermissionDenied: the caller may not.
            InvalidRequest: the name is malformed.
            Conflict: the name is taken.
        """
        authorize(principal, Permission.USER_WRITE)
        check_username(name)
        password = new_password()
        password_hash = await self._passwords.hash(password)
        now = self._acting.clock.now()
        user = User(SubjectId(new_id()), principal.tenant, name, password_hash, True, now)
        try:
            async with self._acting.database.write(principal.tenant) as session:
                await store.add_user(session, user)
                await store.note_told(session, user.subject, principal.subject)
                await self._acting.record(session, principal, "user.added", f"user {name}")
        except Conflict as cause:
            raise Conflict(f"name: user '{name}' exists") from cause
        self._acting.announce(store.TOPIC)
        with suppress(Unavailable):  # it is done, and its password is told nowhere else
            await self._throttle.forget(user.tenant, user.subject)  # of whoever guessed before there was anybody
        return user, password

    async def enable_user(self, principal: Principal, subject: uuid.UUID, *, is_enabled: bool) -> None:
        """Enable or disable a user, whose sign-ins and tokens end with that for good.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not.
            Conflict: it is the last owner.
        """
        absent = _no_user(subject)
        authorize_thing(principal, Permission.USER_WRITE, principal.tenant, absent=absent)
        async with self._acting.database.write(principal.tenant) as session:
            if await store.user(session, subject, for_update=True) is None:
                raise absent
            if not is_enabled:
                await _keep_an_owner(session, subject)
                await auth.end_families(session, subject)
            await store.enable_user(session, subject, is_enabled=is_enabled)
            kind = "user.enabled" if is_enabled else "user.disabled"
            await self._acting.record(session, principal, kind, f"user {subject}")
        self._acting.announce(store.TOPIC)

    async def service_accounts(self, principal: Principal, asked: Asked = FIRST) -> Page[ServiceAccount]:
        """Return a page of the tenant's service accounts.

        Raises:
            PermissionDenied: the caller may not read them.
        """
        authorize(principal, Permission.SERVICE_ACCOUNT_READ)
        async with self._acting.database.read(principal.tenant) as session:
            return await store.service_accounts_page(session, asked)

    async def service_account(self, principal: Principal, subject: uuid.UUID) -> ServiceAccount:
        """Return one service account.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
        """
        find = partial(store.service_account, subject=subject)
        return await self._acting.one(principal, Permission.SERVICE_ACCOUNT_READ, find, _no_service_account(subject))

    async def remove_service_account(self, principal: Principal, subject: uuid.UUID) -> None:
        """Delete a service account with its bindings and API keys; its tokens are worth nothing at once.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not.
        """
        absent = _no_service_account(subject)
        authorize_thing(principal, Permission.SERVICE_ACCOUNT_WRITE, principal.tenant, absent=absent)
        async with self._acting.database.write(principal.tenant) as session:
            account = await store.service_account(session, subject)
            if account is None:
                raise absent
            await store.drop_account(session, subject)
            await quotas.drop_of_subject(session, subject)
            thing = f"service account {subject}"
            await self._acting.record(session, principal, "service-account.removed", thing, name=account.name)
        self._acting.announce(store.TOPIC)

    async def add_service_account(self, principal: Principal, name: str) -> tuple[ServiceAccount, str]:
        """Make a service account; return it and the secret that is told once.

        Raises:
            PermissionDenied: the caller may not.
            InvalidRequest: the name is malformed.
            Conflict: the name is taken.
        """
        authorize(principal, Permission.SERVICE_ACCOUNT_WRITE)
        secret = new_secret()
        account = ServiceAccount(
            subject=SubjectId(new_id()),
            tenant=principal.tenant,
            client_id=new_client_id(),
            name=check_username(name),
            secret_digest=digest_of(secret),
            is_enabled=True,
            created_at=self._acting.clock.now(),
        )
        try:
            async with self._acting.database.write(principal.tenant) as session:
                await store.add_service_account(session, account)
                await store.note_told(session, account.subject, principal.subject)
                await self._acting.record(session, principal, "service-account.added", f"service account {name}")
        except Conflict as cause:
            raise Conflict(f"name: service account '{name}' exists") from cause
        self._acting.announce(store.TOPIC)
        return account, secret

    async def enable_service_account(self, principal: Principal, subject: uuid.UUID, *, is_enabled: bool) -> None:
        """Enable or disable a service account, whose tokens end with that for good; its API keys and its secret stay.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not.
        """
        absent = _no_service_account(subject)
        authorize_thing(principal, Permission.SERVICE_ACCOUNT_WRITE, principal.tenant, absent=absent)
        async with self._acting.database.write(principal.tenant) as session:
            if not await store.enable_service_account(session, subject, is_enabled=is_enabled):
                raise absent
            kind = "service-account.enabled" if is_enabled else "service-account.disabled"
            await self._acting.record(session, principal, kind, f"service account {subject}")
        self._acting.announce(store.TOPIC)

    async def bindings(self, principal: Principal, asked: Asked = FIRST) -> Page[RoleBinding]:
        """Return a page of the tenant's role bindings.

        Raises:
            PermissionDenied: the caller may not read them.
        """
        authorize(principal, Permission.BINDING_READ)
        async with self._acting.database.read(principal.tenant) as session:
            return await store.bindings_page(session, asked)

    async def bind(self, principal: Principal, subject: uuid.UUID, role: str, model: str | None) -> RoleBinding:
        """Give a subject a role, on the whole tenant or on one model.

        Raises:
            PermissionDenied: the caller may not, or the role permits more than the caller has.
            InvalidRequest: there is no such role, or it cannot be bound there, or no such subject.
            Conflict: it is bound so already.
        """
        authorize(principal, Permission.BINDING_WRITE)
        authorize_binding(principal, role, model, named="role:")
        binding = RoleBinding(new_id(), principal.tenant, SubjectId(subject), role, model)
        where = f"model {model}" if model else "the tenant"
        try:
            async with self._acting.database.write(principal.tenant) as session:
                if await store.subject(session, subject) is None:
                    raise InvalidRequest(f"subject: '{subject}' is no account of this tenant")
                await store.bind(session, binding)
                await self._acting.record(session, principal, "role.bound", f"{role} on {where}", subject=str(subject))
        except Conflict as cause:
            raise Conflict(f"'{subject}' has the role {role} there already") from cause
        self._acting.announce(store.TOPIC)
        return binding

    async def binding(self, principal: Principal, binding_id: uuid.UUID) -> RoleBinding:
        """Return one role binding.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
        """
        find = partial(store.binding, binding_id=binding_id)
        return await self._acting.one(principal, Permission.BINDING_READ, find, _no_binding(binding_id))

    async def rebind(self, principal: Principal, binding_id: uuid.UUID, role: str) -> RoleBinding:
        """Put another role into a binding; whom and where it binds stays.

        Raises:
            NotFound: there is no such binding in the tenant for this caller.
            PermissionDenied: the caller may not, or the role permits more than the caller has.
            InvalidRequest: there is no such role, or it cannot be bound there.
            Conflict: the subject has that role there already, or loses the role of the last owner.
        """
        absent = _no_binding(binding_id)
        authorize_thing(principal, Permission.BINDING_WRITE, principal.tenant, absent=absent)
        async with self._acting.database.write(principal.tenant) as session:
            before = await store.binding(session, binding_id)
            if before is None:
                raise absent
            authorize_binding(principal, role, before.model, named="role:")
            if role != before.role:
                if before.role == OWNER:
                    await _keep_an_owner(session, before.subject)
                try:
                    await store.rebind(session, replace(before, role=role))
                except Conflict as cause:
                    raise Conflict(f"'{before.subject}' has the role {role} there already") from cause
            said = {"subject": str(before.subject), "before": before.role}
            await self._acting.record(session, principal, "role.changed", f"{role} in binding {binding_id}", **said)
        self._acting.announce(store.TOPIC)
        return replace(before, role=role)

    async def unbind(self, principal: Principal, binding_id: uuid.UUID) -> None:
        """Take a role away.

        Raises:
            NotFound: there is no such binding in the tenant for this caller.
            PermissionDenied: the caller may not.
        """
        absent = _no_binding(binding_id)
        authorize_thing(principal, Permission.BINDING_WRITE, principal.tenant, absent=absent)
        async with self._acting.database.write(principal.tenant) as session:
            bound = await store.binding(session, binding_id)
            if bound is None:
                raise absent
            if bound.role == OWNER:
                await _keep_an_owner(session, bound.subject)
            await store.unbind(session, binding_id)
            await self._acting.record(session, principal, "role.unbound", f"role binding {binding_id}")
        self._acting.announce(store.TOPIC)


def _no_user(subject: uuid.UUID) -> NotFound:
    return NotFound(f"user '{subject}' not found")


def _no_service_account(subject: uuid.UUID) -> NotFound:
    return NotFound(f"service account '{subject}' not found")


def _no_binding(binding_id: uuid.UUID) -> NotFound:
    return NotFound(f"role binding '{binding_id}' not found")


async def _keep_an_owner(session: TenantSession, subject: uuid.UUID) -> None:
    """Refuse to take away the last enabled owner: nobody could let anybody in any more."""
    is_owner = any(binding.role == OWNER for binding in await store.bindings(session, subject))
    if is_owner and not await store.n_other_owners(session, subject, OWNER):
        raise Conflict("this is the tenant's last owner; give another user the role owner first")
