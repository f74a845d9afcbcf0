"""API keys of the caller's tenant: made, changed, rotated, removed.

Rules: a key is the caller's own or a service account's, never another person's; it permits nothing that its maker or
its account is not permitted; nobody has one count again, or longer, that permits more than they may; its secret is
answered once and stored as a digest; its identifier stays the same when the secret is rotated, and the old secret
counts for as long as is asked.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from maas_gateway.accounts import store
from maas_gateway.accounts.api_key import APIKey
from maas_gateway.accounts.service_account import ServiceAccount
from maas_gateway.auth.api_keys import new_key_id, new_key_secret, text_of
from maas_gateway.auth.client_secrets import digest_of
from maas_gateway.controlplane.acting import Acting
from maas_gateway.database.paging import FIRST, Asked, Page
from maas_gateway.database.sessions import TenantSession
from maas_gateway.errors import InvalidRequest, NotFound, PermissionDenied
from maas_gateway.identifiers import SubjectId, check_username
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize, authorize_thing
from maas_gateway.policy.roles import permitted
from maas_gateway.principal import Principal

MAX_GRACE: Final = timedelta(days=30)
"""How long an old secret may count after a rotation."""


class ManageAPIKeys:
    """The acts on API keys."""

    def __init__(self, acting: Acting) -> None:
        self._acting = acting

    async def every(self, principal: Principal, asked: Asked = FIRST) -> Page[APIKey]:
        """Return a page of the tenant's API keys by name.

        Raises:
            PermissionDenied: the caller may not read them.
        """
        authorize(principal, Permission.API_KEY_READ)
        async with self._acting.database.read(principal.tenant) as session:
            return await store.api_keys_page(session, asked)

    async def one(self, principal: Principal, key_id: str) -> APIKey:
        """Return one key.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
        """
        authorize_thing(principal, Permission.API_KEY_READ, principal.tenant, absent=_absent(key_id))
        async with self._acting.database.read(principal.tenant) as session:
            return await _found(session, key_id)

    async def add(
        self,
        principal: Principal,
        name: str,
        permissions: frozenset[Permission],
        *,
        subject: UUID | None = None,
        expires_at: datetime | None = None,
    ) -> tuple[APIKey, str]:
        """Make a key; return it and its text, which is told once.

        Args:
            principal: who asks.
            name: what people will call it.
            permissions: the most that it permits.
            subject: the service account that it is for; none means the caller.
            expires_at: when it ends; none means never.

        Raises:
            PermissionDenied: the caller may not, or is not permitted something of `permissions`.
            InvalidRequest: the name is malformed, the account is not one that a key can be made for (there is none for
                who comes from an identity provider) or is not permitted something of `permissions`, or the end has passed.
        """
        authorize(principal, Permission.API_KEY_WRITE)
        self._check_end(expires_at)
        secret = new_key_secret()
        key = APIKey(
            key_id=new_key_id(),
            tenant=principal.tenant,
            subject=SubjectId(subject or principal.subject),
            name=check_username(name),
            permissions=permissions,
            digest=digest_of(secret),
            created_at=self._acting.clock.now(),
            expires_at=expires_at,
        )
        is_own = key.subject == principal.subject
        if is_own and principal.kind == "federated":
            raise InvalidRequest("subject: an identity provider answers for you; make the key for a service account")
        _refuse_more(permissions, principal.anywhere if is_own else principal.everywhere)
        async with self._acting.database.write(principal.tenant) as session:
            if not is_own:
                await _check_account(session, key.subject, permissions)
            await store.add_api_key(session, key)
            await store.note_key_told(session, key, principal.subject)
            said = {"name": name, "subject": str(key.subject), "permissions": " ".join(sorted(permissions))}
            await self._acting.record(session, principal, "api-key.added", _thing(key.key_id), **said)
        self._acting.announce(store.TOPIC)
        return key, text_of(key.key_id, secret)

    async def change(
        self, principal: Principal, key_id: str, *, is_enabled: bool | None = None, expires_at: datetime | None = None
    ) -> APIKey:
        """Enable or disable a key, or say when it ends; what is None stays.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not, or is not permitted all that the key permits and would have it count
                where it does not now, or longer.
            InvalidRequest: the end has passed.
        """
        authorize_thing(principal, Permission.API_KEY_WRITE, principal.tenant, absent=_absent(key_id))
        self._check_end(expires_at)
        async with self._acting.database.write(principal.tenant) as session:
            before = await _found(session, key_id, for_update=True)
            key = replace(
                before,
                is_enabled=before.is_enabled if is_enabled is None else is_enabled,
                expires_at=before.expires_at if expires_at is None else expires_at,
            )
            if _counts_more(key, before):
                is_own = key.subject == principal.subject
                _refuse_more(key.permissions, principal.anywhere if is_own else principal.everywhere)
            await store.change_api_key(session, key)
            until = None if key.expires_at is None else key.expires_at.isoformat()
            said: dict[str, bool | str | None] = {"enabled": key.is_enabled, "expires_at": until}
            await self._acting.record(session, principal, "api-key.changed", _thing(key_id), **said)
        self._acting.announce(store.TOPIC)
        return key

    async def rotate(self, principal: Principal, key_id: str, *, grace: timedelta) -> tuple[APIKey, str]:
        """Give a key a new secret; return it and its text, which is told once.

        Args:
            principal: who asks.
            key_id: of which key.
            grace: how long the old secret counts too; a still older one counts no more.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not, or is not permitted all that the key permits.
        """
        authorize_thing(principal, Permission.API_KEY_WRITE, principal.tenant, absent=_absent(key_id))
        secret = new_key_secret()
        async with self._acting.database.write(principal.tenant) as session:
            before = await _found(session, key_id, for_update=True)
            is_own = before.subject == principal.subject
            _refuse_more(before.permissions, principal.anywhere if is_own else principal.everywhere)
            if not is_own:
                await _check_account(session, before.subject, frozenset())
            key = replace(
                before,
                digest=digest_of(secret),
                former_digest=before.digest if grace else "",
                former_until=self._acting.clock.now() + grace if grace else None,
            )
            await store.change_api_key(session, key)
            await store.note_key_told(session, key, principal.subject)
            said = {"grace_s": round(grace.total_seconds())}
            await self._acting.record(session, principal, "api-key.rotated", _thing(key_id), **said)
        self._acting.announce(store.TOPIC)
        return key, text_of(key_id, secret)

    async def remove(self, principal: Principal, key_id: str) -> None:
        """Have a key be worth nothing any more, for good.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not.
        """
        authorize_thing(principal, Permission.API_KEY_WRITE, principal.tenant, absent=_absent(key_id))
        async with self._acting.database.write(principal.tenant) as session:
            if not await store.drop_api_key(session, key_id):
                raise _absent(key_id)
            await self._acting.record(session, principal, "api-key.removed", _thing(key_id))
        self._acting.announce(store.TOPIC)

    def _check_end(self, expires_at: datetime | None) -> None:
        if expires_at is not None and expires_at <= self._acting.clock.now():
            raise InvalidRequest("expires_at: it lies in the past")


async def _found(session: TenantSession, key_id: str, *, for_update: bool = False) -> APIKey:
    key = await store.api_key(session, key_id, for_update=for_update)
    if key is None:
        raise _absent(key_id)
    return key


async def _check_account(session: TenantSession, subject: UUID, permissions: frozenset[Permission]) -> None:
    """Refuse a key for an account that is no service account, or is not permitted as much."""
    if not isinstance(await store.subject(session, subject), ServiceAccount):
        raise InvalidRequest(f"subject: '{subject}' is no service account of this tenant; a person makes its own keys")
    missing = permissions - permitted(binding.role for binding in await store.bindings(session, subject))
    if missing:
        raise InvalidRequest(f"permissions: the service account is not permitted {', '.join(sorted(missing))}")


def _counts_more(key: APIKey, before: APIKey) -> bool:
    """Tell whether a change has a key count where it did not, or longer than it would have."""
    is_longer = before.expires_at is not None and (key.expires_at is None or key.expires_at > before.expires_at)
    return (key.is_enabled and not before.is_enabled) or is_longer


def _refuse_more(permissions: frozenset[Permission], held: frozenset[Permission]) -> None:
    missing = permissions - held
    if missing:
        raise PermissionDenied(f"permissions: you are not permitted {', '.join(sorted(missing))}")


def _absent(key_id: str) -> NotFound:
    return NotFound(f"API key '{key_id}' not found")


def _thing(key_id: str) -> str:
    return f"API key {key_id}"
