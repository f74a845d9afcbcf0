"""Identity providers of the caller's tenant: registered, changed, removed.

Rules: only hosts that the platform's operator has listed are asked. What is listed for some tenants is theirs alone,
and each audience of an issuer there whoever's registers it first; an issuer at any other host belongs with all its
audiences to the tenant that registers it first, so that no other can have its tokens refused by registering a further
one of their audiences. To be first is no proof of being entitled: where tenants do not trust each other, hosts are
listed for tenants. Of two who are first at once, one's tokens count. Nobody maps a claim to a role that permits more than the own permissions, nor enables
a provider that does; every change is in force in every process within a second.
"""

import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from maas_gateway.accounts.store import TOPIC
from maas_gateway.auth import store
from maas_gateway.auth.identity_provider import MAX_NAME, MAX_PROVIDERS, ClaimRule, IdentityProvider
from maas_gateway.auth.provider_address import AllowedHosts
from maas_gateway.controlplane.acting import Acting
from maas_gateway.errors import Conflict, InvalidRequest, NotFound
from maas_gateway.identifiers import check_username, new_id
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize, authorize_binding, authorize_thing
from maas_gateway.principal import Principal


class ManageIdentityProviders:
    """The acts on identity providers.

    Args:
        acting: what every act needs.
        hosts: which may be asked for keys.
        own_issuer: the gateway's, which is nobody's to register.
    """

    def __init__(self, acting: Acting, hosts: AllowedHosts, own_issuer: str) -> None:
        self._acting = acting
        self._hosts = hosts
        self._own_issuer = own_issuer

    async def every(self, principal: Principal) -> tuple[IdentityProvider, ...]:
        """Return the tenant's identity providers by name.

        Raises:
            PermissionDenied: the caller may not read them.
        """
        authorize(principal, Permission.BINDING_READ)
        async with self._acting.database.read(principal.tenant) as session:
            return await store.identity_providers(session)

    async def one(self, principal: Principal, provider_id: uuid.UUID) -> IdentityProvider:
        """Return one identity provider.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
        """
        find = partial(store.identity_provider, provider_id=provider_id)
        return await self._acting.one(principal, Permission.BINDING_READ, find, _absent(provider_id))

    async def add(
        self, principal: Principal, name: str, *, issuer: str, audience: str, claim: str, rules: Sequence[ClaimRule]
    ) -> IdentityProvider:
        """Register an issuer; its tokens count from now on.

        Raises:
            PermissionDenied: the caller may not, or a rule permits more than the caller has.
            InvalidRequest: the name is malformed, the issuer is not one that this platform asks for keys, or a rule
                names what is no role or cannot be bound there.
            Conflict: the issuer is registered for that audience or belongs to another tenant, the name is taken, or
                there are as many as there may be.
        """
        authorize(principal, Permission.BINDING_WRITE)
        if len(check_username(name)) > MAX_NAME:
            raise InvalidRequest(f"name: at most {MAX_NAME} characters")
        _check_rules(principal, rules)
        await self._check_issuer(principal, issuer)
        now = self._acting.clock.now()
        provider = IdentityProvider(
            provider_id=new_id(),
            tenant=principal.tenant,
            name=name,
            issuer=issuer,
            audience=audience,
            claim=claim,
            rules=tuple(rules),
            is_enabled=True,
            created_at=now,
        )
        async with self._acting.database.write(principal.tenant) as session:
            _check_new(provider, await store.identity_providers(session))
            try:
                await store.add_identity_provider(session, provider)
            except Conflict as cause:
                raise Conflict("issuer: it is registered for this audience already") from cause
            said = {"name": name, "issuer": issuer, "audience": audience, "claim": claim, "rules": _said(rules)}
            thing = _thing(provider.provider_id)
            await self._acting.record(session, principal, "identity-provider.added", thing, **said)
        self._acting.announce(TOPIC)
        return provider

    async def change(
        self,
        principal: Principal,
        provider_id: uuid.UUID,
        *,
        is_enabled: bool | None = None,
        rules: Sequence[ClaimRule] | None = None,
    ) -> IdentityProvider:
        """Enable or disable an identity provider, or say what its claims are worth; what is None stays.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not, or a rule that would count from now on permits more than the caller has.
            InvalidRequest: a rule names what is no role or cannot be bound there.
        """
        absent = _absent(provider_id)
        authorize_thing(principal, Permission.BINDING_WRITE, principal.tenant, absent=absent)
        async with self._acting.database.write(principal.tenant) as session:
            before = await store.identity_provider(session, provider_id, for_update=True)
            if before is None:
                raise absent
            provider = replace(
                before,
                is_enabled=before.is_enabled if is_enabled is None else is_enabled,
                rules=before.rules if rules is None else tuple(rules),
            )
            if rules is not None or (provider.is_enabled and not before.is_enabled):
                _check_rules(principal, provider.rules)
            await store.change_identity_provider(session, provider)
            said: dict[str, str | bool] = {"enabled": provider.is_enabled, "rules": _said(provider.rules)}
            await self._acting.record(session, principal, "identity-provider.changed", _thing(provider_id), **said)
        self._acting.announce(TOPIC)
        return provider

    async def remove(self, principal: Principal, provider_id: uuid.UUID) -> None:
        """Forget an identity provider; its tokens are worth nothing at once.

        Raises:
            NotFound: there is none of that id in the tenant for this caller.
            PermissionDenied: the caller may not.
        """
        absent = _absent(provider_id)
        authorize_thing(principal, Permission.BINDING_WRITE, principal.tenant, absent=absent)
        async with self._acting.database.write(principal.tenant) as session:
            if not await store.drop_identity_provider(session, provider_id):
                raise absent
            await self._acting.record(session, principal, "identity-provider.removed", _thing(provider_id))
        self._acting.announce(TOPIC)

    async def _check_issuer(self, principal: Principal, issuer: str) -> None:
        if issuer.rstrip("/") == self._own_issuer:
            raise InvalidRequest("issuer: that is this gateway itself")
        if "?" in issuer:
            raise InvalidRequest("issuer: an address without a query")
        slug, has_another = await store.slug_and_others(self._acting.database, principal.tenant, issuer)
        try:
            self._hosts.check(issuer, slug)
        except ValueError as cause:
            raise InvalidRequest(f"issuer: {cause}") from cause
        if has_another and not self._hosts.is_of_tenants(issuer):
            raise Conflict(
                "issuer: it is registered already, and belongs to one tenant; for several to have it, the platform's "
                "operator lists its host for each"
            )


def _check_new(provider: IdentityProvider, known: Sequence[IdentityProvider]) -> None:
    if len(known) >= MAX_PROVIDERS:
        raise Conflict(f"a tenant has at most {MAX_PROVIDERS} identity providers; remove one first")
    if any(other.name == provider.name for other in known):
        raise Conflict(f"name: identity provider '{provider.name}' exists")


def _check_rules(principal: Principal, rules: Sequence[ClaimRule]) -> None:
    for rule in rules:
        authorize_binding(principal, rule.role, rule.model, named="rules: the role")


def _said(rules: Sequence[ClaimRule]) -> str:
    """Return rules as they stand in the record."""
    said = (f"{rule.value}: {rule.role}{f' on model {rule.model}' if rule.model else ''}" for rule in rules)
    return "; ".join(said) or "none"


def _absent(provider_id: uuid.UUID) -> NotFound:
    return NotFound(f"identity provider '{provider_id}' not found")


def _thing(provider_id: uuid.UUID) -> str:
    return f"identity provider {provider_id}"
