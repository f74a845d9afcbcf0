"""An executor of threads in this process; engines that release the GIL run beside the event loop.

The hop to a thread and back, measured on 2 cores of the reference machine, an empty call, one at a
time, median: 95 µs under uvloop and 155 µs under asyncio's own loop (its `run_in_executor`: 102 and
150 µs), of which the loop's thread computes 50 and 85 µs: two threads hand the GIL to each other.

One call more than there are threads is handed over, so that no thread waits for the event loop; the others wait here,
and which is next `fairness` says. There is no bound: each batcher hands over one call at a time, so that no more wait
than models are loaded.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from maas_gateway.errors import ModelNotReady
from maas_gateway.identifiers import PLATFORM, TenantId
from maas_gateway.inference.fairness import FairTime

T = TypeVar("T")


@dataclass(slots=True, eq=False)  # not frozen: made for each call
class _Call:
    tenant: TenantId
    call: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    guess_s: float = 0.0
    took_s: float = 0.0


class ThreadExecutor:
    """Runs calls on a fixed number of threads."""

    def __init__(self, n_threads: int, *, name: str = "inference", fair_time: FairTime | None = None) -> None:
        """Start no thread yet; the pool does when calls come.

        Args:
            n_threads: how many calls may run at once, at least 1.
            name: how the threads are named, for the operator's tools.
            fair_time: says which call is next, and is told what each took.
        """
        self._pool = ThreadPoolExecutor(max_workers=n_threads, thread_name_prefix=name)
        self._max_handed = n_threads + 1
        self._fair_time = fair_time or FairTime()
        self._waiting: dict[TenantId, deque[_Call]] = {}
        self._handed: set[_Call] = set()
        self._is_closed = False

    def submit(self, call: Callable[[], T], tenant: TenantId = PLATFORM) -> asyncio.Future[T]:
        """Hand a call over and return at once; to be called on the event loop.

        Raises:
            ModelNotReady: the executor is closed.
        """
        if self._is_closed:
            raise ModelNotReady(_STOPPING)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        submitted = _Call(tenant, call, loop, future)
        if len(self._handed) < self._max_handed:
            self._hand_over(submitted)
        else:
            self._waiting.setdefault(tenant, deque()).append(submitted)
        return future

    async def run(self, call: Callable[[], T]) -> T:
        """Hand a call over and wait for what it returns or raises.

        Raises:
            ModelNotReady: the executor is closed, or was before the call ended.
        """
        return await self.submit(call)

    def close(self) -> None:
        """Take no more calls and fail the ones not settled; does not wait for a thread."""
        self._is_closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for submitted in [*self._handed, *(call for line in self._waiting.values() for call in line)]:
            if not submitted.future.done():
                submitted.future.set_exception(ModelNotReady(_STOPPING))
        self._handed.clear()
        self._waiting.clear()

    def _hand_over(self, submitted: _Call) -> None:
        submitted.guess_s = self._fair_time.begin(submitted.tenant)
        self._handed.add(submitted)
        self._pool.submit(self._call, submitted)

    def _hand_over_next(self) -> None:
        """Hand over a call of whoever has had the least of the threads."""
        while self._waiting and len(self._handed) < self._max_handed:
            tenant = (
                next(iter(self._waiting)) if len(self._waiting) == 1 else min(self._waiting, key=self._fair_time.tag)
            )
            line = self._waiting.pop(tenant)
            self._hand_over(line.popleft())
            if line:
                self._waiting[tenant] = line

    def _call(self, submitted: _Call) -> None:
        # One message to the loop a call. `loop.run_in_executor` would chain two futures instead.
        result: Any = None
        failure: BaseException | None = None
        began_s = time.perf_counter()
        try:
            result = submitted.call()
        except BaseException as error:  # noqa: BLE001  the outermost frame of the thread; the caller gets it
            failure = error
        submitted.took_s = time.perf_counter() - began_s
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            submitted.loop.call_soon_threadsafe(self._settle, submitted, result, failure)

    def _settle(self, submitted: _Call, result: object, failure: BaseException | None) -> None:
        self._handed.discard(submitted)
        self._fair_time.end(submitted.tenant, submitted.guess_s, submitted.took_s)
        if self._waiting and not self._is_closed:
            self._hand_over_next()
        future = submitted.future
        if future.done():
            return
        if failure is None:
            future.set_result(result)
        elif isinstance(failure, Exception) and not isinstance(failure, StopIteration):
            future.set_exception(failure)
        else:  # an exit asked for inside a call must not end the event loop, and a future refuses StopIteration
            stopped = RuntimeError("the call ended its thread")
            stopped.__cause__ = failure
            future.set_exception(stopped)


_STOPPING = "the gateway is stopping"
