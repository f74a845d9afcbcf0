"""While several tenants ask, each has only so many requests inside; one alone is never held."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable

import pytest

from maas_gateway.clock import Deadline
from maas_gateway.dataplane.turnstile import INSIDE, LATELY_S, Turnstile
from maas_gateway.errors import DeadlineExceeded, Overloaded
from maas_gateway.identifiers import TenantId

pytestmark = pytest.mark.anyio

A, B = (TenantId(uuid.uuid4()) for _ in range(2))


class Crowd:
    """Requests that enter, stay until they are told to leave, and leave."""

    def __init__(self, weights: dict[TenantId, int] | None = None, *, max_waiting: int = 1_000) -> None:
        weights = weights or {}
        self.turnstile = Turnstile(lambda tenant: weights.get(tenant, 1), max_waiting=max_waiting)
        self.inside: list[tuple[TenantId, int]] = []
        self._doors: dict[tuple[TenantId, int], asyncio.Event] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def come(self, tenant: TenantId, n: int, *, first: int = 0, within_s: float = 20) -> None:
        for number in range(first, first + n):
            self._doors[tenant, number] = asyncio.Event()
            self.tasks.append(asyncio.ensure_future(self._visit(tenant, number, within_s)))
        await self.tick()

    async def go(self, tenant: TenantId, *numbers: int) -> None:
        for number in numbers:
            self._doors[tenant, number].set()
        await self.tick()

    async def tick(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    def n(self, tenant: TenantId) -> int:
        return sum(who == tenant for who, _ in self.inside)

    async def empty(self) -> None:
        for door in self._doors.values():
            door.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert not self.turnstile._inside
        assert not self.turnstile._waiting

    async def _visit(self, tenant: TenantId, number: int, within_s: float) -> None:
        await self.turnstile.enter(tenant, Deadline.after(within_s))
        self.inside.append((tenant, number))
        try:
            await self._doors[tenant, number].wait()
        finally:
            self.inside.remove((tenant, number))
            self.turnstile.leave(tenant)


async def _with(story: Callable[[Crowd], Awaitable[None]], crowd: Crowd) -> None:
    async with asyncio.timeout(20):
        await story(crowd)
        await crowd.empty()


async def test_a_tenant_alone_is_never_held() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.come(A, 100)
        assert crowd.n(A) == 100

    await _with(story, Crowd())


async def test_once_another_asks_a_flood_goes_on_with_its_few() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.come(A, 50)
        await crowd.come(B, 1)
        assert crowd.n(B) == 1
        await crowd.come(A, 50, first=50)
        assert crowd.n(A) == 50  # those that were inside stay; none is added
        await crowd.go(A, *range(50))
        assert crowd.n(A) == INSIDE
        assert crowd.inside[-INSIDE:] == [(A, number) for number in range(50, 50 + INSIDE)]  # in their order
        await crowd.go(A, 50)
        assert crowd.n(A) == INSIDE

    await _with(story, Crowd())


async def test_the_other_is_not_forgotten_between_two_of_its_requests() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.come(A, INSIDE)
        await crowd.come(B, 1)
        await crowd.come(A, 20, first=INSIDE)
        await crowd.go(B, 0)
        await crowd.go(A, 0)
        assert crowd.n(A) == INSIDE
        await asyncio.sleep(LATELY_S * 1.2)
        await crowd.go(A, 1)
        assert crowd.n(A) == 20 + INSIDE - 2  # B has gone: all may come

    await _with(story, Crowd())


async def test_a_heavier_tenant_has_more_inside() -> None:
    async def story(crowd: Crowd) -> None:
        for tenant in (A, B):
            await crowd.come(tenant, 1)
        for tenant in (A, B):
            await crowd.come(tenant, 40, first=1)
        assert (crowd.n(A), crowd.n(B)) == (3 * INSIDE, INSIDE)

    await _with(story, Crowd({A: 3}))


async def test_a_late_request_gives_its_place_to_the_next() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.come(B, 1)
        await crowd.come(A, INSIDE)
        await crowd.come(A, 1, first=INSIDE, within_s=0.05)
        await crowd.come(A, 1, first=INSIDE + 1)
        late = crowd.tasks[-2]
        with pytest.raises(DeadlineExceeded):
            await late
        await crowd.go(A, 0)
        assert (A, INSIDE + 1) in crowd.inside

    await _with(story, Crowd())


async def test_a_caller_that_goes_away_leaves_no_gap() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.come(B, 1)
        await crowd.come(A, INSIDE + 3)
        crowd.tasks[1 + INSIDE].cancel()  # waits
        crowd._doors[A, 0].set()
        for _ in range(2):
            await asyncio.sleep(0)
        crowd.tasks[2 + INSIDE].cancel()  # perhaps just let in
        await crowd.tick()
        assert crowd.n(A) == INSIDE
        assert (A, INSIDE + 2) in crowd.inside

    await _with(story, Crowd())


async def test_only_so_many_wait() -> None:
    async def story(crowd: Crowd) -> None:
        await crowd.come(B, 1)
        await crowd.come(A, INSIDE + 3)
        with pytest.raises(Overloaded):
            await crowd.tasks[-1]
        assert crowd.n(A) == INSIDE

    await _with(story, Crowd(max_waiting=2))
