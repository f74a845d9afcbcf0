"""What was used: counted in memory as answers are given, added to the database every so often.

Rules: a prediction counts once it is answered, for the rows that it had and its part of the engine's time; what a
writing that failed had is kept for the next one; what a process that dies had counted since its last writing is lost,
which is `flush_s` at most; a writing is all of it or none.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import date

from maas_gateway.clock import Clock
from maas_gateway.identifiers import SubjectId
from maas_gateway.quotas.limits import Asked


@dataclass(frozen=True, slots=True)
class Use:
    """So much.

    Attributes:
        requests: predictions answered.
        rows: their rows.
        compute_s: seconds of an engine, each batch's divided among its rows.
    """

    requests: int
    rows: int
    compute_s: float

    def __add__(self, other: "Use") -> "Use":
        return Use(self.requests + other.requests, self.rows + other.rows, self.compute_s + other.compute_s)


@dataclass(frozen=True, slots=True)
class UseLine:
    """What one principal used of one model on one day (UTC)."""

    day: date
    subject: SubjectId
    model: str
    use: Use


class Meter:
    """Counts for one caller of one model; made by `Usage`."""

    __slots__ = ("_asked", "_compute_s", "_requests", "_rows", "_turned")

    def __init__(self, asked: Asked, turned: "set[Meter]") -> None:
        self._asked = asked
        self._turned = turned
        self._requests = 0
        self._rows = 0
        self._compute_s = 0.0

    def count(self, n_rows: int, compute_s: float) -> None:
        """Count one prediction that was answered."""
        if not self._requests:
            self._turned.add(self)
        self._requests += 1
        self._rows += n_rows
        self._compute_s += compute_s

    def read(self) -> tuple[Asked, Use]:
        """Return what was counted, and begin anew."""
        use = Use(self._requests, self._rows, self._compute_s)
        self._requests, self._rows, self._compute_s = 0, 0, 0.0
        return self._asked, use


Write = Callable[[date, Mapping[Asked, Use]], Awaitable[None]]


class Usage:
    """Every meter of this process.

    Args:
        write: adds a day's counts to the database.
        clock: what time it is.
        flush_s: how long what was counted waits to be written.
    """

    def __init__(self, write: Write, clock: Clock, *, flush_s: float) -> None:
        self._write = write
        self._clock = clock
        self._flush_s = flush_s
        self._turned: set[Meter] = set()
        self._unwritten: dict[date, dict[Asked, Use]] = {}
        self._writing = asyncio.Lock()

    def meter(self, asked: Asked) -> Meter:
        """Return a meter; whoever holds it counts with it for as long as it likes."""
        return Meter(asked, self._turned)

    async def flush(self) -> None:
        """Write what was counted.

        Raises:
            Unavailable: the database does not answer; what was counted is kept.
        """
        async with self._writing:
            counted = self._unwritten.setdefault(self._clock.now().date(), {})
            while self._turned:
                asked, use = self._turned.pop().read()
                counted[asked] = counted[asked] + use if asked in counted else use
            for day in sorted(self._unwritten):
                await self._put(day)

    async def _put(self, day: date) -> None:
        """Write a day's counts to the end, also when cancelled meanwhile: it must be known whether they were written."""
        if not self._unwritten[day]:
            del self._unwritten[day]
            return
        writing = asyncio.ensure_future(self._write(day, self._unwritten[day]))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            if not writing.cancelled() and writing.exception() is None:
                del self._unwritten[day]
            raise
        del self._unwritten[day]

    async def run(self) -> None:
        """Write every so often, until cancelled."""
        while True:
            await asyncio.sleep(self._flush_s)
            await self.flush()
