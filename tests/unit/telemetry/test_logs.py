"""Log lines: what is hidden in them, and that a whole journey leaves no secret in any."""

import json
from pathlib import Path

import pytest
import structlog

from builders.gateways import running_gateway
from builders.logs import Lines
from maas_gateway.telemetry import logs
from maas_gateway.telemetry.metrics import Metrics, exposition

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "name",
    ["password", "Password", "client_secret", "token", "access_token", "Authorization", "key_bytes", "body", "tensor"],
)
async def test_field_whose_name_suggests_a_secret_is_hidden(lines: Lines, name: str) -> None:
    logs.configure(form="json")
    structlog.get_logger().info("something", **{name: "hunter2"}, model="m")
    structlog.get_logger().info("something", within={"deeper": [{name: "hunter2"}]})
    assert "hunter2" not in lines.getvalue()
    assert json.loads(lines.getvalue().splitlines()[0])["model"] == "m"


@pytest.mark.parametrize("form", ["json", "console"])
async def test_exception_is_logged_by_type_and_place_without_its_values(lines: Lines, form: str) -> None:
    logs.configure(form=form)  # type: ignore[arg-type]
    try:
        int("hunter2")
    except ValueError:
        structlog.get_logger().exception("request_failed", request_id="r")
    text = lines.getvalue()
    assert "hunter2" not in text
    for part in ("request_failed", "ValueError", "test_logs.py"):
        assert part in text


async def test_level_is_kept(lines: Lines) -> None:
    logs.configure(form="json", level="warning")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    assert [json.loads(line)["event"] for line in lines.getvalue().splitlines()] == ["loud"]


async def test_fault_is_answered_by_a_fixed_sentence_and_logged_without_values(tmp_path: Path, lines: Lines) -> None:
    """The database loses a table under a running gateway."""
    from sqlalchemy import text as sql

    from maas_gateway.database.engine import Database
    from maas_gateway.database.metadata import CHANGES

    async with running_gateway(tmp_path, logs={"form": "json"}) as world:
        headers = await world.headers(await world.tenant("acme"))
        database = Database(world.settings.main_url, CHANGES)
        async with database.connection(is_write=True) as connection:
            await connection.execute(sql("ALTER TABLE users RENAME TO elsewhere"))
        await database.close()
        answer = await world.http.post("/admin/v1/users", json={"name": "grace-hunter2"}, headers=headers)
        assert answer.status_code == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == "an unexpected fault; give the operator the request id"
        assert "Traceback" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"
        request_id = answer.json()["request_id"]
    failed = [json.loads(line) for line in lines.getvalue().splitlines() if "request_failed" in line]
    assert [line["request_id"] for line in failed] == [request_id]
    assert "grace-hunter2" not in lines.getvalue()


def test_requests_are_counted_by_door_and_status() -> None:
    metrics = Metrics()
    for status in (200, 200, 401):
        metrics.request("tf_serving", status, 0.01)
    text = exposition(metrics).decode()
    assert 'maas_request_duration_seconds_count{door="tf_serving",status="200"} 2.0' in text
    assert 'maas_request_duration_seconds_count{door="tf_serving",status="401"} 1.0' in text


async def test_metrics_name_no_user_no_token_and_no_path(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        headers = await world.headers(await world.tenant("acme"))
        await world.http.get("/admin/v1/models/a-made-up-name", headers=headers)
        await world.http.get("/v1/models/a-made-up-name", headers=headers)
        await world.http.get("/a-made-up-name")
        text = exposition(world.gateway.metrics).decode()
    assert 'door="management",status="404"' in text
    assert 'door="tf_serving",status="404"' in text
    for name in ("a-made-up-name", "acme", "owner"):
        assert name not in text
