"""Rotating a key, and ending the life of an old version; the same act by hand and by schedule.

Rules: the new version is stored pending and visible, then it is primary, then what the old ones wrap
is rewrapped, then it is checked that nothing is under them; each step may be repeated. A version is
retired only when nothing needs it: no item is under it, and no token it signed can still be alive.
"""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Final

from maas_gateway.audit.event import AuditEvent
from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.operate import LongAct, Operate, Report
from maas_gateway.controlplane.resign import Resign
from maas_gateway.errors import Conflict, KeyNotFound
from maas_gateway.identifiers import TenantId
from maas_gateway.keyring import rewrap
from maas_gateway.keyring import store as keys
from maas_gateway.keyring.key import KeyState, KeyVersion, Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.operations.operation import Operation, OperationState
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize, authorize_thing
from maas_gateway.principal import Principal

KIND: Final = "rotate"
_TELL_EVERY_S: Final = 1.0


class Rotate:
    """The acts on keyrings.

    Args:
        acting: what every act needs.
        keyring: all rings.
        operate: runs long acts.
        resign: the manifests that `statements` has signed.
        token_life_s: how long a signed token can live, clock skew included, in seconds.
    """

    def __init__(
        self, acting: Acting, keyring: Keyring, operate: Operate, *, resign: Resign, token_life_s: int
    ) -> None:
        self._resign = resign
        self._acting = acting
        self._keyring = keyring
        self._operate = operate
        self._token_life = timedelta(seconds=token_life_s)
        operate.carry_out(KIND, self._steps)

    async def describe(self, principal: Principal) -> list[dict[str, object]]:
        """Return every ring that is the caller's, with its versions and what still uses each.

        Raises:
            PermissionDenied: the caller may not read keyrings.
        """
        authorize(principal, Permission.KEYRING_READ)
        mine = [purpose for purpose in Purpose if purpose.has_ring(principal.tenant)]
        return [await self._described(principal.tenant, purpose) for purpose in mine]

    async def describe_one(self, principal: Principal, purpose: str) -> dict[str, object]:
        """Return one ring with its versions and what still uses each.

        Raises:
            KeyNotFound: there is no such ring for this caller.
        """
        return await self._described(principal.tenant, own_ring(principal, purpose, Permission.KEYRING_READ))

    async def rotate(
        self, principal: Principal, purpose: str, *, is_dry_run: bool = False, holder: str | None = None
    ) -> Operation:
        """Give a ring a new primary and rewrap what the old one wraps.

        Args:
            principal: who asks.
            purpose: which of its rings.
            is_dry_run: whether only to count.
            holder: of the root ring: at which holder the new version is made, which moves the root key there.

        Returns:
            The operation: finished if it was short, running otherwise. A dry run only counts.

        Raises:
            KeyNotFound: there is no such ring for this caller.
            PermissionDenied: the caller may not rotate it.
            InvalidRequest: that holder is not configured.
            Conflict: a rotation of this ring is running.
        """
        found = own_ring(principal, purpose, Permission.KEYRING_ROTATE)
        if holder is not None:
            self._keyring.root.check_holder(holder)
        act = await self._act(principal.tenant, found, principal.name, holder=holder, is_dry_run=is_dry_run)
        if is_dry_run:
            return self._operate.planned(act, state=OperationState.SUCCEEDED)
        return await self._operate.begin(act)

    async def rotate_by_itself(self, owner: TenantId, purpose: Purpose, *, actor: str) -> Operation:
        """Rotate because it is due.

        Raises:
            Conflict: a rotation of this ring is running.
        """
        return await self._operate.begin(await self._act(owner, purpose, actor))

    async def retire(self, principal: Principal, purpose: str, version: int) -> dict[str, object]:
        """Have an old version open and verify nothing any more.

        Raises:
            KeyNotFound: there is no such version for this caller.
            PermissionDenied: the caller may not retire it.
            Conflict: something needs it.
        """
        found = own_ring(principal, purpose, Permission.KEYRING_RETIRE)
        await self.retire_by_itself(await self._version(principal.tenant, found, version), actor=principal.name)
        return await self._described(principal.tenant, found)

    async def retire_by_itself(self, old: KeyVersion, *, actor: str) -> None:
        """Retire a version because it is time, if nothing needs it.

        Raises:
            Conflict: something needs it, or it is the primary.
        """
        if old.state is KeyState.PRIMARY:
            raise Conflict("the primary gives way only to a new one: rotate first")
        self._refuse_if_tokens_live(old)
        await self._refuse_if_it_signed(old)
        await self._move(actor, old, KeyState.DISABLED, "key.retired")

    async def destroy(self, principal: Principal, purpose: str, version: int) -> dict[str, object]:
        """Delete a retired version's bytes for ever.

        Raises:
            KeyNotFound: there is no such version for this caller.
            PermissionDenied: the caller may not destroy it.
            Conflict: something needs it.
            IllegalTransition: it is not retired.
        """
        found = own_ring(principal, purpose, Permission.KEYRING_DESTROY)
        old = await self._version(principal.tenant, found, version)
        await self._move(principal.name, old, KeyState.DESTROYED, "key.destroyed")
        return await self._described(principal.tenant, found)

    async def _act(
        self, owner: TenantId, purpose: Purpose, actor: str, *, holder: str | None = None, is_dry_run: bool = False
    ) -> LongAct:
        versions = await self._keyring.versions(owner, purpose)
        total = sum([await self._uses(version) for version in versions])
        subject: dict[str, object] = {"purpose": purpose.value, "dry_run": is_dry_run}
        if holder is not None:
            subject["holder"] = holder
        thing = f"keyring {purpose}"
        return LongAct(owner, KIND, subject, thing=thing, exclusive=thing, actor=actor, total=total)

    async def _steps(self, operation: Operation, report: Report) -> None:
        owner, purpose = operation.tenant, Purpose(str(operation.subject["purpose"]))
        if not await self._has_newer_primary(operation, purpose):
            holder = operation.subject.get("holder")
            version = await self._keyring.add_version(owner, purpose, holder=None if holder is None else str(holder))
            self._acting.announce(keys.TOPIC)
            await report(0, operation.total)
            await self._keyring.move(owner, purpose, version, state=KeyState.PRIMARY)
        self._acting.announce(keys.TOPIC)
        done, told_at_s = 0, self._acting.clock.monotonic_s()
        async for moved in self._moved(owner, purpose):
            done += moved
            if self._acting.clock.monotonic_s() - told_at_s >= _TELL_EVERY_S:
                await report(done, max(operation.total, done))
                told_at_s = self._acting.clock.monotonic_s()
        await report(done, max(operation.total, done))
        n_left = await rewrap.n_to_rewrap(self._keyring, owner, purpose)
        if n_left:
            raise Conflict(f"{n_left} items are still under an old version of keyring '{purpose}'; rotate again")

    async def _moved(self, owner: TenantId, purpose: Purpose) -> AsyncIterator[int]:
        """Put everything under the new primary: what the old ones wrap, and what they have signed."""
        if purpose is Purpose.STATEMENTS:
            signer = await self._keyring.signer(owner, purpose)
            async for moved in self._resign.under(signer.key_id):
                yield moved
        async for moved in rewrap.rewrap(self._keyring, owner, purpose):
            yield moved

    async def _uses(self, version: KeyVersion) -> int:
        if version.purpose is Purpose.STATEMENTS and version.public is not None:
            return await self._resign.n_signed_by(version.public["kid"])
        return await rewrap.n_uses(self._keyring, version.tenant, version.purpose, version.version)

    async def _refuse_if_it_signed(self, version: KeyVersion) -> None:
        n_uses = await self._uses(version)
        if n_uses:
            raise Conflict(
                f"{n_uses} items are still under version {version.version} of keyring '{version.purpose}'; rotate first"
            )

    async def _has_newer_primary(self, operation: Operation, purpose: Purpose) -> bool:
        """Tell whether an earlier, killed run of this operation has come as far as a new primary."""
        for version in await self._keyring.versions(operation.tenant, purpose):
            if version.state is KeyState.PRIMARY:
                return version.created_at >= operation.created_at
        return False

    async def _version(self, owner: TenantId, purpose: Purpose, number: int) -> KeyVersion:
        for version in await self._keyring.versions(owner, purpose):
            if version.version == number:
                return version
        raise KeyNotFound(f"keyring '{purpose}' has no version {number}")

    def _refuse_if_tokens_live(self, version: KeyVersion) -> None:
        if version.purpose is not Purpose.TOKEN_SIGNING or version.state is not KeyState.ENABLED:
            return
        left = version.changed_at + self._token_life - self._acting.clock.now()
        if left > timedelta(0):
            seconds = int(left.total_seconds()) + 1
            raise Conflict(
                f"tokens signed by version {version.version} may live for {seconds} seconds more", retry_after_s=seconds
            )

    async def _move(self, actor: str, version: KeyVersion, state: KeyState, kind: str) -> None:
        # The key store commits first: a record of what did not happen would be worse than the reverse.
        await self._keyring.move(version.tenant, version.purpose, version.version, state=state)
        async with self._acting.database.write(version.tenant) as session:
            event = AuditEvent(kind, actor, f"keyring {version.purpose}", detail={"version": version.version})
            await self._acting.audit.record(session, event)
        self._acting.announce(keys.TOPIC)

    async def _described(self, owner: TenantId, purpose: Purpose) -> dict[str, object]:
        found = await self._keyring.versions(owner, purpose)
        versions = [await self._described_version(version) for version in found]
        opening = [version.version for version in found if version.state.opens]
        return {"purpose": purpose.value, "min_open_version": min(opening, default=None), "versions": versions}

    async def _described_version(self, version: KeyVersion) -> dict[str, object]:
        entry: dict[str, object] = {
            "version": version.version,
            "state": version.state.value,
            "created_at": version.created_at.isoformat(),
            "uses": await self._uses(version),
        }
        public: Mapping[str, str] = version.public or {}
        return entry | {name: public[name] for name in ("kid", "holder") if name in public}


def own_ring(principal: Principal, purpose: str, permission: Permission) -> Purpose:
    """Return one of the caller's own rings by its name.

    Raises:
        KeyNotFound: there is no such ring for this caller; the platform has none of a tenant's, nor the reverse.
        PermissionDenied: it may read its rings, and not do this.
    """
    absent = KeyNotFound(f"keyring '{purpose}' not found")
    found = next((known for known in Purpose if known.value == purpose), None)
    if found is None or not found.has_ring(principal.tenant):
        authorize_thing(principal, permission, principal.tenant, absent=absent)
        raise absent
    authorize_thing(principal, permission, principal.tenant, absent=absent)
    return found
