"""Whose signatures a tenant takes: publishers' public keys, whether an upload must be signed, and whether whoever
promotes a version must be another than who uploaded it.

Rules: keys and rules are read from the database at each act, so that a change is in force everywhere at once; a key that is removed verifies no upload any more, also none that is being looked
at; what was accepted before a change stays. Every change is on record.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from maas_gateway.controlplane.acting import Acting
from maas_gateway.crypto.signatures import jwk_of_pem, jwk_thumbprint, public_jwk
from maas_gateway.database.sessions import TenantSession
from maas_gateway.errors import ArtifactRefused, Conflict, InvalidRequest, NotFound
from maas_gateway.identifiers import check_username
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize, authorize_thing
from maas_gateway.principal import Principal
from maas_gateway.registry import store
from maas_gateway.registry.publishers import (
    MAX_KEYS,
    Publisher,
    PublisherKey,
    PublisherSignature,
    PublishingRules,
    verify_publisher,
)

UNSIGNED: Final = (
    "this tenant takes signed models only. Sign the file with a registered key "
    "(openssl dgst -sha256 -sign key.pem -out model.sig model.keras) and send the signature along "
    "(maas-gateway models push … --signature model.sig, or the header Model-Signature)"
)


class Publishing:
    """The acts on publishers' keys and on the rules, in the caller's own tenant."""

    def __init__(self, acting: Acting) -> None:
        self._acting = acting

    async def keys(self, principal: Principal) -> tuple[PublisherKey, ...]:
        """Return the tenant's publisher keys.

        Raises:
            PermissionDenied: the caller may not read them.
        """
        authorize(principal, Permission.POLICY_READ)
        async with self._acting.database.read(principal.tenant) as session:
            return await store.publisher_keys(session)

    async def add_key(
        self, principal: Principal, name: str, *, jwk: Mapping[str, object] | None = None, pem: str | None = None
    ) -> PublisherKey:
        """Register a public key of P-256, given as a JWK or as PEM.

        Raises:
            PermissionDenied: the caller may not.
            InvalidRequest: the name is malformed, or what is given is not one public key of P-256.
            Conflict: the key is registered, its name is taken, or there are as many as there may be.
        """
        authorize(principal, Permission.POLICY_WRITE)
        check_username(name)
        public = _public(jwk, pem)
        key = PublisherKey(jwk_thumbprint(public), principal.tenant, name, public, self._acting.clock.now())
        async with self._acting.database.write(principal.tenant) as session:
            _check_new(key, await store.publisher_keys(session))
            await store.add_publisher_key(session, key)
            await self._acting.record(
                session, principal, "publisher-key.added", f"publisher key {key.key_id}", name=name
            )
        return key

    async def remove_key(self, principal: Principal, key_id: str) -> None:
        """Have a key verify no upload any more; versions that it verified stay.

        Raises:
            NotFound: there is no such key in the tenant for this caller.
            PermissionDenied: the caller may not.
        """
        absent = NotFound(f"publisher key '{key_id}' not found")
        authorize_thing(principal, Permission.POLICY_WRITE, principal.tenant, absent=absent)
        async with self._acting.database.write(principal.tenant) as session:
            if not await store.drop_publisher_key(session, key_id):
                raise absent
            await self._acting.record(session, principal, "publisher-key.removed", f"publisher key {key_id}")

    async def rules(self, principal: Principal) -> PublishingRules:
        """Return what the tenant demands.

        Raises:
            PermissionDenied: the caller may not read the rules.
        """
        authorize(principal, Permission.POLICY_READ)
        async with self._acting.database.read(principal.tenant) as session:
            return await store.publishing_rules(session)

    async def set_rules(
        self,
        principal: Principal,
        *,
        requires_signature: bool | None = None,
        requires_second_person: bool | None = None,
    ) -> PublishingRules:
        """Say what the tenant demands; None leaves a rule as it is. Returns what it demands now.

        Args:
            principal: who says so.
            requires_signature: whether uploads must be signed.
            requires_second_person: whether who releases or promotes must be another than who uploaded.

        Raises:
            PermissionDenied: the caller may not.
        """
        authorize(principal, Permission.POLICY_WRITE)
        said = {"requires_signature": requires_signature, "requires_second_person": requires_second_person}
        changes = {name: value for name, value in said.items() if value is not None}
        async with self._acting.database.write(principal.tenant) as session:
            rules = replace(await store.lock_publishing_rules(session), **changes)
            await store.set_publishing_rules(session, rules)
            await self._acting.record(session, principal, "publishing-rules.set", "publishing rules", **changes)
        return rules


async def publisher_of(session: TenantSession, digest: bytes, signature: PublisherSignature | None) -> Publisher | None:
    """Return who has signed a file, None where nobody has and nobody needs to.

    Args:
        session: of the tenant whose keys and rule decide.
        digest: SHA-256 of the file, 32 bytes.
        signature: as it came with the file.

    Raises:
        ArtifactRefused: the signature is not one of a registered key over this file, or there is none and
            the tenant demands one.
    """
    if signature is None:
        if (await store.publishing_rules(session)).requires_signature:
            raise ArtifactRefused(UNSIGNED)
        return None
    key = verify_publisher(await store.publisher_keys(session), digest, signature)
    return Publisher(key.key_id, key.name, signature.form, signature.content)


def _check_new(key: PublisherKey, known: Collection[PublisherKey]) -> None:
    if len(known) >= MAX_KEYS:
        raise Conflict(f"a tenant has at most {MAX_KEYS} publisher keys; remove one first")
    for other in known:
        if other.key_id == key.key_id:
            raise Conflict(f"this key is registered already, as '{other.name}'")
        if other.name == key.name:
            raise Conflict(f"name: publisher key '{key.name}' exists")


def _public(jwk: Mapping[str, object] | None, pem: str | None) -> dict[str, str]:
    if (jwk is None) == (pem is None):
        raise InvalidRequest("give the public key as one of jwk and pem")
    try:
        return jwk_of_pem(pem) if pem is not None else public_jwk(jwk or {})
    except ValueError as cause:
        raise InvalidRequest(f"{'jwk' if pem is None else 'pem'}: {cause}") from cause
