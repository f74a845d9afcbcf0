"""An executor of threads in this process; engines that release the GIL run beside the event loop.

The hop to a thread and back, measured on 2 cores of the reference machine, an empty call, one at a
time, median: 95 µs under uvloop and 155 µs under asyncio's own loop (its `run_in_executor`: 102 and
150 µs), of which the loop's thread computes 50 and 85 µs: two threads hand the GIL to each other.

Calls wait in the pool's own queue, which has no bound: each batcher hands over one call at a time,
so its length never exceeds the number of loaded models.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from maas_gateway.errors import ModelNotReady

T = TypeVar("T")


class ThreadExecutor:
    """Runs calls on a fixed number of threads."""

    def __init__(self, n_threads: int, *, name: str = "inference") -> None:
        """Start no thread yet; the pool does when calls come.

        Args:
            n_threads: how many calls may run at once, at least 1.
            name: how the threads are named, for the operator's tools.
        """
        self._pool = ThreadPoolExecutor(max_workers=n_threads, thread_name_prefix=name)
        self._open: set[asyncio.Future[object]] = set()
        self._is_closed = False

    def submit(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Hand a call over and return at once; to be called on the event loop.

        Raises:
            ModelNotReady: the executor is closed.
        """
        if self._is_closed:
            raise ModelNotReady(_STOPPING)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._pool.submit(self._call, call, loop, future)
        self._open.add(future)  # type: ignore[arg-type]  # a set is invariant; here only their state counts
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
        for future in self._open:
            if not future.done():
                future.set_exception(ModelNotReady(_STOPPING))
        self._open.clear()

    def _call(self, call: Callable[[], T], loop: asyncio.AbstractEventLoop, future: asyncio.Future[T]) -> None:
        # One message to the loop a call. `loop.run_in_executor` would chain two futures instead.
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  the outermost frame of the thread; the caller gets it
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(self._settle, future, result, failure)

    def _settle(self, future: asyncio.Future[T], result: T | None, failure: BaseException | None) -> None:
        self._open.discard(future)
        if future.done():
            return
        if failure is None:
            future.set_result(result)  # type: ignore[arg-type]  # no failure, so it is what the call returned
        elif isinstance(failure, Exception) and not isinstance(failure, StopIteration):
            future.set_exception(failure)
        else:  # an exit asked for inside a call must not end the event loop, and a future refuses StopIteration
            stopped = RuntimeError("the call ended its thread")
            stopped.__cause__ = failure
            future.set_exception(stopped)


_STOPPING = "the gateway is stopping"
