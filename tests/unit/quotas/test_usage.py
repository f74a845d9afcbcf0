"""Usage is counted exactly, kept while it cannot be written, and written once."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, date, datetime
from uuid import uuid4

import pytest

from maas_gateway.errors import Unavailable
from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.quotas.limits import Asked
from maas_gateway.quotas.usage import Usage, Use
from simulators.clock import ManualClock

pytestmark = pytest.mark.anyio

TENANT = TenantId(uuid4())
ASKED = Asked(TENANT, SubjectId(uuid4()), "fraud", TENANT, "fraud")


class Written:
    """A database that takes what it is given, unless it is away."""

    def __init__(self) -> None:
        self.days: dict[date, dict[Asked, Use]] = {}
        self.is_away = False
        self.n_writings = 0

    async def write(self, day: date, used: Mapping[Asked, Use]) -> None:
        await asyncio.sleep(0)
        if self.is_away:
            raise Unavailable("the database does not answer")
        self.n_writings += 1
        kept = self.days.setdefault(day, {})
        for asked, use in used.items():
            kept[asked] = kept[asked] + use if asked in kept else use


async def test_what_is_counted_while_it_is_written_is_not_lost() -> None:
    database, clock = Written(), ManualClock()
    usage = Usage(database.write, clock, flush_s=1)
    meters = [usage.meter(ASKED) for _ in range(3)]

    async def count() -> None:
        for _ in range(100):
            for meter in meters:
                meter.count(2, 0.5)
            await asyncio.sleep(0)

    async def write() -> None:
        for _ in range(50):
            await usage.flush()

    await asyncio.gather(count(), write(), write())
    await usage.flush()
    assert database.days == {clock.now().date(): {ASKED: Use(300, 600, 150.0)}}


async def test_what_could_not_be_written_is_written_with_its_own_day() -> None:
    database, clock = Written(), _at(datetime(2026, 3, 1, 23, 59, tzinfo=UTC))
    usage = Usage(database.write, clock, flush_s=1)
    meter = usage.meter(ASKED)
    meter.count(1, 0.0)
    database.is_away = True
    with pytest.raises(Unavailable):
        await usage.flush()
    clock.move(120)
    meter.count(5, 0.0)
    with pytest.raises(Unavailable):
        await usage.flush()
    database.is_away = False
    await usage.flush()
    assert database.days == {date(2026, 3, 1): {ASKED: Use(1, 1, 0.0)}, date(2026, 3, 2): {ASKED: Use(1, 5, 0.0)}}


async def test_nothing_used_writes_nothing() -> None:
    database = Written()
    usage = Usage(database.write, ManualClock(), flush_s=1)
    usage.meter(ASKED)
    await usage.flush()
    assert not database.n_writings


def _at(moment: datetime) -> ManualClock:
    clock = ManualClock()
    clock.at = moment
    return clock


@pytest.mark.parametrize("is_away", [False, True], ids=["that succeeds", "that fails"])
async def test_writing_during_which_the_gateway_is_stopped_counts_once(is_away: bool) -> None:  # noqa: FBT001  a case
    database, clock = Written(), ManualClock()
    usage = Usage(database.write, clock, flush_s=1)
    usage.meter(ASKED).count(2, 0.5)
    flush = asyncio.ensure_future(usage.flush())
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # it has begun to write
    database.is_away = is_away
    flush.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flush
    database.is_away = False
    await usage.flush()
    assert database.days == {clock.now().date(): {ASKED: Use(1, 2, 0.5)}}
