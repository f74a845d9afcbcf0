"""What becomes of a model's plaintext when it is unloaded: wiped, and never under a running call."""

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
import numpy as np
import pytest

from builders.gateways import World, running_gateway
from builders.models import DemoModel, published_model
from maas_gateway.dataplane.servables import Servable, _give_back
from maas_gateway.errors import ModelNotReady
from maas_gateway.identifiers import PLATFORM, ModelRef, TenantId
from maas_gateway.inference.executor import Executor
from maas_gateway.registry.model import ModelVersion

pytestmark = pytest.mark.anyio

T = TypeVar("T")


class _HeldExecutor:
    """The real executor, whose calls begin when they are let go."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.has_begun = threading.Event()
        self.may_go_on = threading.Event()

    def submit(self, call: Callable[[], T], tenant: TenantId = PLATFORM) -> asyncio.Future[T]:
        return self._executor.submit(lambda: self._held(call), tenant)

    async def run(self, call: Callable[[], T]) -> T:
        return await self.submit(call)

    def close(self) -> None:
        self._executor.close()

    def _held(self, call: Callable[[], T]) -> T:
        self.has_begun.set()
        assert self.may_go_on.wait(30)
        return call()


class _Observed:
    """A served version and a descriptor of its memory that outlives it."""

    def __init__(self, world: World, version: ModelVersion, demo: DemoModel) -> None:
        found = world.gateway.predict._servables.ready(version)
        assert found is not None
        self.servable: Servable = found
        self.plan = demo.plan
        self.descriptor = os.dup(found.memory.descriptor)
        self.executor = _HeldExecutor(found.batcher._executor)
        found.batcher._executor = self.executor

    def content(self) -> bytes:
        return os.pread(self.descriptor, len(self.plan) + 1, 0)

    @property
    def is_wiped(self) -> bool:
        return self.content() == bytes(len(self.plan))


async def _asked(world: World, demo: DemoModel) -> httpx.Response:
    headers = await world.headers(world.owners["acme"])
    body = {"instances": [list(demo.seed.example)]}
    return await world.http.post("/v1/models/bc:predict", json=body, headers=headers)


async def test_an_unloaded_version_is_wiped_once_its_last_answer_is_computed(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        seen = _Observed(world, await published_model(world, "acme", "bc", demo), demo)
        assert seen.content() == seen.plan
        asked = asyncio.create_task(_asked(world, demo))
        assert await asyncio.to_thread(seen.executor.has_begun.wait, 10)
        await world.gateway.promote.retire(await world.principal(world.owners["acme"]), ModelRef("bc", 1))
        assert (await _asked(world, demo)).status_code == 404, "nothing serves any more"
        await asyncio.sleep(0.2)
        assert seen.content() == seen.plan, "a request still computes with it"
        seen.executor.may_go_on.set()
        answer = await asked
        assert answer.json()["predictions"][0][0] == pytest.approx(demo.seed.expected, rel=1e-4)
        async with asyncio.timeout(10):
            while not seen.is_wiped:  # noqa: ASYNC110  wiped in a thread
                await asyncio.sleep(0.01)
        with pytest.raises(ModelNotReady):
            seen.servable.runtime.run((np.zeros((1, 30), np.float32),))
    os.close(seen.descriptor)


async def test_a_gateway_that_stops_wipes_every_model_those_that_are_just_leaving_included(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        leaving = _Observed(world, await published_model(world, "acme", "bc", demo), demo)
        staying = _Observed(world, await published_model(world, "acme", "other", demo), demo)
        asked = asyncio.create_task(_asked(world, demo))
        assert await asyncio.to_thread(leaving.executor.has_begun.wait, 10)
        await world.gateway.promote.retire(await world.principal(world.owners["acme"]), ModelRef("bc", 1))
        assert (await _asked(world, demo)).status_code == 404
        asyncio.get_running_loop().call_later(0.3, leaving.executor.may_go_on.set)
    assert (await asked).status_code == 200
    assert leaving.is_wiped
    assert staying.is_wiped
    os.close(leaving.descriptor)
    os.close(staying.descriptor)


async def test_an_unload_that_is_cut_short_leaves_the_weights_to_the_call_that_still_computes(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        seen = _Observed(world, await published_model(world, "acme", "bc", demo), demo)
        asked = asyncio.create_task(_asked(world, demo))
        assert await asyncio.to_thread(seen.executor.has_begun.wait, 10)
        unload = asyncio.create_task(_give_back(seen.servable))
        await asyncio.sleep(0.05)
        unload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await unload
        assert seen.content() == seen.plan
        assert seen.servable.memory.descriptor == -1
        seen.executor.may_go_on.set()
        assert (await asked).status_code in {200, 503}
    assert seen.content() == seen.plan
    os.close(seen.descriptor)
