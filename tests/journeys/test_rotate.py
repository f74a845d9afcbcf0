"""Rotating keys: under load, between processes, and the end of an old version's life."""

import asyncio
import hashlib
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builders.clocks import ShiftedClock
from builders.gateways import POSTGRES_SLOWLY, Account, World, joined_gateway, running_gateway
from builders.models import DemoModel, published_model
from maas_gateway.controlplane.operate import Report
from maas_gateway.controlplane.schedule import Schedule
from maas_gateway.keyring.key import Purpose
from maas_gateway.operations import store as operations
from maas_gateway.operations.operation import Operation

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
    operation = await _ended(world, account, operation)
    assert operation["state"] == "succeeded", operation


async def _ended(world: World, account: Account, operation: Any) -> Any:
    while operation["state"] == "running":
        await asyncio.sleep(0.1)
        path = f"/admin/v1/operations/{operation['id']}"
        operation = (await world.http.get(path, headers=await world.headers(account))).json()
    return operation


@POSTGRES_SLOWLY
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

        askers = [asyncio.create_task(ask()) for _ in range(4)]
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


@POSTGRES_SLOWLY
async def test_resealing_gives_every_artifact_a_new_key_and_a_new_blob_and_fails_no_request(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url) as world, joined_gateway(world) as elsewhere:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        owner = world.owners["acme"]
        before, is_over, answered = _blobs(world), asyncio.Event(), []
        body = {"instances": [list(demo.seed.example)]}

        async def ask(process: World) -> None:
            headers = await process.headers(owner)
            while not is_over.is_set():
                answered.append(
                    (await process.http.post("/v1/models/bc:predict", json=body, headers=headers)).status_code
                )

        askers = [asyncio.create_task(ask(process)) for process in (world, elsewhere) for _ in range(4)]
        status, counted = await _post(world, owner, "artifacts:reseal?dry_run=true")
        assert (status, counted["total"], _blobs(world)) == (200, 2, before)
        status, operation = await _post(world, owner, "artifacts:reseal")
        assert status == 200, operation
        assert (await _ended(world, owner, operation))["state"] == "succeeded"
        is_over.set()
        await asyncio.gather(*askers)
        after = _blobs(world)
        assert len(after) == 2
        assert not before.keys() & after.keys()
        assert not set(before.values()) & set(after.values())
        assert set(answered) == {200}
    async with joined_gateway(world) as restarted:
        headers = await restarted.headers(owner)
        assert (await restarted.http.post("/v1/models/bc:predict", json=body, headers=headers)).status_code == 200


async def test_rotating_statements_signs_every_manifest_anew_and_lets_the_old_key_go(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        assert (await _post(world, world.operator, "statements/versions/1:retire"))[0] == 409
        await _rotate(world, "statements")
        for verb in ("retire", "destroy"):
            status, ring = await _post(world, world.operator, f"statements/versions/1:{verb}")
            assert status == 200, ring
        assert [version["uses"] for version in ring["versions"]] == [0, 1]
        assert ring["min_open_version"] == 2
    async with joined_gateway(world) as restarted:
        headers = await restarted.headers(world.owners["acme"])
        body = {"instances": [list(demo.seed.example)]}
        assert (await restarted.http.post("/v1/models/bc:predict", json=body, headers=headers)).status_code == 200


async def test_cancelled_rotation_stops_at_its_next_step_and_another_goes_on_from_there(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        owner, operate = world.owners["acme"], world.gateway.operate
        waiting, go_on = asyncio.Event(), asyncio.Event()
        work = operate._works["rotate"]

        async def slow(operation: Operation, report: Report) -> None:
            waiting.set()
            await go_on.wait()
            await work(operation, report)

        operate.carry_out("rotate", slow)
        rotating = asyncio.create_task(_post(world, owner, "artifacts:rotate"))
        await waiting.wait()
        principal = await world.principal(owner)
        async with world.gateway.browse._database.read(principal.tenant) as session:
            running = await operations.running(session, "keyring artifacts")
        assert running is not None
        assert (await _post(world, owner, "artifacts:rotate"))[0] == 409
        path = f"/admin/v1/operations/{running.operation_id}:cancel"
        cancelled = await world.http.post(path, headers=await world.headers(owner))
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
        go_on.set()
        await rotating
        again = await world.http.post(path, headers=await world.headers(owner))
        assert again.status_code == 409
        operate.carry_out("rotate", work)
        await _rotate(world, "artifacts")
        ring = (await world.http.get("/admin/v1/keyrings/artifacts", headers=await world.headers(owner))).json()
        assert [version["state"] for version in ring["versions"]] == ["enabled", "primary"]


async def test_keys_are_rotated_and_retired_by_age_as_the_configuration_says(tmp_path: Path, demo: DemoModel) -> None:
    keys = {"rotate_after_days": {"artifacts": 30}, "retire_after_days": {"artifacts": 7}}
    async with running_gateway(tmp_path, keys=keys) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        clock = ShiftedClock()
        gateway, tenant = world.gateway, await world.tenant_id("acme")
        acting = replace(gateway.erase._acting, clock=clock)
        ring = gateway.erase._stores.keyring
        ring.clock = clock
        schedule = Schedule(
            acting,
            ring,
            gateway.rotate,
            rotate_after_days={Purpose.ARTIFACTS: 30},
            retire_after_days={Purpose.ARTIFACTS: 7},
        )
        seen = []
        for days in (0, 29, 31, 36, 39):
            clock.ahead_s = days * 86_400.0
            await schedule.look()
            seen.append([version.state.value for version in await ring.versions(tenant, Purpose.ARTIFACTS)])
        assert seen[:2] == [["primary"], ["primary"]]
        assert seen[2:] == [["enabled", "primary"], ["enabled", "primary"], ["disabled", "primary"]]
