"""Rotating a key, and ending the life of an old version.

Rules: an operation's row comes first, so that a killed rotation is taken up again; then the new
version is stored pending and visible, then it is primary, then what the old one wraps is rewrapped;
each step may be repeated. One rotation of a ring runs at a time. A version is retired only when
nothing needs it: no item is under it, and no token it signed can still be alive.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import structlog

from maas_gateway.audit.event import AuditEvent
from maas_gateway.controlplane.acting import Acting
from maas_gateway.errors import Conflict, GatewayError, KeyNotFound
from maas_gateway.identifiers import PLATFORM, TenantId, new_id
from maas_gateway.keyring import rewrap
from maas_gateway.keyring import store as keys
from maas_gateway.keyring.key import KeyState, KeyVersion, Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.operations import store
from maas_gateway.operations.operation import Operation, OperationState
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize, authorize_thing
from maas_gateway.principal import Principal

KIND = "rotate"
LEASE = timedelta(seconds=10)
_WAIT_S = 2.0

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Rotate:
    """The acts on keyrings.

    Args:
        acting: what every act needs.
        keyring: all rings.
        spawn: runs a coroutine in the gateway's task group.
        token_life_s: how long a signed token can live, clock skew included, in seconds.
    """

    def __init__(self, acting: Acting, keyring: Keyring, spawn: Spawn, *, token_life_s: int) -> None:
        self._acting = acting
        self._keyring = keyring
        self._spawn = spawn
        self._token_life = timedelta(seconds=token_life_s)
        self._log = structlog.get_logger()

    async def describe(self, principal: Principal) -> list[dict[str, object]]:
        """Return every ring that is the caller's, with its versions and what still uses each.

        Raises:
            PermissionDenied: the caller may not read keyrings.
        """
        authorize(principal, Permission.KEYRING_READ)
        mine = [purpose for purpose in Purpose if purpose.is_platforms == (principal.tenant == PLATFORM)]
        return [await self._described(principal.tenant, purpose) for purpose in mine]

    async def describe_one(self, principal: Principal, purpose: str) -> dict[str, object]:
        """Return one ring with its versions and what still uses each.

        Raises:
            KeyNotFound: there is no such ring for this caller.
        """
        owner, found = _ring(principal, purpose, Permission.KEYRING_READ)
        return await self._described(owner, found)

    async def rotate(self, principal: Principal, purpose: str, *, is_dry_run: bool = False) -> Operation:
        """Give a ring a new primary and rewrap what the old one wraps.

        Returns:
            The operation: finished if it was short, running otherwise. A dry run only counts.

        Raises:
            KeyNotFound: there is no such ring for this caller.
            PermissionDenied: the caller may not rotate it.
            Conflict: a rotation of this ring is running.
        """
        owner, found = _ring(principal, purpose, Permission.KEYRING_ROTATE)
        versions = await self._keyring.versions(owner, found)
        total = sum([await rewrap.n_uses(self._keyring, owner, found, v.version) for v in versions])
        operation = Operation(
            operation_id=new_id(),
            tenant=owner,
            kind=KIND,
            subject={"purpose": found.value, "dry_run": is_dry_run},
            state=OperationState.SUCCEEDED if is_dry_run else OperationState.RUNNING,
            done=0,
            total=total,
            error=None,
            actor=principal.name,
            created_at=self._acting.clock.now(),
        )
        if is_dry_run:
            return operation
        async with self._acting.database.write(owner) as session:
            for running in await store.running(session, KIND):
                if running.subject["purpose"] == found.value:
                    raise Conflict(f"keyring '{found}' is being rotated already by operation {running.operation_id}")
            await store.add(session, operation, leased_until=self._acting.clock.now() + LEASE)
            await self._acting.record(session, principal, "rotation.began", f"keyring {found}")
        finished = asyncio.Event()
        self._spawn(self._carry_out(operation, finished))
        try:
            await asyncio.wait_for(finished.wait(), _WAIT_S)
        except TimeoutError:
            self._log.info("rotation_goes_on", operation=str(operation.operation_id))
        async with self._acting.database.read(owner) as session:
            return await store.get(session, operation.operation_id) or operation

    async def retire(self, principal: Principal, purpose: str, version: int) -> dict[str, object]:
        """Have an old version open and verify nothing any more.

        Raises:
            KeyNotFound: there is no such version for this caller.
            PermissionDenied: the caller may not retire it.
            Conflict: something needs it.
        """
        owner, found = _ring(principal, purpose, Permission.KEYRING_RETIRE)
        old = await self._version(owner, found, version)
        if old.state is KeyState.PRIMARY:
            raise Conflict("the primary gives way only to a new one: rotate first")
        await self._refuse_if_needed(owner, found, old)
        return await self._move(principal, old, KeyState.DISABLED, "key.retired")

    async def destroy(self, principal: Principal, purpose: str, version: int) -> dict[str, object]:
        """Delete a retired version's bytes for ever.

        Raises:
            KeyNotFound: there is no such version for this caller.
            PermissionDenied: the caller may not destroy it.
            Conflict: something needs it.
            IllegalTransition: it is not retired.
        """
        owner, found = _ring(principal, purpose, Permission.KEYRING_DESTROY)
        old = await self._version(owner, found, version)
        await self._refuse_if_needed(owner, found, old)
        return await self._move(principal, old, KeyState.DESTROYED, "key.destroyed")

    async def resume(self) -> None:
        """Take up every rotation whose process has died."""
        now = self._acting.clock.now()
        for operation in await store.abandoned(self._acting.database, now, now + LEASE):
            self._log.warning("rotation_taken_up", operation=str(operation.operation_id))
            await self._carry_out(operation, asyncio.Event())

    async def _carry_out(self, operation: Operation, finished: asyncio.Event) -> None:
        purpose = Purpose(str(operation.subject["purpose"]))
        try:
            await self._steps(operation, purpose)
        except GatewayError as error:
            await self._finish(operation, OperationState.FAILED, error=error.detail)
        except Exception:
            self._log.exception("rotation_failed", operation=str(operation.operation_id))
            await self._finish(operation, OperationState.FAILED, error="an unexpected fault; see the log")
            raise
        finally:
            finished.set()

    async def _steps(self, operation: Operation, purpose: Purpose) -> None:
        owner = operation.tenant
        if not await self._has_newer_primary(operation, purpose):
            version = await self._keyring.add_version(owner, purpose)
            self._acting.announce(keys.TOPIC)
            await self._keyring.move(owner, purpose, version, state=KeyState.PRIMARY)
        self._acting.announce(keys.TOPIC)
        done = 0
        async for moved in rewrap.rewrap(self._keyring, owner, purpose):
            done += moved
            total = done + await rewrap.n_to_rewrap(self._keyring, owner, purpose)
            async with self._acting.database.write(owner) as session:
                until = self._acting.clock.now() + LEASE
                await store.progress(session, operation.operation_id, done=done, total=total, leased_until=until)
        await self._finish(operation, OperationState.SUCCEEDED)

    async def _has_newer_primary(self, operation: Operation, purpose: Purpose) -> bool:
        """Tell whether an earlier, killed run of this operation has come as far as a new primary."""
        for version in await self._keyring.versions(operation.tenant, purpose):
            if version.state is KeyState.PRIMARY:
                return version.created_at >= operation.created_at
        return False

    async def _finish(self, operation: Operation, state: OperationState, *, error: str | None = None) -> None:
        async with self._acting.database.write(operation.tenant) as session:
            await store.finish(session, operation.operation_id, state, error=error)
            kind = "rotation.finished" if state is OperationState.SUCCEEDED else "rotation.failed"
            thing = f"keyring {operation.subject['purpose']}"
            await self._acting.audit.record(session, AuditEvent(kind, operation.actor, thing))

    async def _version(self, owner: TenantId, purpose: Purpose, number: int) -> KeyVersion:
        for version in await self._keyring.versions(owner, purpose):
            if version.version == number:
                return version
        raise KeyNotFound(f"keyring '{purpose}' has no version {number}")

    async def _refuse_if_needed(self, owner: TenantId, purpose: Purpose, version: KeyVersion) -> None:
        uses = await rewrap.n_uses(self._keyring, owner, purpose, version.version)
        if uses:
            raise Conflict(
                f"{uses} items are still wrapped by version {version.version} of keyring '{purpose}'; rotate first"
            )
        if purpose is Purpose.TOKEN_SIGNING and version.state is KeyState.ENABLED:
            left = version.changed_at + self._token_life - self._acting.clock.now()
            if left > timedelta(0):
                seconds = int(left.total_seconds()) + 1
                raise Conflict(
                    f"tokens signed by version {version.version} may live for {seconds} seconds more",
                    retry_after_s=seconds,
                )

    async def _move(self, principal: Principal, version: KeyVersion, state: KeyState, kind: str) -> dict[str, object]:
        # The key store commits first: a record of what did not happen would be worse than the reverse.
        await self._keyring.move(version.tenant, version.purpose, version.version, state=state)
        async with self._acting.database.write(version.tenant) as session:
            await self._acting.record(session, principal, kind, f"keyring {version.purpose}", version=version.version)
        self._acting.announce(keys.TOPIC)
        return await self._described(version.tenant, version.purpose)

    async def _described(self, owner: TenantId, purpose: Purpose) -> dict[str, object]:
        versions = []
        for version in await self._keyring.versions(owner, purpose):
            entry: dict[str, object] = {
                "version": version.version,
                "state": version.state.value,
                "created_at": version.created_at.isoformat(),
                "uses": await rewrap.n_uses(self._keyring, owner, purpose, version.version),
            }
            if version.public is not None:
                entry["kid"] = version.public["kid"]
            versions.append(entry)
        return {"purpose": purpose.value, "versions": versions}


def _ring(principal: Principal, purpose: str, permission: Permission) -> tuple[TenantId, Purpose]:
    absent = KeyNotFound(f"keyring '{purpose}' not found")
    if purpose not in set(Purpose):
        authorize_thing(principal, permission, principal.tenant, absent=absent)
        raise absent
    found = Purpose(purpose)
    # A tenant's rings are its own; the platform has none of them, and no tenant has the platform's.
    is_mine = found.is_platforms == (principal.tenant == PLATFORM)
    if not is_mine:
        raise absent
    authorize_thing(principal, permission, principal.tenant, absent=absent)
    return principal.tenant, found
