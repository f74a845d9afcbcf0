"""Lifetime budgets: rows that are spent for good, counted in the database.

Rules: rows are reserved in blocks before they are used, so that not every request costs a transaction and no process
can use what another has; a budget is never exceeded, also by processes that die, whose blocks stay spent; what is left
of a block that nobody uses any more is returned, and so is what was reserved of a budget that has become smaller. Where the database does not answer, nothing is spent and the caller
is refused: 503.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from maas_gateway.clock import Clock
from maas_gateway.database.engine import Database
from maas_gateway.errors import QuotaExceeded
from maas_gateway.quotas import store
from maas_gateway.quotas.limits import Budget

_MAX_BLOCK: Final = 1_024
_PART: Final = 64
_IDLE_S: Final = 2.0
_NEVER_S: Final = 86_400.0

Key = tuple[UUID, str]
"""Holder and model: a holder is of one tenant."""


@dataclass(slots=True)
class _Block:
    budget: Budget
    left: int = 0
    used_at_s: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class Budgets:
    """What this process has reserved of lifetime budgets.

    Args:
        database: the main database.
        clock: what time it is.
    """

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._blocks: dict[Key, _Block] = {}

    async def spend(self, budget: Budget, n_rows: int) -> None:
        """Spend rows of a budget.

        Raises:
            QuotaExceeded: it has not so many left.
            Unavailable: the database does not answer.
        """
        key = (budget.holder, budget.model)
        block = self._blocks.get(key)
        if block is None:
            block = self._blocks[key] = _Block(budget)
        block.used_at_s = self._clock.monotonic_s()
        if budget.max_rows < block.budget.max_rows:
            await self._shrink(block, budget)
        block.budget = budget
        while block.left < n_rows:
            async with block.lock:
                if block.left < n_rows:
                    await self._reserve(block, n_rows - block.left)
        block.left -= n_rows

    def give_back(self, budget: Budget, n_rows: int) -> None:
        """Have rows not be spent that were not used."""
        block = self._blocks.setdefault((budget.holder, budget.model), _Block(budget))
        block.left += n_rows
        block.used_at_s = self._clock.monotonic_s()

    async def return_idle(self, idle_s: float = _IDLE_S) -> None:
        """Return what is left of blocks that nobody has used for a while."""
        before_s = self._clock.monotonic_s() - idle_s
        for key, block in list(self._blocks.items()):
            if block.used_at_s > before_s or block.lock.locked():
                continue
            left, block.left = block.left, 0
            if left:
                try:
                    await store.unreserve(self._database, block.budget, left)
                except BaseException:
                    block.left += left
                    raise
            if not block.left and block.used_at_s <= before_s and not block.lock.locked():
                self._blocks.pop(key, None)

    async def _shrink(self, block: _Block, budget: Budget) -> None:
        """Return what was reserved under a larger budget: of the smaller one it may be too much."""
        async with block.lock:
            if budget.max_rows < block.budget.max_rows:
                block.budget, left, block.left = budget, block.left, 0
                if left:
                    await store.unreserve(self._database, budget, left)

    async def _reserve(self, block: _Block, needed: int) -> None:
        budget = block.budget
        wanted = max(needed, min(_MAX_BLOCK, budget.max_rows // _PART))
        for n_rows in (wanted, needed):
            if await store.reserve(self._database, budget, n_rows):
                block.left += n_rows
                return
        raise QuotaExceeded(
            f"the lifetime budget of {budget.max_rows} rows of model '{budget.model}' is spent",
            retry_after_s=_NEVER_S,
            limit=budget.max_rows,
            remaining=block.left,
        )
