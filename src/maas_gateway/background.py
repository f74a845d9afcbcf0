"""Background work of one gateway: in one task group, which ends when the gateway closes.

Rules: a fault is logged; a loop goes on after a pause.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import structlog

_PAUSE_AFTER_FAULT_S: Final = 1.0


class Tasks:
    """Background work of one gateway."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something once."""
        task = self._group.create_task(self._once(work))
        task.add_done_callback(lambda _: work.close())  # cancelled before its first step, nobody has awaited it
        self._keep(task)

    def loop(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run something that never ends, again if it faults."""
        self._keep(self._group.create_task(self._again(name, work), name=name))

    def cancel(self) -> None:
        """End everything."""
        for task in self._running:
            task.cancel()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _once(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001  the outermost frame of background work
            self._log.exception("background_fault")

    async def _again(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception:  # noqa: BLE001  the outermost frame of a background loop
                self._log.exception("background_fault", loop=name)
            await asyncio.sleep(_PAUSE_AFTER_FAULT_S)


@asynccontextmanager
async def background() -> AsyncIterator[Tasks]:
    """Run background work until the block is left; it is cancelled then."""
    async with asyncio.TaskGroup() as group:
        tasks = Tasks(group)
        try:
            yield tasks
        finally:
            tasks.cancel()


def every(pause_s: float, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Return work that never ends: `work`, a pause, `work` again."""

    async def repeat() -> None:
        while True:
            await work()
            await asyncio.sleep(pause_s)

    return repeat
