"""A place that an older version made is brought up to date by the next start, once, and serves on."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.command import downgrade

from builders.gateways import World, joined_gateway, running_gateway
from builders.models import DemoModel, published_model, with_kept_upload
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.database.migrations import alembic_config
from maas_gateway.identifiers import ModelRef
from maas_gateway.place import prepare

pytestmark = pytest.mark.anyio


async def _taken_back(world: World, revision: str) -> None:
    database = Database(world.settings.main_url, CHANGES)
    config = alembic_config("main")
    async with database.connection(is_write=True) as connection:

        def step(on: sa.Connection) -> None:
            config.attributes["connection"] = on
            downgrade(config, revision)

        await connection.run_sync(step)
    await database.close()


async def _status(world: World, demo: DemoModel) -> int:
    body = {"instances": [list(demo.seed.example)]}
    headers = await world.headers(world.owners["acme"])
    return (await world.http.post("/v1/models/bc:predict", json=body, headers=headers)).status_code


async def test_versions_of_before_manifests_are_signed_by_the_start_that_upgrades_and_by_no_other(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        await with_kept_upload(world, "acme", ModelRef("bc", 1), demo)
    await _taken_back(world, "0002_main")
    await prepare(world.settings, makes_root_key=False)
    async with joined_gateway(world) as upgraded:
        assert await _status(upgraded, demo) == 200
    database = Database(world.settings.main_url, CHANGES)
    async with database.connection(is_write=True) as connection:
        await connection.exec_driver_sql("UPDATE model_versions SET manifest = NULL, manifest_key = NULL")
    await database.close()
    await prepare(world.settings, makes_root_key=False)
    async with joined_gateway(world) as tampered:
        assert await _status(tampered, demo) == 503
