"""Rotating keys: under load, between processes, and the end of an old version's life."""

import asyncio
import hashlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from builders.gateways import Account, World, joined_gateway, running_gateway
from builders.models import DemoModel, published_model

pytestmark = pytest.mark.anyio

TENANTS = {"artifacts", "audit"}
EVERY_PURPOSE = ("artifacts", "audit", "token-signing", "statements", "console-sessions", "root")


def _blobs(world: World) -> dict[str, str]:
    folder = world.settings.data_dir / "blobs"
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("??/*")}


async def _post(world: World, account: Account, path: str) -> Any:
    answer = await world.http.post(f"/admin/v1/keyrings/{path}", headers=await world.headers(account))
    return answer.status_code, answer.json()


async def _rotate(world: World, purpose: str) -> None:
    account = world.owners["acme"] if purpose in TENANTS else world.operator
    status, operation = await _post(world, account, f"{purpose}:rotate")
    assert status == 200, operation
    while operation["state"] == "running":
        await asyncio.sleep(0.1)
        path = f"/admin/v1/operations/{operation['id']}"
        operation = (await world.http.get(path, headers=await world.headers(account))).json()
    assert operation["state"] == "succeeded", operation


async def test_rotating_every_purpose_under_load_fails_no_request_and_touches_no_blob(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        invoker = await world.service("acme", "invoker")
        before = _blobs(world)
        is_over = asyncio.Event()
        answered: list[int] = []

        async def ask() -> None:
            headers = await world.headers(invoker)
            while not is_over.is_set():
                body = {"instances": [list(demo.seed.example)]}
                answer = await world.http.post("/v1/models/bc:predict", json=body, headers=headers)
                answered.append(answer.status_code)
                if len(answered) % 40 == 0:
                    headers = await world.headers(invoker)

        askers = [asyncio.create_task(ask()) for _ in range(32)]
        for _ in range(2):
            for purpose in EVERY_PURPOSE:
                await _rotate(world, purpose)
        is_over.set()
        await asyncio.gather(*askers)
        assert set(answered) == {200}
        assert _blobs(world) == before


async def test_three_processes_fail_no_open_and_no_token_while_one_of_them_rotates(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    """Each process loads the model anew after every rotation, from rows whose key version it has not seen."""
    async with AsyncExitStack() as stack:
        worlds = [await stack.enter_async_context(running_gateway(tmp_path, database_url))]
        first = worlds[0]
        await first.tenant("acme")
        worlds += [await stack.enter_async_context(joined_gateway(first)) for _ in range(2)]
        await published_model(first, "acme", "bc", demo)
        invoker = await first.service("acme", "invoker")
        owner = await first.headers(first.owners["acme"])
        body = {"instances": [list(demo.seed.example)]}
        for _ in range(3):
            for purpose in ("artifacts", "token-signing", "root"):
                await _rotate(first, purpose)
            for act in ("retire", "promote"):
                await first.http.post(f"/admin/v1/models/bc/versions/1:{act}", headers=owner)
            for issuing in worlds:
                headers = await issuing.headers(invoker)
                for world in worlds:
                    answer = await world.http.post("/v1/models/bc:predict", json=body, headers=headers)
                    assert answer.status_code == 200, answer.text


async def test_a_dry_run_counts_and_changes_nothing(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        status, operation = await _post(world, world.owners["acme"], "artifacts:rotate?dry_run=true")
        assert (status, operation["total"], operation["done"]) == (200, 2, 0)
        headers = await world.headers(world.owners["acme"])
        rings = (await world.http.get("/admin/v1/keyrings", headers=headers)).json()["keyrings"]
        ring = next(ring for ring in rings if ring["purpose"] == "artifacts")
        assert [version["state"] for version in ring["versions"]] == ["primary"]


async def test_an_old_version_ends_only_when_nothing_needs_it(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        owner = world.owners["acme"]
        assert (await _post(world, owner, "artifacts/versions/1:retire"))[0] == 409  # the primary
        await _rotate(world, "artifacts")
        assert (await _post(world, owner, "artifacts/versions/1:destroy"))[0] == 409  # not retired yet
        assert (await _post(world, owner, "artifacts/versions/1:retire"))[0] == 200
        status, ring = await _post(world, owner, "artifacts/versions/1:destroy")
        assert (status, [version["state"] for version in ring["versions"]]) == (200, ["destroyed", "primary"])
        assert (await _post(world, owner, "artifacts/versions/7:retire"))[0] == 404
        await _rotate(world, "token-signing")
        status, problem = await _post(world, world.operator, "token-signing/versions/1:retire")
        assert status == 409
        assert "may live" in problem["detail"]
        await _rotate(world, "root")
        assert (await _post(world, world.operator, "root/versions/1:retire"))[0] == 200
        assert (await _post(world, world.operator, "root/versions/1:destroy"))[0] == 200
        body = {"instances": [list(demo.seed.example)]}
        headers = await world.headers(owner)
        assert (await world.http.post("/v1/models/bc:predict", json=body, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("who", "purpose", "status"),
    [
        pytest.param("operator", "artifacts", 404, id="a tenant's ring does not exist for the platform"),
        pytest.param("owner", "root", 404, id="the platform's ring does not exist for a tenant"),
        pytest.param("owner", "token-signing", 404, id="nor its signing ring"),
        pytest.param("owner", "nonsense", 404, id="an unknown purpose does not exist"),
        pytest.param("publisher", "artifacts", 404, id="who may not read rings is told of none"),
        pytest.param("auditor", "artifacts", 404, id="nor is an auditor"),
        pytest.param("key-custodian", "artifacts", 200, id="a custodian rotates"),
    ],
)
async def test_rings_are_their_owners_only(tmp_path: Path, who: str, purpose: str, status: int) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        accounts = {"operator": world.operator, "owner": world.owners["acme"]}
        account = accounts.get(who) or await world.service("acme", who)
        assert (await _post(world, account, f"{purpose}:rotate"))[0] == status


async def test_a_custodian_may_retire_and_not_destroy(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        custodian = await world.service("acme", "key-custodian")
        await _rotate(world, "artifacts")
        assert (await _post(world, custodian, "artifacts/versions/1:retire"))[0] == 200
        assert (await _post(world, custodian, "artifacts/versions/1:destroy"))[0] == 403


async def test_every_rotation_leaves_its_records(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        await _rotate(world, "artifacts")
        headers = await world.headers(world.owners["acme"])
        events = (await world.http.get("/admin/v1/audit/events", headers=headers)).json()["events"]
        assert [e["kind"] for e in events if e["kind"].startswith("rotate")] == [
            "rotate.began",
            "rotate.finished",
        ]
