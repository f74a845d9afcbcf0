"""Model versions in memory: opened, loaded, warmed, drained, given back.

Rules: a version is opened once, however many ask; only one whose seal verified and whose first call
ran is handed out; a seal that does not verify raises the alarm and is not tried again until the
registry changes; what fails for another reason is tried again after a pause; a version that is no
longer wanted finishes its requests before its memory is wiped and given back, and where that wait is
cut short its memory is given back as it is: a runtime that still computes would compute with zeros.

A version is loaded by its first plan, on this process's threads or in a confined process, as that plan says; never by
another of its plans instead: that would answer within another tolerance, at another speed, and hide what is wrong. One
whose process has ended by itself is loaded anew (`processes`): its requests in line wait for that one, as when a version
is swapped.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from maas_gateway.audit.event import AuditEvent, Outcome
from maas_gateway.audit.log import AuditLog
from maas_gateway.clock import Clock, Deadline
from maas_gateway.dataplane.processes import Falls, ModelProcess, Processes
from maas_gateway.errors import (
    ArtifactRefused,
    DeadlineExceeded,
    GatewayError,
    IntegrityFailure,
    ModelNotReady,
    Unavailable,
)
from maas_gateway.identifiers import ModelId
from maas_gateway.inference.batcher import Batcher
from maas_gateway.inference.executor import Executor
from maas_gateway.inference.fairness import FairTime
from maas_gateway.inference.runtimes.catalogue import LOADERS, Loader
from maas_gateway.inference.runtimes.runtime import Runtime, warm
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.memory import MemoryFile
from maas_gateway.registry.model import ModelVersion, Placement
from maas_gateway.telemetry.metrics import Metrics
from maas_gateway.tensors.signature import ModelSignature

_RETRY_S = 5.0

Key = tuple[ModelId, int]
Spawn = Callable[[Coroutine[Any, Any, None]], None]


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much of one model's work may run and wait.

    Attributes:
        max_rows: most rows that one engine call takes.
        max_queue: requests that may wait.
    """

    max_rows: int
    max_queue: int


@dataclass(frozen=True, slots=True)
class Servable:
    """A version in memory, ready to answer.

    Attributes:
        version: which.
        runtime: computes it.
        batcher: the way to it.
        memory: where its plan lies, if it is computed on this process's threads.
        process: where it is computed, if that is in a process of its own.
    """

    version: ModelVersion
    runtime: Runtime
    batcher: Batcher
    memory: MemoryFile | None = None
    process: ModelProcess | None = None

    @property
    def signature(self) -> ModelSignature:
        """What it takes and gives."""
        return self.version.signature


@dataclass(slots=True)
class _Slot:
    version: ModelVersion
    is_settled: asyncio.Event
    servable: Servable | None = None
    failure: GatewayError | None = None
    retry_at_s: float | None = None


class Servables:
    """What this process has in memory."""

    def __init__(
        self,
        artifacts: Artifacts,
        executor: Executor,
        *,
        processes: Processes,
        limits: BatchLimits,
        fair_time: FairTime,
        audit: AuditLog,
        metrics: Metrics,
        clock: Clock,
        spawn: Spawn,
    ) -> None:
        self._artifacts = artifacts
        self._executor = executor
        self._processes = processes
        self._limits = limits
        self._fair_time = fair_time
        self._audit = audit
        self._metrics = metrics
        self._clock = clock
        self._spawn = spawn
        self._slots: dict[Key, _Slot] = {}
        self._falls = Falls(clock)
        self._leaving: set[asyncio.Event] = set()
        self._log = structlog.get_logger()

    @property
    def n_leaving(self) -> int:
        """How many versions are being unloaded."""
        return len(self._leaving)

    def ready(self, version: ModelVersion) -> Servable | None:
        """Return the version if it is in memory and ready; never waits."""
        slot = self._slots.get((version.model_id, version.version))
        return None if slot is None else slot.servable

    def failure(self, version: ModelVersion) -> GatewayError | None:
        """Return why the version could not be loaded, if that is so."""
        slot = self._slots.get((version.model_id, version.version))
        return None if slot is None else slot.failure

    async def get(self, version: ModelVersion, deadline: Deadline) -> Servable:
        """Return the version, loaded.

        Raises:
            ModelNotReady: it could not be loaded.
            DeadlineExceeded: it was not loaded in time.
        """
        slot = self._slot(version)
        if slot.servable is not None and slot.servable.process is not None:
            slot.servable.process.look()
            slot = self._slot(version)
        if slot.servable is None and slot.failure is None:
            try:
                await asyncio.wait_for(slot.is_settled.wait(), max(0.0, deadline.left_s()))
            except TimeoutError:
                raise DeadlineExceeded(f"version {version.version} of '{version.model}' is still loading") from None
        if slot.servable is None:
            failure = slot.failure or ModelNotReady("it was unloaded")
            raise ModelNotReady(
                f"version {version.version} of '{version.model}' cannot be served: {failure.detail}",
                retry_after_s=failure.retry_after_s or _RETRY_S,
            )
        return slot.servable

    async def load(self, version: ModelVersion) -> None:
        """Have the version in memory, or know why not."""
        await self._slot(version).is_settled.wait()

    def keep_only(self, model_id: ModelId, wanted: frozenset[int]) -> None:
        """Unload versions of a model that are no longer wanted."""
        for key in [key for key in self._slots if key[0] == model_id and key[1] not in wanted]:
            slot = self._slots.pop(key)
            self._falls.forget(key)
            if slot.servable is not None:
                self._spawn(self._unload(slot.servable, self._departure()))

    def forget_failures(self, model_id: ModelId) -> None:
        """Have versions of a model that could not be loaded tried again."""
        for key in [key for key, slot in self._slots.items() if key[0] == model_id and slot.failure is not None]:
            del self._slots[key]
            self._falls.forget(key)

    async def close(self) -> None:
        """Unload everything."""
        slots, self._slots = self._slots, {}
        for slot in slots.values():
            if slot.servable is not None:
                await self._unload(slot.servable, self._departure())
        for departure in list(self._leaving):
            await departure.wait()

    def _slot(self, version: ModelVersion) -> _Slot:
        key = (version.model_id, version.version)
        slot = self._slots.get(key)
        is_due = slot is not None and slot.retry_at_s is not None and slot.retry_at_s <= self._clock.monotonic_s()
        return self._begun(version) if slot is None or is_due else slot

    def _begun(self, version: ModelVersion) -> _Slot:
        slot = self._slots[version.model_id, version.version] = _Slot(version, asyncio.Event())
        self._spawn(self._settle(slot))
        return slot

    def _replace(self, fallen: _Slot) -> None:
        """Have a version whose process has ended loaded anew, after a pause if that was not the first time."""
        version, key = fallen.version, (fallen.version.model_id, fallen.version.version)
        if self._slots.get(key) is not fallen or fallen.servable is None:
            return  # it is leaving anyway
        self._spawn(self._unload(fallen.servable, self._departure()))
        self._metrics.model_process_restarts.inc()
        pause_s = self._falls.note(key)
        if not pause_s:
            self._begun(version)
            return
        sentence = f"its process ended again and again; it is started anew in {pause_s:g} s"
        waiting = _Slot(version, asyncio.Event(), failure=ModelNotReady(sentence, retry_after_s=pause_s))
        waiting.is_settled.set()
        self._slots[key] = waiting
        self._spawn(self._begin_later(waiting, pause_s))

    async def _begin_later(self, waiting: _Slot, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        version = waiting.version
        if self._slots.get((version.model_id, version.version)) is waiting:
            self._begun(version)

    async def _settle(self, slot: _Slot) -> None:
        version = slot.version
        name = {"tenant": str(version.tenant), "model": version.model, "version": version.version}
        began_s = self._clock.monotonic_s()
        try:
            slot.servable = await self._loaded(slot)
        except IntegrityFailure as failure:
            slot.failure = failure
            self._metrics.integrity_alarms.inc()
            self._log.critical("integrity_alarm", reason=failure.detail, **name)
            thing = f"model {version.model}/versions/{version.version}"
            event = AuditEvent("model.integrity", "gateway", thing, Outcome.ALARM, failure.slug)
            self._audit.write_soon(version.tenant, event)
        except GatewayError as failure:
            slot.failure = failure
            slot.retry_at_s = self._clock.monotonic_s() + self._pause_s(version, failure)
            self._log.error("model_not_loaded", reason=failure.detail, **name)
        except Exception:  # noqa: BLE001  the outermost frame of a background act: logged, and the version says so
            slot.failure = Unavailable("an unexpected fault while loading; the operator's log has it")
            slot.retry_at_s = self._clock.monotonic_s() + _RETRY_S
            self._log.exception("model_not_loaded", **name)
        else:
            self._metrics.loaded.inc()
            took_ms = round((self._clock.monotonic_s() - began_s) * 1000)
            self._log.info("model_loaded", took_ms=took_ms, **name)
        finally:
            slot.is_settled.set()
        if slot.servable is not None and self._slots.get((version.model_id, version.version)) is not slot:
            await self._unload(slot.servable, self._departure())  # no longer wanted by the time it was ready

    def _pause_s(self, version: ModelVersion, failure: GatewayError) -> float:
        """Return how long a version that could not be loaded waits for the next try, longer each time if it cost a process."""
        if version.plan.placement is Placement.PROCESS and type(failure) in {Unavailable, ArtifactRefused}:
            return max(_RETRY_S, self._falls.note((version.model_id, version.version)))
        return _RETRY_S

    async def _loaded(self, slot: _Slot) -> Servable:
        version, limits = slot.version, self._limits
        opened = partial(self._artifacts.open, version, version.plan.runtime)
        if version.plan.placement is Placement.PROCESS:
            process = await self._processes.load(version, opened)
            batcher = Batcher(
                process.runtime,
                process.executor,
                max_rows=limits.max_rows,
                max_queue=limits.max_queue,
                fair_time=process.fair_time,
                interrupt=process.runtime.interrupt,
            )
            process.watch(partial(self._replace, slot))
            return Servable(version, process.runtime, batcher, process=process)
        memory = await opened()
        runtime = await asyncio.to_thread(_warm_runtime, version, memory)
        batcher = Batcher(
            runtime, self._executor, max_rows=limits.max_rows, max_queue=limits.max_queue, fair_time=self._fair_time
        )
        return Servable(version, runtime, batcher, memory)

    def _departure(self) -> asyncio.Event:
        """Return what is set when a version that begins to leave now is gone; `close` waits for it."""
        departure = asyncio.Event()
        self._leaving.add(departure)
        return departure

    async def _unload(self, servable: Servable, departure: asyncio.Event) -> None:
        try:
            await _give_back(servable)
        finally:
            self._leaving.discard(departure)
            departure.set()
        self._metrics.loaded.dec()
        version = servable.version
        self._log.info("model_unloaded", tenant=str(version.tenant), model=version.model, version=version.version)


async def _give_back(servable: Servable) -> None:
    """Let a version finish what it computes, then wipe it; if that wait is cut short, leave it to the kernel."""
    try:
        await servable.batcher.drain()
    except BaseException:
        if servable.process is not None:
            servable.process.kill()
        servable.runtime.close()
        if servable.memory is not None:
            servable.memory.abandon()
        raise
    if servable.process is not None:
        await servable.process.close()
    else:
        await asyncio.to_thread(_wipe, servable)


def _wipe(servable: Servable) -> None:
    servable.runtime.close()
    if servable.memory is not None:
        servable.memory.close()


def _loader(name: str) -> Loader:
    if name not in LOADERS:
        raise Unavailable(f"this gateway has no runtime '{name}' on its threads")
    return LOADERS[name]


def _warm_runtime(version: ModelVersion, memory: MemoryFile) -> Runtime:
    """Return a runtime that has computed once. It blocks, and gives the memory back if there will be none.

    Nobody else touches the memory meanwhile, not even if the load is given up.
    """
    runtime = None
    try:
        runtime = _loader(version.plan.runtime)(
            memory.descriptor,
            memory.size_bytes,
            signature=version.signature,
            input_order=version.plan.input_order,
            output_order=version.plan.output_order,
        )
        memory.cover_mappings()
        warm(runtime)
    except BaseException:
        if runtime is not None:
            runtime.close()
        memory.close()
        raise
    return runtime
