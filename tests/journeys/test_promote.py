"""Promotion: stages, labels, and that a swap drops no request."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from builders.gateways import World, joined_gateway, running_gateway
from builders.models import DemoModel, published_model, uploaded_model
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES

pytestmark = pytest.mark.anyio

MODEL = "/admin/v1/models/bc"


class _Calls:
    """What an owner does to model `bc`."""

    def __init__(self, world: World, headers: dict[str, str], demo: DemoModel) -> None:
        self.world = world
        self.headers = headers
        self.body = {"instances": [list(demo.seed.example)]}

    async def act(self, path: str, method: str = "POST", **rest: Any) -> int:
        return (await self.world.http.request(method, MODEL + path, headers=self.headers, **rest)).status_code

    async def version(self, which: str = "") -> int | None:
        """Return the version that answers, or None."""
        inputs = [{"name": "measurements", "shape": [1, 30], "datatype": "FP32", "data": self.body["instances"]}]
        answer = await self.world.http.post(
            f"/v2/models/bc{which}/infer", json={"inputs": inputs}, headers=self.headers
        )
        return int(answer.json()["model_version"]) if answer.status_code == 200 else None


async def _calls(world: World, demo: DemoModel, n_versions: int = 2) -> _Calls:
    await world.tenant("acme")
    for version in range(1, n_versions + 1):
        await uploaded_model(world, "acme", "bc", demo, version=version)
    return _Calls(world, await world.headers(world.owners["acme"]), demo)


async def test_a_request_without_a_version_goes_to_the_highest_that_serves(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        calls = await _calls(world, demo)
        assert await calls.version() is None
        assert await calls.act("/versions/1:promote") == 200
        assert await calls.version() == 1
        assert await calls.act("/versions/2:promote") == 200
        assert (await calls.version(), await calls.version("/versions/1")) == (2, 1)
        assert await calls.act("/versions/2:retire") == 200
        assert (await calls.version(), await calls.version("/versions/2")) == (1, None)


async def test_an_exclusive_promotion_retires_the_others_and_takes_their_labels(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path) as world:
        calls = await _calls(world, demo)
        await calls.act("/versions/1:promote")
        await calls.act("/labels/stable", "PUT", json={"version": 1})
        await calls.act("/versions/2:promote")
        assert await calls.version("/labels/stable") == 1
        assert await calls.act("/versions/2:promote?exclusive=true") == 200
        assert (await calls.version("/labels/stable"), await calls.version("/versions/1")) == (2, None)
        assert await calls.act("/versions/1:promote?exclusive=true") == 200  # rolled back
        assert await calls.version() == 1


async def test_steps_that_a_versions_life_does_not_have_are_conflicts(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        calls = await _calls(world, demo, 1)
        assert await calls.act("/labels/stable", "PUT", json={"version": 1}) == 409  # staged
        assert await calls.act("/versions/1:retire") == 409
        assert await calls.act("/versions/1:promote") == 200
        assert await calls.act("/versions/1:promote") == 409
        assert await calls.act("/labels/stable", "PUT", json={"version": 1}) == 200
        assert await calls.act("/versions/1:retire") == 409  # the label's callers would be left without
        assert await calls.act("/labels/stable", "DELETE") == 204
        assert await calls.act("/labels/stable", "DELETE") == 404
        assert await calls.act("/versions/1:retire") == 200
        assert await calls.act("/versions/9:promote") == 404
        assert await calls.act("/labels/no-dash", "PUT", json={"version": 1}) == 400


async def test_swapping_versions_under_load_fails_no_request(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        calls = await _calls(world, demo)
        await calls.act("/versions/1:promote")
        is_over = asyncio.Event()
        answered: list[int] = []

        async def ask() -> None:
            while not is_over.is_set():
                answer = await world.http.post("/v1/models/bc:predict", json=calls.body, headers=calls.headers)
                answered.append(answer.status_code)

        askers = [asyncio.create_task(ask()) for _ in range(8)]
        for turn in range(6):
            assert await calls.act(f"/versions/{2 - turn % 2}:promote?exclusive=true") == 200
        is_over.set()
        await asyncio.gather(*askers)
        assert set(answered) == {200}
        assert len(answered) > 50


async def test_another_process_serves_a_promotion_that_it_was_not_told_of(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url) as here:
        await here.tenant("acme")
        async with joined_gateway(here) as there:
            await published_model(here, "acme", "bc", demo)
            calls = _Calls(there, await there.headers(here.owners["acme"]), demo)
            assert await calls.version() == 1


async def test_a_promotion_and_its_record_are_one_transaction(tmp_path: Path, demo: DemoModel) -> None:
    """With the audit chain's table gone the record cannot be written, so nothing may be promoted."""
    async with running_gateway(tmp_path) as world:
        calls = await _calls(world, demo, 1)
        database = Database(world.settings.main_url, CHANGES)
        async with database.connection(is_write=True) as connection:
            await connection.exec_driver_sql("ALTER TABLE audit_records RENAME TO gone")
        assert await calls.act("/versions/1:promote") == 500
        async with database.connection(is_write=True) as connection:
            await connection.exec_driver_sql("ALTER TABLE gone RENAME TO audit_records")
        await database.close()
        listed = (await world.http.get(MODEL, headers=calls.headers)).json()
        assert listed["versions"][0]["stage"] == "staged"
