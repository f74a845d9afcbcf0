import asyncio

from maas_gateway.clock import Deadline
from maas_gateway.inference.deadlines import DeadlineTimer, is_due


def test_timer_fires_after_the_earliest_deadline_and_goes_on_with_the_next() -> None:
    async def go() -> None:
        fired = asyncio.Event()
        watched = [Deadline.after(0.06), Deadline.after(0.02), Deadline.after(0.04)]
        seen: list[int] = []

        def sweep() -> Deadline | None:
            due = [deadline for deadline in watched if is_due(deadline)]
            seen.append(len(due))
            for deadline in due:
                watched.remove(deadline)
            if not watched:
                fired.set()
                return None
            return min(watched, key=lambda deadline: deadline.at_s)

        timer = DeadlineTimer(sweep)
        for deadline in watched:
            timer.watch(deadline)
        async with asyncio.timeout(10):
            await fired.wait()
        assert sum(seen) == 3

    asyncio.run(go())


def test_timer_does_not_fire_once_cancelled() -> None:
    async def go() -> None:
        seen: list[int] = []
        reached = asyncio.Event()
        timer = DeadlineTimer(lambda: seen.append(1))
        timer.watch(Deadline.after(0.01))
        timer.cancel()
        later = DeadlineTimer(reached.set)
        later.watch(Deadline.after(0.03))
        async with asyncio.timeout(10):
            await reached.wait()
        assert seen == []

    asyncio.run(go())


def test_deadline_that_has_passed_fires_at_once() -> None:
    async def go() -> None:
        reached = asyncio.Event()
        DeadlineTimer(reached.set).watch(Deadline.after(-5))
        async with asyncio.timeout(10):
            await reached.wait()

    asyncio.run(go())
