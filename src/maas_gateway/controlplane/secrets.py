"""New secrets for accounts that are there: a user's password, a service account's secret.

Rules: whoever changes the own password proves the old one, and waits like one who signs in if that fails often; a
password that is replaced while its owner proves it changes nothing any more. Whoever resets another's gets one that is
told once, and what was counted of guesses at it is forgotten. Either ends every sign-in of that user, everywhere. Only
a service account's secret is rotated by others. Whoever is told an account's secret can act as it, so nobody is told
that of one which is permitted more.
"""

from contextlib import suppress
from typing import Final
from uuid import UUID

from maas_gateway.accounts import store
from maas_gateway.accounts.service_account import ServiceAccount
from maas_gateway.accounts.user import User
from maas_gateway.auth.client_secrets import digest_of, new_password, new_secret
from maas_gateway.auth.passwords import Passwords
from maas_gateway.auth.refresh import RefreshTokens
from maas_gateway.auth.throttle import SignInThrottle
from maas_gateway.controlplane.acting import Acting
from maas_gateway.database.sessions import TenantSession
from maas_gateway.errors import InvalidRequest, NotFound, PermissionDenied, Unavailable
from maas_gateway.identifiers import SubjectId
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize_thing
from maas_gateway.policy.roles import permitted
from maas_gateway.principal import Principal

_NOT_YOURS: Final = "current: this is not your password"


class Secrets:
    """The acts on secrets in the caller's own tenant.

    Args:
        acting: what every act needs.
        passwords: hashes and checks.
        refresh: ends sign-ins.
        throttle: makes whoever proves the old password wrongly wait; begins anew where there is a new one.
    """

    def __init__(
        self, acting: Acting, passwords: Passwords, refresh: RefreshTokens, *, throttle: SignInThrottle
    ) -> None:
        self._throttle = throttle
        self._acting = acting
        self._passwords = passwords
        self._refresh = refresh

    async def change_password(self, principal: Principal, *, current: str, new: str, address: str) -> None:
        """Change the caller's own password.

        Args:
            principal: the caller.
            current: the password so far.
            new: the password from now on.
            address: the client's; "" where there is none.

        Raises:
            InvalidRequest: the caller is no user of ours, the current password is wrong, or the new one is too short or long.
            TooManyAttempts: the current password was wrong too often.
            Overloaded: too many sign-ins are being checked.
        """
        if principal.kind == "federated":
            raise InvalidRequest("an identity provider keeps your password; change it there")
        checked = await self._checked(principal, current, address)
        new_hash = await self._passwords.hash(new)
        async with self._acting.database.write(principal.tenant) as session:
            known = await store.user(session, checked.subject, for_update=True)
            if known is None or known.generation != checked.generation:  # it was replaced meanwhile
                raise InvalidRequest(_NOT_YOURS)
            await self._replace(session, principal.subject, new_hash)
            await store.note_told(session, principal.subject, None)
            await self._acting.record(session, principal, "password.changed", f"user {principal.subject}")
        self._acting.announce(store.TOPIC)

    async def reset_password(self, principal: Principal, subject: UUID) -> str:
        """Give a user a password of ours; return it, which is told once.

        Raises:
            NotFound: there is no user of that id in the tenant for this caller.
            PermissionDenied: the caller may not, or the user is permitted more than the caller.
        """
        absent = NotFound(f"user '{subject}' not found")
        authorize_thing(principal, Permission.USER_WRITE, principal.tenant, absent=absent)
        password = new_password()
        new_hash = await self._passwords.hash(password)
        async with self._acting.database.write(principal.tenant) as session:
            if await store.user(session, subject, for_update=True) is None:
                raise absent
            await _refuse_more(session, principal, subject)
            await self._replace(session, subject, new_hash)
            await store.note_told(session, subject, principal.subject)
            await self._acting.record(session, principal, "password.reset", f"user {subject}")
        self._acting.announce(store.TOPIC)
        with suppress(Unavailable):  # it is done, and its password is told nowhere else
            await self._throttle.forget(principal.tenant, SubjectId(subject))
        return password

    async def rotate_secret(self, principal: Principal, subject: UUID) -> tuple[ServiceAccount, str]:
        """Give a service account a new secret; return it, which is told once. The old one is worth nothing at once.

        Raises:
            NotFound: there is no service account of that id in the tenant for this caller.
            PermissionDenied: the caller may not, or the account is permitted more than the caller.
        """
        absent = NotFound(f"service account '{subject}' not found")
        authorize_thing(principal, Permission.SERVICE_ACCOUNT_WRITE, principal.tenant, absent=absent)
        secret = new_secret()
        async with self._acting.database.write(principal.tenant) as session:
            account = await store.service_account(session, subject)
            if account is None:
                raise absent
            await _refuse_more(session, principal, subject)
            await store.replace_secret(session, account.subject, digest_of(secret))
            await store.note_told(session, subject, principal.subject)
            await self._acting.record(session, principal, "secret.rotated", f"service account {subject}")
        self._acting.announce(store.TOPIC)
        return account, secret

    async def _checked(self, principal: Principal, password: str, address: str) -> User:
        """Return the caller as it was when that was its password."""
        async with self._throttle.attempt(f"user {principal.name}", address) as attempt:
            async with self._acting.database.read(principal.tenant) as session:
                user = await store.user(session, principal.subject)
            is_right, _ = await self._passwords.check(password, None if user is None else user.password_hash)
            if is_right:
                await self._throttle.succeeded(attempt, principal.tenant, principal.subject)
        if user is None or not is_right:
            raise InvalidRequest(_NOT_YOURS)
        return user

    async def _replace(self, session: TenantSession, subject: UUID, password_hash: str) -> None:
        await self._refresh.end_all(session, subject)  # first, because whoever spends a token locks in this order
        await store.replace_password(session, subject, password_hash)


async def _refuse_more(session: TenantSession, principal: Principal, subject: UUID) -> None:
    """Refuse to tell the secret of an account that is permitted more than the caller is by this credential."""
    if not permitted(binding.role for binding in await store.bindings(session, subject)) <= principal.everywhere:
        raise PermissionDenied("this account is permitted more than you are; you are not told its secret")
