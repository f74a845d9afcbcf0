"""Background work: what is left of it when its gateway closes."""

import asyncio
import gc
import warnings

import pytest

from maas_gateway.background import background

pytestmark = pytest.mark.anyio


async def test_work_that_has_not_begun_when_the_gateway_closes_is_closed() -> None:
    begun = []

    async def work() -> None:
        begun.append(1)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        async with background() as tasks:
            tasks.spawn(work())
        gc.collect()
    assert (begun, [str(warning.message) for warning in told]) == ([], [])


async def test_work_that_has_begun_is_cancelled() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(1)

    async with background() as tasks:
        tasks.spawn(work())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert ended == [1]
