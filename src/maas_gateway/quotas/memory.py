"""Buckets of this process; where there are several, each holds its part of every limit."""

from collections.abc import Sequence

from maas_gateway.clock import Clock
from maas_gateway.quotas.buckets import Cost, Shortage
from maas_gateway.quotas.limits import Limit, Measure

_PLACE_WAIT_S = 0.1
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
        shortage: Shortage | None = None
        for cost in costs:
            found = self._shortage(cost, now_s)
            if found is not None and (shortage is None or found.wait_s > shortage.wait_s):
                shortage = found
        if shortage is not None:
            return shortage
        for cost in costs:
            self._change(cost.limit, cost.n, now_s)
        self._n_taken += 1
        if self._n_taken % _CLEAR_EVERY == 0:
            self._full_at_s = {key: at_s for key, at_s in self._full_at_s.items() if at_s > now_s}
        return None

    async def give_back(self, costs: Sequence[Cost], *, place: str) -> None:
        """Put back what was taken and not used."""
        del place
        now_s = self._clock.monotonic_s()
        for cost in costs:
            self._change(cost.limit, -cost.n, now_s)

    def _shortage(self, cost: Cost, now_s: float) -> Shortage | None:
        limit = cost.limit
        size = self._size(limit)
        if limit.measure is Measure.CONCURRENT:
            taken = self._places.get(limit.key, 0)
            return None if taken + cost.n <= size else Shortage(limit, _PLACE_WAIT_S, max(0, int(size) - taken))
        if not size:
            return Shortage(limit, limit.window_s, 0)
        each_s = limit.window_s / size
        owed_s = max(0.0, self._full_at_s.get(limit.key, now_s) - now_s)
        left = size - owed_s / each_s
        wait_s = owed_s - max(0.0, limit.window_s - cost.n * each_s)
        return None if wait_s <= _ROUNDING_S else Shortage(limit, wait_s, max(0, int(left)))

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
        if not limit.amount:
            return 0
        if limit.measure is Measure.CONCURRENT:
            return max(1, limit.amount // self._n_parts)
        return max(1.0, limit.amount / self._n_parts)


_ROUNDING_S = 1e-6
"""What floating point may lose: two costs that add up to a bucket fit into it."""
