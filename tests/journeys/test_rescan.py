"""Looking again with later rules: what serves and must not is taken out, what may goes on, and nothing is done twice."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from builders.gateways import Account, World, joined_gateway, running_gateway
from builders.models import DemoModel, published_model, quarantined_model, uploaded_model
from maas_gateway.clock import Deadline
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.identifiers import ModelRef
from maas_gateway.registry.tables import MODEL_VERSIONS
from simulators.scanner import NOTE, REFUSED, REVIEW, later_rules

pytestmark = pytest.mark.anyio

A = "/admin/v1"


async def _rescan(
    world: World, account: Account | None = None, *, query: str = "", everywhere: bool = False, follows: bool = True
) -> tuple[int, dict[str, Any]]:
    headers = await world.headers(account or world.owners["acme"])
    path = f"{A}/{'tenants' if everywhere else 'models'}:rescan{query}"
    answer = await world.http.post(path, headers=headers)
    operation = answer.json()
    async with asyncio.timeout(60):  # an act that takes longer than its answer may is followed
        while follows and operation.get("state") == "running":
            operation = (await world.http.get(f"{A}/operations/{operation['id']}", headers=headers)).json()
    return answer.status_code, operation


async def _result(world: World, query: str = "") -> dict[str, Any]:
    status, operation = await _rescan(world, query=query)
    assert (status, operation["state"]) == (200, "succeeded"), operation
    result: dict[str, Any] = operation["result"]
    return result


def _counts(result: dict[str, Any]) -> dict[str, int]:
    return {name: n for name, n in result.items() if isinstance(n, int) and n}


async def _act(world: World, path: str, method: str = "POST", **rest: Any) -> tuple[int, Any]:
    headers = await world.headers(world.owners["acme"])
    answer = await world.http.request(method, f"{A}/models/{path}", headers=headers, **rest)
    return answer.status_code, answer.json() if answer.content else None


async def _predict(world: World, demo: DemoModel, path: str = "bc", slug: str = "acme") -> int:
    body = {"instances": [list(demo.seed.example)]}
    headers = await world.headers(world.owners[slug])
    return (await world.http.post(f"/v1/models/{path}:predict", json=body, headers=headers)).status_code


async def _events(world: World, kind: str, slug: str = "acme") -> list[dict[str, Any]]:
    headers = await world.headers(world.owners[slug])
    events = (await world.http.get(f"{A}/audit/events?limit=1000", headers=headers)).json()["events"]
    return [event for event in events if event["kind"] == kind]


@asynccontextmanager
async def _acme(folder: Path, database: str = "sqlite") -> AsyncIterator[World]:
    async with running_gateway(folder, database) as world:
        await world.tenant("acme")
        yield world


async def test_rescan_by_the_rules_of_the_upload_changes_nothing(tmp_path: Path, demo: DemoModel) -> None:
    async with _acme(tmp_path) as world:
        await published_model(world, "acme", "bc", demo)
        await uploaded_model(world, "acme", "bc", demo, version=2)
        await quarantined_model(world, "acme", "odd", demo)
        await _rescan(world)  # the plan's scanner stands in the manifest from now on
        before = await _rows(world)
        result = await _result(world)
        assert _counts(result) == {"scanned": 3, "passed": 2, "review": 1}
        assert result["versions"][0] | {"finding": ""} == {
            "model": "odd",
            "version": 1,
            "stage": "quarantined",
            "verdict": "review",
            "finding": "",
        }
        assert await _rows(world) == before
        assert await _events(world, "model.rescanned") == []
        assert await _predict(world, demo) == 200


async def _rows(world: World) -> list[Any]:
    database = Database(world.settings.main_url, CHANGES)
    async with database.connection(is_write=False) as connection:
        found = await connection.execute(sa.select(MODEL_VERSIONS).order_by(MODEL_VERSIONS.c.created_at))
        rows = [dict(row) for row in found.mappings()]
    await database.close()
    return rows


async def test_what_later_rules_refuse_is_taken_out_of_serving_everywhere(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with _acme(tmp_path, database_url) as world, joined_gateway(world) as elsewhere:
        await published_model(world, "acme", "bc", demo)
        await _act(world, "bc/labels/stable", "PUT", json={"version": 1})
        assert await _predict(elsewhere, demo, "bc/labels/stable") == 200
        later_rules(world, REFUSED, NOTE)
        result = await _result(world)
        assert _counts(result) == {"scanned": 1, "refused": 1, "quarantined": 1, "unscanned": 1}
        assert result["versions"][0]["finding"] == {**REFUSED.to_json(), "artifact": "litert"}
        tenant = await world.tenant_id("acme")
        for process in (world, elsewhere):
            await process.gateway.reconciler.settle(tenant, "bc", Deadline.after(10))
            assert await _predict(process, demo) == 404
            assert await _predict(process, demo, "bc/labels/stable") == 400, "so this door says of an unknown label"
        _, model = await _act(world, "bc", "GET")
        assert (model["labels"], model["versions"][0]["stage"]) == ({}, "quarantined")
        for verb in ("promote", "release"):
            status, problem = await _act(world, f"bc/versions/1:{verb}")
            assert (status, "refuse" in problem["detail"], "delete it" in problem["detail"]) == (409, True, True)
        (event,) = await _events(world, "model.quarantined")
        assert (event["outcome"], event["reason"], event["actor"]) == ("alarm", "later-rule", "owner@acme")
        assert event["detail"] == {"stage": "serving", "rule": "later-rule", "labels": "stable"}
        assert _counts(await _result(world)) == {"scanned": 1, "refused": 1, "unscanned": 1}
        assert len(await _events(world, "model.quarantined")) == 1, "it is not quarantined twice"


async def test_what_was_refused_wrongly_may_be_released_once_the_rules_are_mended(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with _acme(tmp_path) as world:
        await published_model(world, "acme", "bc", demo)
        later_rules(world, REFUSED)
        await _result(world)
        later_rules(world)
        assert _counts(await _result(world)) == {"scanned": 1, "passed": 1, "unscanned": 1}
        assert (await _act(world, "bc/versions/1:promote"))[0] == 409, "a person says so, not a rescan"
        status, version = await _act(world, "bc/versions/1:release")
        assert (status, version["stage"], version["findings"]) == (200, "staged", [])
        assert (await _act(world, "bc/versions/1:promote"))[0] == 200
        assert await _predict(world, demo) == 200


async def test_what_serves_goes_on_where_later_rules_ask_for_a_person_and_the_others_wait(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with _acme(tmp_path, database_url) as world:
        await published_model(world, "acme", "bc", demo)
        await uploaded_model(world, "acme", "bc", demo, version=2)
        later_rules(world, REVIEW)
        result = await _result(world)
        assert _counts(result) == {"scanned": 2, "review": 2, "quarantined": 1, "unscanned": 2}
        _, model = await _act(world, "bc", "GET")
        first, second = model["versions"]
        assert (first["stage"], first["released"]["is_by_person"]) == ("serving", False)
        assert (second["stage"], second["released"]) == ("quarantined", None)
        assert await _predict(world, demo) == 200
        async with joined_gateway(world) as restarted:
            assert await _predict(restarted, demo) == 200, "its manifest lets it be loaded"
        assert (await _act(world, "bc/versions/1:retire"))[0] == 200
        status, problem = await _act(world, "bc/versions/1:promote")
        assert (status, ":release" in problem["detail"]) == (409, True)
        assert (await _act(world, "bc/versions/1:release"))[1]["stage"] == "retired"
        assert (await _act(world, "bc/versions/1:promote"))[0] == 200
        assert (await _act(world, "bc/versions/1:release"))[0] == 409, "nothing keeps it any more"
        assert _counts(await _result(world)) == {"scanned": 2, "passed": 1, "review": 1, "unscanned": 2}


async def test_strict_rescan_takes_out_of_serving_what_waits_for_a_person(tmp_path: Path, demo: DemoModel) -> None:
    async with _acme(tmp_path) as world:
        await published_model(world, "acme", "bc", demo)
        later_rules(world, REVIEW)
        assert _counts(await _result(world, "?strict=true"))["quarantined"] == 1
        assert await _predict(world, demo) == 404


async def test_dry_run_tells_and_changes_nothing(tmp_path: Path, demo: DemoModel) -> None:
    async with _acme(tmp_path) as world:
        await published_model(world, "acme", "bc", demo)
        before = await _rows(world)
        later_rules(world, REFUSED)
        result = await _result(world, "?dry_run=true")
        assert _counts(result) == {"scanned": 1, "refused": 1, "quarantined": 1, "unscanned": 1}
        assert await _rows(world) == before
        assert await _events(world, "model.quarantined") == []
        assert await _predict(world, demo) == 200


async def test_operator_rescans_every_tenant_and_is_told_numbers_only(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        await world.tenants("acme", "globex")
        for slug in ("acme", "globex"):
            await published_model(world, slug, "bc", demo)
        later_rules(world, REFUSED)
        assert (await _rescan(world, world.owners["acme"], everywhere=True))[0] == 403
        status, operation = await _rescan(world, world.operator, everywhere=True)
        assert (status, operation["state"], operation["total"]) == (200, "succeeded", 2)
        assert _counts(operation["result"]) == {"scanned": 2, "refused": 2, "quarantined": 2, "unscanned": 2}
        assert operation["result"]["versions"] == []
        assert "model" not in str(operation["result"])
        for slug in ("acme", "globex"):
            assert await _predict(world, demo, slug=slug) == 404
            (event,) = await _events(world, "model.quarantined", slug)
            assert event["actor"] == "operator@platform"


async def test_tenant_rescans_its_own_only(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenants("acme", "globex")
        for slug in ("acme", "globex"):
            await published_model(world, slug, "bc", demo)
        later_rules(world, REFUSED)
        assert (await _result(world))["scanned"] == 1
        assert await _predict(world, demo, slug="globex") == 200


async def test_second_rescan_at_once_is_a_conflict_and_other_requests_go_on(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with _acme(tmp_path, database_url) as world, joined_gateway(world) as elsewhere:
        await published_model(world, "acme", "bc", demo)
        scanner = later_rules(world, REFUSED, waits=True)
        running = asyncio.create_task(_rescan(world))
        await asyncio.to_thread(scanner.has_begun.wait, 30)
        for process in (world, elsewhere):
            status, problem = await _rescan(process)
            assert (status, "models is being changed already by operation" in problem["detail"]) == (409, True)
        assert await _predict(world, demo) == 200
        scanner.may_go_on.set()
        assert (await running)[1]["result"]["refused"] == 1


async def test_rescans_of_tenant_and_operator_at_once_do_a_thing_once(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with _acme(tmp_path, database_url) as world, joined_gateway(world) as elsewhere:
        for number in (1, 2, 3):
            await published_model(world, "acme", "bc", demo, version=number)
        for process in (world, elsewhere):
            later_rules(process, REFUSED)
        own, every = await asyncio.gather(_rescan(world), _rescan(elsewhere, world.operator, everywhere=True))
        assert own[1]["result"]["refused"] == every[1]["result"]["refused"] == 3
        events = await _events(world, "model.quarantined")
        assert sorted(event["thing"] for event in events) == [f"model bc/versions/{n}" for n in (1, 2, 3)]


async def test_version_that_is_changed_while_it_is_looked_at_is_looked_at_again(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with _acme(tmp_path) as world:
        await uploaded_model(world, "acme", "bc", demo)
        scanner = later_rules(world, REFUSED, waits=True)
        running = asyncio.create_task(_rescan(world))
        await asyncio.to_thread(scanner.has_begun.wait, 30)
        assert (await _act(world, "bc/versions/1:promote"))[0] == 200
        scanner.may_go_on.set()
        assert (await running)[1]["result"]["quarantined"] == 1
        assert scanner.n_scanned == 2
        assert await _predict(world, demo) == 404


async def test_version_that_is_deleted_while_it_is_looked_at_is_gone(tmp_path: Path, demo: DemoModel) -> None:
    async with _acme(tmp_path) as world:
        await uploaded_model(world, "acme", "bc", demo)
        scanner = later_rules(world, REFUSED, waits=True)
        running = asyncio.create_task(_rescan(world))
        await asyncio.to_thread(scanner.has_begun.wait, 30)
        assert (await _act(world, "bc/versions/1", "DELETE"))[0] == 204
        scanner.may_go_on.set()
        assert _counts((await running)[1]["result"]) == {"scanned": 1}
        assert (await _act(world, "bc", "GET"))[1]["versions"] == []


async def test_version_that_was_tampered_with_is_told_and_the_others_are_looked_at(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with _acme(tmp_path) as world:
        bad = await uploaded_model(world, "acme", "bad", demo)
        await uploaded_model(world, "acme", "good", demo)
        name = str(bad.artifact("litert").artifact_id)
        blob = world.settings.data_dir / "blobs" / name[:2] / name
        content = blob.read_bytes()
        blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        result = await _result(world)
        assert _counts(result) == {"scanned": 2, "passed": 1, "unreadable": 1}
        assert (result["versions"][0]["model"], result["versions"][0]["verdict"]) == ("bad", "unreadable")
        await world.gateway.audit.flush()
        (event,) = await _events(world, "model.integrity")
        assert event["outcome"] == "alarm"


async def test_cancelled_rescan_stops_and_another_goes_on(tmp_path: Path, demo: DemoModel) -> None:
    async with _acme(tmp_path) as world:
        for number in (1, 2):
            await uploaded_model(world, "acme", "bc", demo, version=number)
        scanner = later_rules(world, waits=True)
        _, operation = await _rescan(world, follows=False)
        assert operation["state"] == "running"
        headers = await world.headers(world.owners["acme"])
        cancelled = await world.http.post(f"{A}/operations/{operation['id']}:cancel", headers=headers)
        assert cancelled.json()["state"] == "cancelled"
        scanner.may_go_on.set()
        assert (await _result(world))["scanned"] == 2


async def test_rescan_that_was_taken_up_goes_on_behind_what_it_noted(tmp_path: Path, demo: DemoModel) -> None:
    async with _acme(tmp_path) as world:
        for number in (1, 2, 3):
            await uploaded_model(world, "acme", "bc", demo, version=number)
        scanner = later_rules(world, NOTE)
        _, operation = await _rescan(world)
        rescan = world.gateway.admission.rescan
        owner = await world.principal(world.owners["acme"])
        found = await world.gateway.browse.operation(owner, _uuid(operation))
        second = await world.gateway.browse.version(owner, ModelRef("bc", 2))
        place = [str(second.tenant), str(second.model_id), f"{2:020}"]
        noted = {**(found.result or {}), "after": place, "names": True, "scanned": 2, "passed": 2, "unscanned": 2}
        scanner.n_scanned = 0
        result = await rescan._steps(replace(found, result=noted), _tell_nobody)
        assert (scanner.n_scanned, result["scanned"], result["passed"]) == (1, 3, 3)


async def _tell_nobody(done: int, total: int) -> None:
    pass


def _uuid(operation: dict[str, Any]) -> uuid.UUID:
    return uuid.UUID(operation["id"])
