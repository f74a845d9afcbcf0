"""Shares: the owner of a model lets another tenant invoke it, within a quota.

Rules: the other tenant is named by its identifier, which only it and the platform know, so that nobody finds out by
trying which tenants there are; whoever shares a model may read it and predict with it; a share lets a tenant read a model's metadata and predict, nothing else, and within it
each principal needs the permission from its own tenant; ending a share is in force in every process within a second.
"""

from dataclasses import dataclass, replace
from uuid import UUID

from maas_gateway.accounts import store
from maas_gateway.accounts.share import Share
from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.quotas import check_weight
from maas_gateway.database.paging import FIRST, Asked, Page
from maas_gateway.database.sessions import TenantSession
from maas_gateway.database.unscoped import read_all
from maas_gateway.errors import Conflict, InvalidRequest, NotFound
from maas_gateway.identifiers import PLATFORM, ModelRef, TenantId, check_model_name, new_id
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize, authorize_model, authorize_thing
from maas_gateway.principal import Principal
from maas_gateway.quotas import store as quotas
from maas_gateway.quotas.quota import Quota
from maas_gateway.registry import store as registry
from maas_gateway.tenants import store as tenants
from maas_gateway.tenants.tenant import TenantState


@dataclass(frozen=True, slots=True)
class LimitedShare:
    """A share and how much may be asked for through it."""

    share: Share
    quota: Quota


class ManageShares:
    """The acts on what the caller's own tenant shares."""

    def __init__(self, acting: Acting) -> None:
        self._acting = acting

    async def every(self, principal: Principal, asked: Asked = FIRST) -> Page[LimitedShare]:
        """Return a page of what the tenant shares.

        Raises:
            PermissionDenied: the caller may not read it.
        """
        authorize(principal, Permission.SHARE_READ)
        async with self._acting.database.read(principal.tenant) as session:
            page = await store.shares_page(session, asked)
            limits = await quotas.of_shares(session)
        return Page(tuple(LimitedShare(s, limits.get(s.share_id, Quota())) for s in page), page.following)

    async def one(self, principal: Principal, share_id: UUID) -> LimitedShare:
        """Return one share.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
        """
        authorize_thing(principal, Permission.SHARE_READ, principal.tenant, absent=_absent(share_id))
        async with self._acting.database.read(principal.tenant) as session:
            return await _found(session, share_id)

    async def add(self, principal: Principal, model: str, consumer: UUID, quota: Quota) -> LimitedShare:
        """Share a model with another tenant.

        Args:
            principal: who asks.
            model: one of the tenant's own.
            consumer: the other tenant's identifier.
            quota: how much may be asked for through the share, by all of that tenant together.

        Raises:
            PermissionDenied: the caller may not, or may not predict with the model itself.
            ModelNotFound: the caller may not read it.
            InvalidRequest: there is no such model, or no other active tenant of that identifier.
            Conflict: it is shared with that tenant already.
        """
        authorize(principal, Permission.SHARE_WRITE)
        check_model_name(model)
        _check_may_give(principal, model)
        check_weight(quota)
        await self._check_consumer(principal.tenant, TenantId(consumer))
        share = Share(new_id(), principal.tenant, model, TenantId(consumer), True, self._acting.clock.now())
        try:
            async with self._acting.database.write(principal.tenant) as session:
                if await registry.model(session, model) is None:
                    raise InvalidRequest(f"model: '{model}' is no model of this tenant")
                await store.add_share(session, share)
                await quotas.set_of_share(session, share.share_id, quota)
                said = {"model": model, "consumer": str(consumer)}
                await self._acting.record(session, principal, "share.added", _thing(share.share_id), **said)
        except Conflict as cause:
            raise Conflict(f"model '{model}' is shared with that tenant already; change that share") from cause
        self._announce()
        return LimitedShare(share, quota)

    async def change(
        self, principal: Principal, share_id: UUID, *, is_enabled: bool | None = None, quota: Quota | None = None
    ) -> LimitedShare:
        """Enable or disable a share, or say how much may be asked for through it; what is None stays.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not; to enable one, also if it may not predict with the model itself.
        """
        authorize_thing(principal, Permission.SHARE_WRITE, principal.tenant, absent=_absent(share_id))
        async with self._acting.database.write(principal.tenant) as session:
            before = await _found(session, share_id)
            enabled = before.share.is_enabled if is_enabled is None else is_enabled
            if enabled and not before.share.is_enabled:
                _check_may_give(principal, before.share.model)
            allowed = before.quota if quota is None else quota
            check_weight(allowed)
            await store.enable_share(session, share_id, is_enabled=enabled)
            await quotas.set_of_share(session, share_id, allowed)
            said: dict[str, bool | str] = {"enabled": enabled, **{n: str(v) for n, v in allowed.to_json().items()}}
            await self._acting.record(session, principal, "share.changed", _thing(share_id), **said)
        self._announce()
        return LimitedShare(replace(before.share, is_enabled=enabled), allowed)

    async def remove(self, principal: Principal, share_id: UUID) -> None:
        """End a share.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not.
        """
        authorize_thing(principal, Permission.SHARE_WRITE, principal.tenant, absent=_absent(share_id))
        async with self._acting.database.write(principal.tenant) as session:
            gone = await _found(session, share_id)
            await store.drop_share(session, share_id)
            await quotas.drop_of_share(session, share_id)
            said = {"model": gone.share.model, "consumer": str(gone.share.consumer)}
            await self._acting.record(session, principal, "share.removed", _thing(share_id), **said)
        self._announce()

    async def _check_consumer(self, owner: TenantId, consumer: TenantId) -> None:
        async with read_all(self._acting.database) as session:
            found = await tenants.by_id(session, consumer)
        is_other = consumer not in {owner, PLATFORM}
        if found is None or found.state is not TenantState.ACTIVE or not is_other:
            raise InvalidRequest(f"consumer: '{consumer}' is no other active tenant")

    def _announce(self) -> None:
        self._acting.announce(store.TOPIC)
        self._acting.announce(quotas.TOPIC)


def _check_may_give(principal: Principal, model: str) -> None:
    """Refuse to give to others what the caller does not have itself."""
    for permission in (Permission.MODEL_READ, Permission.MODEL_PREDICT):
        authorize_model(principal, permission, ModelRef(model))


async def _found(session: TenantSession, share_id: UUID) -> LimitedShare:
    share = await store.share(session, share_id)
    if share is None:
        raise _absent(share_id)
    return LimitedShare(share, (await quotas.of_shares(session)).get(share_id, Quota()))


def _absent(share_id: UUID) -> NotFound:
    return NotFound(f"share '{share_id}' not found")


def _thing(share_id: UUID) -> str:
    return f"share {share_id}"
