"""Buckets of this process; where there are several, each holds its part of every limit."""

from collections.abc import Sequence

from maas_gateway.clock import Clock
from maas_gateway.quotas.buckets import PLACE_WAIT_S, ROUNDING_S, Shortage
from maas_gateway.quotas.limits import Cost, Limit, Measure

_CLEAR_EVERY = 10_000


class MemoryBuckets:
    """Buckets in a dictionary.

    Args:
        clock: what time it is.
        n_parts: among how many processes each limit is divided. A part is never less than one request or place, so
            that more processes than a limit allows requests make it larger; `doctor` says so.
    """

    def __init__(self, clock: Clock, *, n_parts: int = 1) -> None:
        self._clock = clock
        self._n_parts = n_parts
        self._full_at_s: dict[str, float] = {}
        self._places: dict[str, int] = {}
        self._n_taken = 0

    async def take(self, costs: Sequence[Cost], *, place: str) -> Shortage | None:
        """Take every cost, or none."""
        del place
        now_s = self._clock.monotonic_s()
        full_at_s, taken = self._full_at_s, []
        shortage: Shortage | None = None
        for limit, n in costs:
            if limit.measure is Measure.CONCURRENT:
                found = self._no_place(limit, n)
            else:
                size = self._size(limit)
                each_s = limit.window_s / size if size else 0.0
                at_s = full_at_s.get(limit.key, now_s)
                owed_s = at_s - now_s if at_s > now_s else 0.0
                wait_s = owed_s - max(0.0, limit.window_s - n * each_s) if size else limit.window_s
                taken.append((limit.key, now_s + owed_s + n * each_s))
                found = None
                if wait_s > ROUNDING_S:
                    found = Shortage(limit, wait_s, max(0, int(size - owed_s / each_s)) if size else 0)
            if found is not None and (shortage is None or found.wait_s > shortage.wait_s):
                shortage = found
        if shortage is not None:
            return shortage
        for key, at_s in taken:
            full_at_s[key] = at_s
        for limit, n in costs:
            if limit.measure is Measure.CONCURRENT:
                self._change(limit, n, now_s)
        self._n_taken += 1
        if self._n_taken % _CLEAR_EVERY == 0:
            self._full_at_s = {key: at_s for key, at_s in full_at_s.items() if at_s > now_s}
        return None

    async def give_back(self, costs: Sequence[Cost], *, place: str) -> None:
        """Put back what was taken and not used."""
        del place
        now_s = self._clock.monotonic_s()
        for cost in costs:
            self._change(cost.limit, -cost.n, now_s)

    def _no_place(self, limit: Limit, n: int) -> Shortage | None:
        size, taken = int(self._size(limit)), self._places.get(limit.key, 0)
        return None if taken + n <= size else Shortage(limit, PLACE_WAIT_S, max(0, size - taken))

    def _change(self, limit: Limit, n: int, now_s: float) -> None:
        if limit.measure is Measure.CONCURRENT:
            taken = self._places.get(limit.key, 0) + n
            if taken > 0:
                self._places[limit.key] = taken
            else:
                self._places.pop(limit.key, None)
            return
        each_s = limit.window_s / self._size(limit)
        self._full_at_s[limit.key] = max(now_s, self._full_at_s.get(limit.key, now_s)) + n * each_s

    def _size(self, limit: Limit) -> float:
        """Return this process's part of a limit."""
        if self._n_parts == 1 or not limit.amount:
            return limit.amount
        if limit.measure is Measure.CONCURRENT:
            return max(1, limit.amount // self._n_parts)
        return max(1.0, limit.amount / self._n_parts)
