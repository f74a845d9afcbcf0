"""Confined processes of this gateway process: how many there may be, starting them, counting how they end.

Rules:

* a tenant has at most so many at once, and all together at most so many: a model beyond that is not ready, and says so;
* each has an executor of its own, one thread, so that a call that does not end holds nobody else's;
* one that ends by itself is replaced: the first time at once, then after 1, 2, 4, … 60 seconds, until it has run for
  five minutes. So a model that ends its process at every call is started about once a minute, and one that did so once
  is hardly missed;
* all are started by one thread that lives as long as this object: the kernel ends a process with the thread that
  started it.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from maas_gateway.clock import Clock
from maas_gateway.confinement.limits import Limits
from maas_gateway.confinement.resident import ResidentChild
from maas_gateway.errors import ModelNotReady, Unavailable
from maas_gateway.identifiers import TenantId
from maas_gateway.inference.fairness import FairTime
from maas_gateway.inference.process import MODULE, End, Plan, ProcessRuntime
from maas_gateway.inference.threads import ThreadExecutor
from maas_gateway.registry.memory import MemoryFile
from maas_gateway.registry.model import ModelVersion
from maas_gateway.telemetry.metrics import Metrics
from maas_gateway.tensors.signature import ModelSignature

_CALM_S: Final = 300.0
_LONGEST_PAUSE_S: Final = 60.0
_MOST_DOUBLINGS: Final = 6
_NICENESS: Final = 5
_FULL_RETRY_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What confined processes may take.

    Attributes:
        per_tenant: of one tenant at once.
        in_all: at once.
        memory_bytes: address space of one.
        n_threads: threads that compute in one.
        call_s: seconds that one call may take.
        load_s: seconds that loading may take.
    """

    per_tenant: int
    in_all: int
    memory_bytes: int
    n_threads: int
    call_s: float
    load_s: float


class ModelProcess:
    """A model in a process of its own; lives on one event loop.

    Attributes:
        runtime: computes it.
        executor: on which its calls wait, nobody else's.
        fair_time: whose turn it is there.
    """

    def __init__(
        self,
        runtime: ProcessRuntime,
        executor: ThreadExecutor,
        fair_time: FairTime,
        *,
        tell: Callable[[End], None],
        give_back: Callable[[], None],
    ) -> None:
        """Take a process that has loaded its plan; `Processes.load` does.

        Args:
            runtime: its.
            executor: made for it.
            fair_time: the executor's.
            tell: told why, if it ends by itself.
            give_back: called once, when it has ended.
        """
        self.runtime = runtime
        self.executor = executor
        self.fair_time = fair_time
        self._tell = tell
        self._give_back: Callable[[], None] | None = give_back
        self._descriptor = runtime.ended_fd
        self._on_end: Callable[[], None] | None = None

    def watch(self, on_end: Callable[[], None]) -> None:
        """Call `on_end` once on the event loop when the process has ended by itself."""
        self._on_end = on_end
        asyncio.get_running_loop().add_reader(self._descriptor, self.look)

    def look(self) -> None:
        """Find out now whether the process has ended by itself."""
        on_end = self._on_end
        if on_end is not None and self.runtime.has_ended:
            self._ignore()
            self._gone()  # before its successor asks for a place
            self._tell(self.runtime.end)
            on_end()

    async def close(self) -> None:
        """End the process and clear it away, off the event loop."""
        self._ignore()
        self.executor.close()
        try:
            await asyncio.to_thread(self.runtime.close)
        finally:
            self._gone()

    def kill(self) -> None:
        """End the process and clear it away at once, whatever it computes."""
        self._ignore()
        self.executor.close()
        self.runtime.close()
        self._gone()

    def _ignore(self) -> None:
        if self._on_end is not None:
            self._on_end = None
            asyncio.get_running_loop().remove_reader(self._descriptor)

    def _gone(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


class Processes:
    """All confined processes that compute models; lives on one event loop.

    Args:
        limits: what they may take.
        fair_time: whose weights hold for each of them too.
        metrics: where they are counted.
    """

    def __init__(self, limits: ProcessLimits, fair_time: FairTime, metrics: Metrics) -> None:
        self._limits = limits
        self._fair_time = fair_time
        self._metrics = metrics
        self._taken: Counter[TenantId] = Counter()
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="process-starter")
        self._log = structlog.get_logger()

    async def load(self, version: ModelVersion, opened: Callable[[], Awaitable[MemoryFile]]) -> ModelProcess:
        """Start a process and have it load a version's plan.

        Args:
            version: whose.
            opened: opens the plan into memory, which is wiped and given back as soon as the process has it.

        Raises:
            ModelNotReady: there are as many processes as may be.
            ArtifactRefused: the engine cannot load the plan.
            Unavailable: the process does not get that far.
            IntegrityFailure: the plan is not what was sealed.
        """
        self._take(version.tenant)
        fair_time = self._fair_time.afresh()
        executor = ThreadExecutor(1, name="process", fair_time=fair_time)
        child: ResidentChild | None = None
        try:
            memory = await opened()
            try:
                child = await self._started(version, memory.size_bytes)
            except BaseException:
                memory.close()
                raise
            runtime = await executor.run(partial(self._filled, child, memory, version.signature))
        except BaseException:
            if child is not None:
                child.close()
            executor.close()
            self._give_back(version.tenant)
            raise
        self._metrics.model_processes.inc()
        self._log.info("model_process_started", pid=runtime.pid, in_force=list(runtime.in_force), **_names(version))
        return ModelProcess(
            runtime,
            executor,
            fair_time,
            tell=partial(self._note_end, version, runtime.pid),
            give_back=partial(self._clear, version.tenant),
        )

    def close(self) -> None:
        """Start no more; the kernel ends those that are left."""
        self._starter.shutdown(wait=False, cancel_futures=True)

    async def _started(self, version: ModelVersion, size_bytes: int) -> ResidentChild:
        limits, plan = self._limits, version.plan
        start = partial(
            ResidentChild,
            MODULE,
            limits=Limits(memory_bytes=limits.memory_bytes, cpu_s=0, niceness=_NICENESS),
            arguments=Plan(plan.runtime, version.signature, plan.input_order, plan.output_order).arguments(
                size_bytes=size_bytes, n_threads=limits.n_threads
            ),
            n_threads=limits.n_threads,
        )
        starting = asyncio.get_running_loop().run_in_executor(self._starter, start)
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_close_unwanted)
            raise
        except OSError as cause:
            raise Unavailable("this machine starts no more processes") from cause

    def _filled(self, child: ResidentChild, memory: MemoryFile, signature: ModelSignature) -> ProcessRuntime:
        limits = self._limits
        with memory, memory.content as content:
            return ProcessRuntime.load(child, content, signature, load_s=limits.load_s, call_s=limits.call_s)

    def _note_end(self, version: ModelVersion, pid: int, reason: End) -> None:
        self._metrics.model_process_ends.labels(reason.value).inc()
        self._log.warning("model_process_ended", pid=pid, reason=reason.value, **_names(version))

    def _take(self, tenant: TenantId) -> None:
        limits = self._limits
        if self._taken[tenant] >= limits.per_tenant:
            raise ModelNotReady(
                f"it needs a process of its own, and {limits.per_tenant} of this tenant are running, as many as may; "
                "retire another version that needs one",
                retry_after_s=_FULL_RETRY_S,
            )
        if self._taken.total() >= limits.in_all:
            raise ModelNotReady(
                "it needs a process of its own, and as many are running as may; the operator sets processes.in_all",
                retry_after_s=_FULL_RETRY_S,
            )
        self._taken[tenant] += 1

    def _clear(self, tenant: TenantId) -> None:
        self._metrics.model_processes.dec()
        self._give_back(tenant)

    def _give_back(self, tenant: TenantId) -> None:
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]


class Falls:
    """How often things have ended by themselves, and how long to wait before each is started again.

    Args:
        clock: what time it is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: dict[Hashable, tuple[int, float]] = {}

    def note(self, key: Hashable) -> float:
        """Note that it has ended; return the seconds to wait, 0 for none."""
        now_s = self._clock.monotonic_s()
        n_before, last_s = self._seen.get(key, (0, now_s))
        n_before = n_before if now_s - last_s < _CALM_S else 0
        self._seen = {each: seen for each, seen in self._seen.items() if now_s - seen[1] < _CALM_S}
        self._seen[key] = (n_before + 1, now_s)
        return min(_LONGEST_PAUSE_S, 2.0 ** min(n_before - 1, _MOST_DOUBLINGS)) if n_before else 0.0

    def forget(self, key: Hashable) -> None:
        """Begin anew with it."""
        self._seen.pop(key, None)


def _close_unwanted(starting: "asyncio.Future[ResidentChild]") -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().close()


def _names(version: ModelVersion) -> dict[str, object]:
    return {"tenant": str(version.tenant), "model": version.model, "version": version.version}
