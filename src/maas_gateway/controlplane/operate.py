"""Long acts: begun, followed, cancelled, and taken up again when their process has died.

Rules: the operation's row comes first, so that a killed act is taken up by whichever process notices
first; what works on it keeps a lease, and lets go when it has lost it; of acts on one subject only
one runs at a time; a cancelled act stops at its next step and leaves what it has done, which is
whole; every work may be repeated from its beginning.
"""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import structlog

from maas_gateway.audit.event import AuditEvent
from maas_gateway.controlplane.acting import Acting
from maas_gateway.errors import Conflict, GatewayError, NotFound
from maas_gateway.identifiers import TenantId, new_id
from maas_gateway.operations import store
from maas_gateway.operations.operation import Operation, OperationState
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize_thing
from maas_gateway.principal import Principal

LEASE: Final = timedelta(seconds=10)
_RENEW_EVERY_S: Final = 3.0
_WAIT_S: Final = 2.0

Report = Callable[[int, int], Awaitable[None]]
"""Told how many items are done, and how many there are."""
Work = Callable[[Operation, Report], Awaitable[Mapping[str, object] | None]]
"""Does what an operation says; what it returns is kept as the operation's result."""
Spawn = Callable[[Coroutine[Any, Any, None]], None]


class _Stopped(Exception):
    """The operation is not this process's any more: cancelled, or taken up by another."""


@dataclass(frozen=True, slots=True)
class LongAct:
    """What is to be done.

    Attributes:
        tenant: whose act; PLATFORM for the platform's.
        kind: what is done, one that somebody carries out.
        subject: what it is done to; enough to resume it, no secret.
        thing: the same for the audit record, for example `keyring root`.
        exclusive: acts of one tenant that say the same here do not run at the same time.
        actor: who began it.
        total: how many items there are to do.
    """

    tenant: TenantId
    kind: str
    subject: Mapping[str, object]
    thing: str
    exclusive: str
    actor: str
    total: int = 0


class Operate:
    """Runs long acts.

    Args:
        acting: what every act needs.
        spawn: runs a coroutine in the gateway's task group.
    """

    def __init__(self, acting: Acting, spawn: Spawn) -> None:
        self._acting = acting
        self._spawn = spawn
        self._works: dict[str, Work] = {}
        self._log = structlog.get_logger()

    def carry_out(self, kind: str, work: Work) -> None:
        """Say how acts of a kind are done; once, while the gateway is built."""
        self._works[kind] = work

    async def begin(self, act: LongAct, *, wait_s: float = _WAIT_S) -> Operation:
        """Begin an act; return it finished if it took no longer than `wait_s`, running otherwise.

        Raises:
            Conflict: one with the same subject is running.
        """
        operation = self.planned(act)
        try:
            async with self._acting.database.write(act.tenant) as session:
                until = self._acting.clock.now() + LEASE
                await store.add(session, operation, exclusive=act.exclusive, leased_until=until)
                await self._acting.audit.record(session, AuditEvent(f"{act.kind}.began", act.actor, act.thing))
        except Conflict as cause:
            raise await self._conflict(act) from cause
        finished = asyncio.Event()
        self._spawn(self._run(operation, finished))
        try:
            await asyncio.wait_for(finished.wait(), wait_s)
        except TimeoutError:
            self._log.info("operation_goes_on", operation=str(operation.operation_id), kind=act.kind)
        async with self._acting.database.read(act.tenant) as session:
            return await store.get(session, operation.operation_id) or operation

    def planned(self, act: LongAct, *, state: OperationState = OperationState.RUNNING) -> Operation:
        """Return the operation that an act would be."""
        return Operation(
            operation_id=new_id(),
            tenant=act.tenant,
            kind=act.kind,
            subject=act.subject,
            state=state,
            done=0,
            total=act.total,
            error=None,
            actor=act.actor,
            created_at=self._acting.clock.now(),
            thing=act.thing,
        )

    async def cancel(self, principal: Principal, operation_id: uuid.UUID) -> Operation:
        """Have an operation stop at its next step.

        Raises:
            NotFound: there is none of that id for this caller.
            PermissionDenied: the caller may not cancel it.
            Conflict: it has ended.
        """
        absent = NotFound(f"operation '{operation_id}' not found")
        authorize_thing(principal, Permission.OPERATION_CANCEL, principal.tenant, absent=absent)
        async with self._acting.database.write(principal.tenant) as session:
            operation = await store.get(session, operation_id)
            if operation is None:
                raise absent
            if not await store.finish(session, operation_id, OperationState.CANCELLED):
                raise Conflict(f"operation '{operation_id}' has ended: {operation.state}")
            event = AuditEvent(f"{operation.kind}.cancelled", principal.name, operation.thing)
            await self._acting.audit.record(session, event)
            return await store.get(session, operation_id) or operation

    async def resume(self) -> None:
        """Take up every act whose process has died."""
        now = self._acting.clock.now()
        for operation in await store.abandoned(self._acting.database, now, now + LEASE):
            self._log.warning("operation_taken_up", operation=str(operation.operation_id), kind=operation.kind)
            await self._run(operation, asyncio.Event())

    async def _run(self, operation: Operation, finished: asyncio.Event) -> None:
        renewing = asyncio.create_task(self._renew(operation, asyncio.current_task()))
        try:
            result = await self._works[operation.kind](operation, self._report(operation))
            await self._finish(operation, OperationState.SUCCEEDED, result=result)
        except _Stopped:
            self._log.info("operation_stopped", operation=str(operation.operation_id))
        except GatewayError as error:
            await self._finish(operation, OperationState.FAILED, error=error.detail)
        except Exception:
            self._log.exception("operation_failed", operation=str(operation.operation_id))
            await self._finish(operation, OperationState.FAILED, error="an unexpected fault; see the log")
            raise
        finally:
            renewing.cancel()
            finished.set()

    async def _renew(self, operation: Operation, working: "asyncio.Task[Any] | None") -> None:
        """Keep the lease while a step takes long."""
        while working is not None and not working.done():
            await asyncio.sleep(_RENEW_EVERY_S)
            async with self._acting.database.write(operation.tenant) as session:
                await store.renew(session, operation.operation_id, leased_until=self._acting.clock.now() + LEASE)

    def _report(self, operation: Operation) -> Report:
        async def report(done: int, total: int) -> None:
            async with self._acting.database.write(operation.tenant) as session:
                until = self._acting.clock.now() + LEASE
                if not await store.progress(
                    session, operation.operation_id, done=done, total=total, leased_until=until
                ):
                    raise _Stopped

        return report

    async def _finish(
        self,
        operation: Operation,
        state: OperationState,
        *,
        error: str | None = None,
        result: Mapping[str, object] | None = None,
    ) -> None:
        async with self._acting.database.write(operation.tenant) as session:
            if await store.finish(session, operation.operation_id, state, error=error, result=result):
                kind = "finished" if state is OperationState.SUCCEEDED else "failed"
                event = AuditEvent(f"{operation.kind}.{kind}", operation.actor, operation.thing)
                await self._acting.audit.record(session, event)

    async def _conflict(self, act: LongAct) -> Conflict:
        async with self._acting.database.read(act.tenant) as session:
            running = await store.running(session, act.exclusive)
        which = f" by operation {running.operation_id}" if running is not None else ""
        return Conflict(f"{act.thing} is being changed already{which}", retry_after_s=2)
