import asyncio
import threading
from collections.abc import Callable

import pytest

from maas_gateway.errors import ModelNotReady
from maas_gateway.inference.threads import ThreadExecutor


def test_run_returns_what_the_call_returns_from_another_thread() -> None:
    async def go() -> tuple[int, str]:
        executor = ThreadExecutor(1, name="engine")
        answer = await executor.run(lambda: (threading.get_ident(), threading.current_thread().name))
        executor.close()
        return answer

    ident, name = asyncio.run(go())
    assert ident != threading.get_ident()
    assert name.startswith("engine")


def test_run_raises_what_the_call_raises() -> None:
    async def go() -> None:
        executor = ThreadExecutor(1)
        with pytest.raises(ZeroDivisionError):
            await executor.run(lambda: 1 / 0)
        assert await executor.run(lambda: "still works") == "still works"
        executor.close()

    asyncio.run(go())


@pytest.mark.parametrize("ending", [SystemExit(3), KeyboardInterrupt(), StopIteration()], ids=repr)
def test_call_that_asks_for_an_exit_ends_neither_loop_nor_thread(ending: BaseException) -> None:
    def call() -> None:
        raise ending

    async def go() -> None:
        executor = ThreadExecutor(1)
        with pytest.raises(RuntimeError) as caught:
            await executor.run(call)
        assert caught.value.__cause__ is ending
        assert await executor.run(lambda: 1) == 1
        executor.close()

    asyncio.run(go())


def test_as_many_calls_run_at_once_as_there_are_threads() -> None:
    barrier = threading.Barrier(3, timeout=20)

    async def go() -> None:
        executor = ThreadExecutor(3)
        await asyncio.gather(*[executor.run(barrier.wait) for _ in range(3)])
        executor.close()

    asyncio.run(go())


def test_waiter_that_leaves_does_not_disturb_the_call_or_the_loop() -> None:
    begun, gate, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        gate.wait(20)
        ended.set()

    async def go() -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        executor = ThreadExecutor(1)
        task = asyncio.ensure_future(executor.run(call))
        await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        await asyncio.to_thread(ended.wait, 20)
        assert await executor.run(lambda: 1) == 1
        executor.close()
        assert complaints == []

    asyncio.run(go())


def test_close_fails_running_and_waiting_calls_and_takes_no_more() -> None:
    begun, gate = threading.Event(), threading.Event()
    ran: list[int] = []

    def call() -> None:
        begun.set()
        gate.wait(20)

    def second() -> None:
        ran.append(1)

    async def go() -> None:
        executor = ThreadExecutor(1)
        calls: list[Callable[[], None]] = [call, second]
        tasks = [asyncio.ensure_future(executor.run(each)) for each in calls]
        await asyncio.to_thread(begun.wait, 20)
        executor.close()
        executor.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [ModelNotReady, ModelNotReady]
        with pytest.raises(ModelNotReady):
            executor.submit(call)
        gate.set()

    asyncio.run(go())
    assert ran == []
