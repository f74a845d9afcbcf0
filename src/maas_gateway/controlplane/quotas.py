"""How much callers may ask for: quotas that a tenant writes for its own, and the one that the platform writes for it.

Rules: an owner limits its principals, its models, and principals on models; the quota of the tenant as a whole is the
platform's to write and the tenant's to read; a lifetime budget is for a model, because it bounds what is learnt of one.
"""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

from maas_gateway.accounts import store as accounts
from maas_gateway.controlplane.acting import Acting
from maas_gateway.database.paging import FIRST, Asked, Page
from maas_gateway.database.sessions import TenantSession, UnscopedSession
from maas_gateway.database.unscoped import read_all, write_all
from maas_gateway.errors import Conflict, InvalidRequest, NotFound, PermissionDenied, TenantNotFound
from maas_gateway.identifiers import PLATFORM, SubjectId, check_model_reference, new_id
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize, authorize_thing
from maas_gateway.principal import Principal
from maas_gateway.quotas import store
from maas_gateway.quotas.quota import Quota, QuotaRule
from maas_gateway.quotas.usage import UseLine
from maas_gateway.tenants import store as tenants
from maas_gateway.tenants.tenant import Tenant

_DAYS: Final = timedelta(days=30)


class ManageQuotas:
    """The acts on quotas, and what was used."""

    def __init__(self, acting: Acting) -> None:
        self._acting = acting

    async def every(self, principal: Principal, asked: Asked = FIRST) -> Page[QuotaRule]:
        """Return a page of the tenant's quotas, the platform's for it among them.

        Raises:
            PermissionDenied: the caller may not read them.
        """
        authorize(principal, Permission.POLICY_READ)
        async with self._acting.database.read(principal.tenant) as session:
            return await store.rules_page(session, asked)

    async def one(self, principal: Principal, rule_id: UUID) -> QuotaRule:
        """Return one quota.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
        """
        authorize_thing(principal, Permission.POLICY_READ, principal.tenant, absent=_absent(rule_id))
        async with self._acting.database.read(principal.tenant) as session:
            return await _found(session, rule_id)

    async def add(self, principal: Principal, quota: Quota, *, subject: UUID | None, model: str | None) -> QuotaRule:
        """Write a quota for a principal, a model, or a principal on a model.

        Raises:
            PermissionDenied: the caller may not.
            InvalidRequest: it names neither, no such account, or a malformed model; or it has a lifetime budget and
                names no model.
            Conflict: there is one for the same already.
        """
        authorize(principal, Permission.POLICY_WRITE)
        if subject is None and model is None:
            raise InvalidRequest("model: name a model or a subject; your tenant's own quota is the platform's to write")
        check_weight(quota)
        _check_budget(quota, model)
        if model is not None:
            check_model_reference(model)
        rule = QuotaRule(new_id(), principal.tenant, quota, None if subject is None else SubjectId(subject), model)
        try:
            async with self._acting.database.write(principal.tenant) as session:
                if subject is not None and await accounts.subject(session, subject) is None:
                    raise InvalidRequest(f"subject: '{subject}' is no account of this tenant")
                await store.add(session, rule)
                await self._record(session, principal, "quota.added", rule)
        except Conflict as cause:
            raise Conflict("there is a quota for the same already; change that one") from cause
        self._acting.announce(store.TOPIC)
        return rule

    async def change(self, principal: Principal, rule_id: UUID, quota: Quota) -> QuotaRule:
        """Write what a quota allows from now on; what was spent of a lifetime budget stays spent.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not, or it is the platform's.
            InvalidRequest: it has a lifetime budget and names no model.
        """
        authorize_thing(principal, Permission.POLICY_WRITE, principal.tenant, absent=_absent(rule_id))
        async with self._acting.database.write(principal.tenant) as session:
            before = await _own(session, rule_id)
            check_weight(quota)
            _check_budget(quota, before.model)
            await store.change(session, rule_id, quota)
            rule = QuotaRule(rule_id, before.tenant, quota, before.subject, before.model)
            await self._record(session, principal, "quota.changed", rule)
        self._acting.announce(store.TOPIC)
        return rule

    async def remove(self, principal: Principal, rule_id: UUID) -> None:
        """Have a quota limit nobody any more; what was spent of a lifetime budget stays spent.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not, or it is the platform's.
        """
        authorize_thing(principal, Permission.POLICY_WRITE, principal.tenant, absent=_absent(rule_id))
        async with self._acting.database.write(principal.tenant) as session:
            rule = await _own(session, rule_id)
            await store.drop(session, rule_id)
            await self._record(session, principal, "quota.removed", rule)
        self._acting.announce(store.TOPIC)

    async def of_tenant(self, principal: Principal, slug: str) -> Quota:
        """Return the quota of a tenant as a whole.

        Raises:
            TenantNotFound: there is none of that slug for this caller.
        """
        async with read_all(self._acting.database) as session:
            tenant = await _tenant(session, principal, slug)
            rule = await store.tenants_own(session.within(tenant.tenant_id))
        return Quota() if rule is None else rule.quota

    async def limit_tenant(self, principal: Principal, slug: str, quota: Quota) -> None:
        """Write the quota of a tenant as a whole; an empty one limits nothing.

        Raises:
            TenantNotFound: there is none of that slug for this caller.
            PermissionDenied: the caller is no operator.
            InvalidRequest: it has a lifetime budget.
        """
        async with write_all(self._acting.database) as session:
            tenant = await _tenant(session, principal, slug)
            authorize(principal, Permission.TENANT_WRITE)
            _check_budget(quota, None)
            within = session.within(tenant.tenant_id)
            before = await store.tenants_own(within)
            if before is not None:
                await store.drop(within, before.rule_id)
            if quota != Quota():
                await store.add(within, QuotaRule(new_id(), tenant.tenant_id, quota))
            said = _said(quota)
            await self._acting.record(session.within(PLATFORM), principal, "tenant.limited", f"tenant {slug}", **said)
        self._acting.announce(store.TOPIC)

    async def usage(
        self, principal: Principal, since: date | None, until: date | None, asked: Asked = FIRST
    ) -> Page[UseLine]:
        """Return a page of what the tenant's principals used on some days, both included.

        Args:
            principal: who asks.
            since: the first day; None means 30 days before the last.
            until: the last day; None means today.
            asked: which page.

        Raises:
            PermissionDenied: the caller may not read it.
            InvalidRequest: the first day comes after the last.
        """
        authorize(principal, Permission.USAGE_READ)
        days = self._days(since, until)
        async with self._acting.database.read(principal.tenant) as session:
            return await store.usage_page(session, *days, asked)

    async def shared_usage(
        self, principal: Principal, since: date | None, until: date | None
    ) -> list[Mapping[str, Any]]:
        """Return what other tenants used of this one's models through shares, by day, tenant and model. See `usage`."""
        authorize(principal, Permission.USAGE_READ)
        days = self._days(since, until)
        return list(await store.shared_usage(self._acting.database, principal.tenant, *days))

    async def spent(self, principal: Principal) -> Mapping[tuple[UUID, str], int]:
        """Return how many rows of lifetime budgets are spent or reserved, by principal or share, and model.

        Raises:
            PermissionDenied: the caller may not read it.
        """
        authorize(principal, Permission.USAGE_READ)
        async with self._acting.database.read(principal.tenant) as session:
            return await store.spent(session)

    def _days(self, since: date | None, until: date | None) -> tuple[date, date]:
        last = until or self._acting.clock.now().date()
        first = since or last - min(_DAYS, last - date.min)
        if first > last:
            raise InvalidRequest("from: it is after to")
        return first, last

    async def _record(self, session: TenantSession, principal: Principal, kind: str, rule: QuotaRule) -> None:
        about = {"subject": None if rule.subject is None else str(rule.subject), "model": rule.model}
        await self._acting.record(session, principal, kind, f"quota {rule.rule_id}", **about, **_said(rule.quota))


async def _tenant(session: UnscopedSession, principal: Principal, slug: str) -> Tenant:
    tenant = await tenants.by_slug(session, slug)
    may_know = Permission.TENANT_READ in principal.everywhere
    if tenant is None or not may_know or principal.tenant not in {PLATFORM, tenant.tenant_id}:
        raise TenantNotFound(f"tenant '{slug}' not found")
    return tenant


async def _found(session: TenantSession, rule_id: UUID) -> QuotaRule:
    rule = await store.rule(session, rule_id)
    if rule is None:
        raise _absent(rule_id)
    return rule


async def _own(session: TenantSession, rule_id: UUID) -> QuotaRule:
    """Return a quota that is the tenant's to change."""
    rule = await _found(session, rule_id)
    if rule.subject is None and rule.model is None:
        raise PermissionDenied("this quota is the platform's to change")
    return rule


def _check_budget(quota: Quota, model: str | None) -> None:
    if quota.lifetime_rows is not None and model is None:
        raise InvalidRequest("lifetime_rows: a lifetime budget is for a model; name one")


def check_weight(quota: Quota) -> None:
    """Refuse a weight, except of a tenant as a whole.

    Raises:
        InvalidRequest: there is one.
    """
    if quota.weight is not None:
        raise InvalidRequest("weight: a tenant has one as a whole, which is the platform's to write")


def _said(quota: Quota) -> dict[str, str]:
    return {name: str(value) for name, value in quota.to_json().items()}


def _absent(rule_id: UUID) -> NotFound:
    return NotFound(f"quota '{rule_id}' not found")
