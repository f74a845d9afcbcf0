"""Lifetime budgets: never exceeded, whoever dies; returned where nobody uses them."""

import asyncio
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from builders.gateways import World, running_gateway
from maas_gateway.clock import SystemClock
from maas_gateway.errors import QuotaExceeded
from maas_gateway.quotas import store
from maas_gateway.quotas.budgets import Budgets
from maas_gateway.quotas.limits import Budget

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]


async def _budget(world: World, max_rows: int) -> Budget:
    await world.tenant("acme")
    return Budget(await world.tenant_id("acme"), uuid4(), "fraud", max_rows)


def _process(world: World) -> Budgets:
    return Budgets(world.gateway.quotas._acting.database, SystemClock())


async def _spent(world: World, budget: Budget) -> int:
    async with world.gateway.quotas._acting.database.read(budget.tenant) as session:
        return (await store.spent(session)).get((budget.holder, budget.model), 0)


async def test_a_budget_is_spent_to_the_last_row(tmp_path: Path, database_url: str) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        budget, budgets = await _budget(world, 1_000), _process(world)
        for _ in range(142):
            await budgets.spend(budget, 7)
        await budgets.spend(budget, 6)
        with pytest.raises(QuotaExceeded) as refused:
            await budgets.spend(budget, 1)
        assert refused.value.limit == 1_000
        assert await _spent(world, budget) == 1_000


async def test_processes_together_do_not_exceed_it(tmp_path: Path, database_url: str) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        budget, processes = await _budget(world, 500), [_process(world) for _ in range(3)]
        done = 0

        async def ask(budgets: Budgets) -> None:
            nonlocal done
            for _ in range(60):
                try:
                    await budgets.spend(budget, 4)
                    done += 4
                except QuotaExceeded:
                    return

        await asyncio.gather(*(ask(budgets) for budgets in processes for _ in range(3)))
        assert 400 < done <= 500  # what others had reserved and not used is missing
        for budgets in processes:
            await budgets.return_idle(0)
        assert await _spent(world, budget) == done


async def test_what_a_dead_process_had_reserved_stays_spent(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        budget = await _budget(world, 6_400)
        await _process(world).spend(budget, 1)  # and is never heard of again
        assert await _spent(world, budget) == 100  # a block


async def test_what_was_given_back_can_be_spent(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        budget, budgets = await _budget(world, 10), _process(world)
        await budgets.spend(budget, 10)
        budgets.give_back(budget, 10)
        await budgets.spend(budget, 10)
        with pytest.raises(QuotaExceeded):
            await budgets.spend(budget, 1)


async def test_more_than_is_left_spends_nothing(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        budget, budgets = await _budget(world, 10), _process(world)
        with pytest.raises(QuotaExceeded):
            await budgets.spend(budget, 11)
        await budgets.spend(budget, 10)


async def test_a_larger_budget_goes_on_from_what_was_spent(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        budget, budgets = await _budget(world, 10), _process(world)
        await budgets.spend(budget, 10)
        larger = Budget(budget.tenant, budget.holder, budget.model, 15)
        await budgets.spend(larger, 5)
        with pytest.raises(QuotaExceeded):
            await budgets.spend(larger, 1)


async def test_budget_that_has_become_smaller_holds_at_once(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        budget, budgets = await _budget(world, 64_000), _process(world)
        await budgets.spend(budget, 10)
        smaller = replace(budget, max_rows=15)
        await budgets.spend(smaller, 5)
        with pytest.raises(QuotaExceeded):
            await budgets.spend(smaller, 1)
        assert await _spent(world, budget) == 15


async def test_what_is_given_back_late_can_be_spent(tmp_path: Path) -> None:
    """A request may wait for longer than a block is kept for."""
    async with running_gateway(tmp_path) as world:
        budget, budgets = await _budget(world, 100), _process(world)
        await budgets.spend(budget, 40)
        await budgets.return_idle(0)
        budgets.give_back(budget, 40)
        await budgets.spend(budget, 100)
        assert await _spent(world, budget) == 100
