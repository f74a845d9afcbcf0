"""Keeps callers to their limits: takes before, gives back what was not used."""

import itertools
import secrets
from dataclasses import dataclass, field

from maas_gateway.errors import QuotaExceeded
from maas_gateway.quotas.buckets import Buckets, Shortage
from maas_gateway.quotas.budgets import Budgets
from maas_gateway.quotas.limits import Cost, Limit, Limits, Measure

_LEAST_WAIT_S = 0.05
_MANY = frozenset({Measure.ROWS, Measure.BYTES})
"""What one request can have more of than a whole limit."""


@dataclass(slots=True)
class Admission:
    """A request that was let in.

    Attributes:
        limits: what it has to keep to.
        place: by what name it holds its places.
        n_bytes: how many bytes have been counted.
        rows: what was taken for its rows.
    """

    limits: Limits
    place: str
    n_bytes: int
    rows: list[Cost] = field(default_factory=list)
    n_rows: int = 0


class Limiter:
    """Lets requests in.

    Args:
        buckets: where rates and places are counted.
        budgets: where lifetime budgets are.
    """

    def __init__(self, buckets: Buckets, budgets: Budgets) -> None:
        self._buckets = buckets
        self._budgets = budgets
        self._process = secrets.token_hex(8)
        self._numbers = itertools.count()

    async def enter(self, limits: Limits, n_bytes: int) -> Admission:
        """Let a request in, whose body declares so many bytes; whoever gets in leaves again.

        Raises:
            QuotaExceeded: some limit has no request, byte or place left.
        """
        place = f"{self._process}:{next(self._numbers)}" if limits.places else ""
        await self._take([*limits.each, *_costs(limits.on_bytes, n_bytes)], place)
        return Admission(limits, place, n_bytes)

    async def spend(self, admission: Admission, n_rows: int, n_bytes: int) -> None:
        """Count a request's rows, and what its body had beyond what it declared.

        Raises:
            QuotaExceeded: some limit has not so many left; nothing of it was counted.
            Unavailable: lifetime budgets cannot be asked for.
        """
        limits = admission.limits
        costs = [*_costs(limits.on_rows, n_rows), *_costs(limits.on_bytes, n_bytes - admission.n_bytes)]
        await self._take(costs, admission.place)
        spent = 0
        try:
            for budget in limits.budgets:
                await self._budgets.spend(budget, n_rows)
                spent += 1
        except BaseException:
            for budget in limits.budgets[:spent]:
                self._budgets.give_back(budget, n_rows)
            await self._give_back(costs, admission.place)
            raise
        admission.rows, admission.n_rows = costs, n_rows

    async def refund(self, admission: Admission) -> None:
        """Give a request's rows back, because nothing was computed."""
        costs, n_rows = admission.rows, admission.n_rows
        admission.rows, admission.n_rows = [], 0
        for budget in admission.limits.budgets if n_rows else ():
            self._budgets.give_back(budget, n_rows)
        await self._give_back(costs, admission.place)

    async def leave(self, admission: Admission) -> None:
        """Give a request's places back."""
        if admission.limits.places:
            await self._buckets.give_back(admission.limits.places, place=admission.place)

    async def _take(self, costs: list[Cost], place: str) -> None:
        for cost in costs:
            if cost.n > cost.limit.amount and cost.limit.measure in _MANY:
                raise _exceeded(Shortage(cost.limit, cost.limit.window_s or 1, cost.limit.amount), cost.n)
        shortage = await self._buckets.take(costs, place=place) if costs else None
        if shortage is not None:
            raise _exceeded(shortage, 0)

    async def _give_back(self, costs: list[Cost], place: str) -> None:
        if costs:
            await self._buckets.give_back(costs, place=place)


def _costs(limits: tuple[Limit, ...], n: int) -> list[Cost]:
    return [Cost(limit, n) for limit in limits] if limits and n > 0 else []


def _exceeded(shortage: Shortage, n_asked: int) -> QuotaExceeded:
    limit = shortage.limit
    more = f"; this request alone has {n_asked}" if n_asked > limit.amount > 0 else ""
    return QuotaExceeded(
        f"the limit of {limit} is reached{more}",
        retry_after_s=max(_LEAST_WAIT_S, shortage.wait_s),
        limit=limit.amount,
        remaining=shortage.left,
    )
