"""While the database is away: nobody's standing is taken for granted for long, and it comes back by itself."""

import asyncio
import time
from pathlib import Path

import pytest

from builders.gateways import running_gateway
from builders.models import DemoModel, published_model
from services import PostgresServer

pytestmark = pytest.mark.anyio


async def test_predictions_stop_when_standing_cannot_be_asked_and_go_on_when_it_can(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str, demo: DemoModel
) -> None:
    name = postgres_url.rpartition("/")[2]
    async with running_gateway(tmp_path, postgres_url) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        headers = await world.headers(await world.service("acme", "invoker"))

        async def status_within(wanted: int, seconds: float) -> bool:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                body = {"instances": [list(demo.seed.example)]}
                answer = await world.http.post("/v1/models/bc:predict", json=body, headers=headers)
                assert answer.status_code in {200, 503}, answer.text
                if answer.status_code == wanted:
                    return True
                await asyncio.sleep(0.2)
            return False

        assert await status_within(200, 1)
        postgres.run_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        postgres.run_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        assert await status_within(503, 8)
        postgres.run_sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert await status_within(200, 15)
