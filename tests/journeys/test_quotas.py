"""Limits and usage as callers and owners see them, through the doors."""

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from builders.gateways import Account, World, joined_gateway, running_gateway
from builders.models import DemoModel, published_model
from services import ValkeyServer

pytestmark = pytest.mark.anyio

V1 = "/v1/models/bc:predict"
V2 = "/v2/models/bc/infer"
HOUR = 3_600


async def _limited(
    world: World, demo: DemoModel, quota: dict[str, Any], **about: Any
) -> tuple[Account, dict[str, str]]:
    """Return an invoker of a model that has that quota, and the header that bears its token."""
    owner = await world.tenant("acme")
    await published_model(world, "acme", "bc", demo)
    body = {"model": "bc", **about, "quota": quota}
    answer = await world.http.post("/admin/v1/quotas", json=body, headers=await world.headers(owner))
    assert answer.status_code == 201, answer.text
    invoker = await world.service("acme", "invoker")
    return invoker, await world.headers(invoker)


def _rows(demo: DemoModel, n: int = 1) -> dict[str, Any]:
    return {"instances": [list(demo.seed.example)] * n}


def _tensor(demo: DemoModel, n: int = 1) -> dict[str, Any]:
    return {
        "inputs": [
            {"name": "measurements", "shape": [n, 30], "datatype": "FP32", "data": [list(demo.seed.example)] * n}
        ]
    }


async def _statuses(world: World, headers: dict[str, str], bodies: list[dict[str, Any]], path: str = V1) -> list[int]:
    return [(await world.http.post(path, json=body, headers=headers)).status_code for body in bodies]


async def test_beyond_a_rate_both_doors_answer_429_and_say_when(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        _, headers = await _limited(world, demo, {"requests": {"amount": 3, "window_s": HOUR}})
        assert await _statuses(world, headers, [_rows(demo)] * 2) == [200, 200]
        assert await _statuses(world, headers, [_tensor(demo)], V2) == [200]
        for path, body in ((V1, _rows(demo)), (V2, _tensor(demo))):
            refused = await world.http.post(path, json=body, headers=headers)
            assert refused.status_code == 429
            assert 1_100 < int(refused.headers["retry-after"]) <= 1_200
            assert refused.headers["ratelimit-limit"] == "3"
            assert refused.headers["ratelimit-remaining"] == "0"
            assert refused.headers["ratelimit-reset"] == refused.headers["retry-after"]
            assert refused.json()["error"] == "the limit of 3 requests in 3600 s for this model is reached"


async def test_rows_are_counted_and_given_back_when_nothing_was_computed(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        _, headers = await _limited(world, demo, {"rows": {"amount": 10, "window_s": HOUR}})
        broken = {"instances": [list(demo.seed.example)[:29]] * 5}
        assert await _statuses(world, headers, [broken, _rows(demo, 6), _rows(demo, 5), _rows(demo, 4)]) == [
            400,
            200,
            429,
            200,
        ]
        refused = await world.http.post(V1, json=_rows(demo, 11), headers=headers)
        assert refused.status_code == 429
        assert "this request alone has 11" in refused.json()["error"]


async def test_rows_of_requests_that_found_no_place_in_the_queue_are_given_back(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, inference={"max_queue": 1}) as world:
        _, headers = await _limited(world, demo, {"rows": {"amount": 60, "window_s": 100 * HOUR}})
        crowd = await asyncio.gather(*(world.http.post(V1, json=_rows(demo), headers=headers) for _ in range(60)))
        statuses = [answer.status_code for answer in crowd]
        assert set(statuses) == {200, 503}
        while statuses.count(200) < 60:
            statuses += await _statuses(world, headers, [_rows(demo)])
            assert 429 not in statuses
        assert await _statuses(world, headers, [_rows(demo)]) == [429]


async def test_bytes_are_counted_whether_they_are_declared_or_not(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        body = httpx.Request("POST", "http://x", json=_rows(demo, 4)).read()
        amount = len(body) * 5 // 2
        _, headers = await _limited(world, demo, {"body_bytes": {"amount": amount, "window_s": HOUR}})

        async def chunked() -> Any:
            yield body[:50]
            yield body[50:]

        answers = [
            await world.http.post(V1, content=body, headers=headers),
            await world.http.post(V1, content=chunked(), headers=headers),
            await world.http.post(V1, content=chunked(), headers=headers),
            await world.http.post(V1, content=body, headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 429, 429]


async def test_only_so_many_run_at_once(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        _, headers = await _limited(world, demo, {"concurrent": 2})
        statuses = [200]
        async with asyncio.timeout(30):
            while 429 not in statuses:  # on a busy machine each may have been answered before the next one began
                crowd = [world.http.post(V1, json=_rows(demo, 64), headers=headers) for _ in range(24)]
                answers = await asyncio.gather(*crowd)
                statuses = [answer.status_code for answer in answers]
                assert set(statuses) <= {200, 429}
                assert statuses.count(200) >= 2
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        assert await _statuses(world, headers, [_rows(demo)] * 4) == [200] * 4  # every place was given back


async def test_a_lifetime_budget_is_each_principals_own_and_survives_a_restart(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        _, headers = await _limited(world, demo, {"lifetime_rows": 10})
        other = await world.headers(await world.service("acme", "invoker"))
        assert await _statuses(world, headers, [_rows(demo, 8), _rows(demo, 3), _rows(demo, 2)]) == [200, 429, 200]
        assert await _statuses(world, other, [_rows(demo, 10), _rows(demo, 1)]) == [200, 429]
        async with joined_gateway(world) as later:
            refused = await later.http.post(V1, json=_rows(demo), headers=headers)
            assert refused.status_code == 429
            assert "lifetime budget of 10 rows" in refused.json()["error"]
            budgets = await later.http.get("/admin/v1/budgets", headers=await later.headers(world.owners["acme"]))
            assert [line["spent_rows"] for line in budgets.json()["budgets"]] == [10, 10]


async def test_a_tenant_is_limited_by_the_platform_and_can_read_it(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await world.headers(await world.tenant("acme"))
        await published_model(world, "acme", "bc", demo)
        invoker = await world.headers(await world.service("acme", "invoker"))
        operator = await world.headers(world.operator)
        change = {"quota": {"requests": {"amount": 2, "window_s": HOUR}, "weight": 3}}
        refused = await world.http.patch("/admin/v1/tenants/acme", json=change, headers=owner)
        assert refused.status_code == 403
        assert (await world.http.patch("/admin/v1/tenants/acme", json=change, headers=operator)).status_code == 200
        assert await _statuses(world, invoker, [_rows(demo)] * 3) == [200, 200, 429]
        (told,) = (await world.http.get("/admin/v1/quotas", headers=owner)).json()["quotas"]
        assert told["quota"]["requests"]["amount"] == 2
        assert (await world.http.delete(f"/admin/v1/quotas/{told['id']}", headers=owner)).status_code == 403
        assert (await world.http.patch(f"/admin/v1/quotas/{told['id']}", json=change, headers=owner)).status_code == 403
        told = (await world.http.get("/admin/v1/tenants/acme/quota", headers=operator)).json()
        assert (told["requests"]["amount"], told["weight"]) == (2, 3)
        emptied = await world.http.patch("/admin/v1/tenants/acme", json={"quota": {}}, headers=operator)
        assert emptied.status_code == 200
        assert await _statuses(world, invoker, [_rows(demo)] * 3) == [200] * 3


async def test_the_quota_of_an_account_goes_with_it(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await world.headers(await world.tenant("acme"))
        for account in (await world.user("acme", "bob"), await world.service("acme")):
            body = {"subject": account.subject, "quota": {"concurrent": 1}}
            assert (await world.http.post("/admin/v1/quotas", json=body, headers=owner)).status_code == 201
            kind = "service-accounts" if account.is_service else "users"
            gone = await world.http.delete(f"/admin/v1/{kind}/{account.subject}", headers=owner)
            assert gone.status_code == 204
            assert not (await world.http.get("/admin/v1/quotas", headers=owner)).json()["quotas"]


async def test_a_change_of_a_quota_holds_in_every_process_within_a_second(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world, joined_gateway(world) as other:
        invoker, headers = await _limited(world, demo, {"requests": {"amount": 0}})
        owner = await world.headers(world.owners["acme"])
        await asyncio.sleep(0.6)
        assert await _statuses(other, headers, [_rows(demo)]) == [429]
        (rule,) = (await world.http.get("/admin/v1/quotas", headers=owner)).json()["quotas"]
        assert (await world.http.delete(f"/admin/v1/quotas/{rule['id']}", headers=owner)).status_code == 204
        assert await _statuses(world, headers, [_rows(demo)]) == [200]
        ends_at = time.monotonic() + 1
        while await _statuses(other, headers, [_rows(demo)]) != [200]:
            assert time.monotonic() < ends_at
            await asyncio.sleep(0.05)
        body = {"subject": invoker.subject, "quota": {"requests": {"amount": 0}}}
        assert (await world.http.post("/admin/v1/quotas", json=body, headers=owner)).status_code == 201
        ends_at = time.monotonic() + 1
        while await _statuses(other, headers, [_rows(demo)]) != [429]:
            assert time.monotonic() < ends_at
            await asyncio.sleep(0.05)


@pytest.mark.services
async def test_two_processes_share_a_limit_through_valkey(
    tmp_path: Path, demo: DemoModel, valkey: ValkeyServer
) -> None:
    async with running_gateway(tmp_path, quotas={"url": valkey.url}) as world, joined_gateway(world) as other:
        _, headers = await _limited(world, demo, {"requests": {"amount": 7, "window_s": HOUR}, "concurrent": 4})
        await asyncio.sleep(0.6)
        statuses = [status for place in (world, other) * 6 for status in await _statuses(place, headers, [_rows(demo)])]
        assert statuses == [200] * 7 + [429] * 5


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"quota": {}}, "model"),
    ({"model": "bc"}, "quota"),
    ({"model": "a b", "quota": {}}, "model"),
    ({"model": "..bc", "quota": {}}, "model"),
    ({"model": "bc", "quota": {"requests": 5}}, "requests"),
    ({"model": "bc", "quota": {"requests": {"amount": -1}}}, "amount"),
    ({"model": "bc", "quota": {"requests": {"amount": 2**53}}}, "amount"),
    ({"model": "bc", "quota": {"requests": {"amount": 1, "window_s": 0}}}, "window_s"),
    ({"model": "bc", "quota": {"requests": {"amount": 1.5}}}, "amount"),
    ({"model": "bc", "quota": {"concurrent": True}}, "concurrent"),
    ({"model": "bc", "quota": {"weight": 2}}, "weight"),
    ({"model": "bc", "quota": {"rate": {}}}, "rate"),
    ({"subject": "00000000-0000-4000-8000-000000000000", "quota": {}}, "subject"),
    ({"subject": "x", "quota": {}}, "subject"),
]


async def test_a_wrong_quota_is_refused_by_the_name_of_its_field(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        account = await world.tenant("acme")
        owner = await world.headers(account)
        for body, field in WRONG:
            answer = await world.http.post("/admin/v1/quotas", json=body, headers=owner)
            assert answer.status_code == 400, (body, answer.text)
            assert field in answer.json()["detail"], (body, answer.text)
        body = {"subject": account.subject, "quota": {"lifetime_rows": 5}}
        answer = await world.http.post("/admin/v1/quotas", json=body, headers=owner)
        assert (answer.status_code, "lifetime_rows" in answer.json()["detail"]) == (400, True)
        body = {"model": "acme-2.bc", "quota": {"requests": {"amount": 1}}}
        assert (await world.http.post("/admin/v1/quotas", json=body, headers=owner)).status_code == 201
        assert (await world.http.post("/admin/v1/quotas", json=body, headers=owner)).status_code == 409


async def test_usage_is_what_was_answered(tmp_path: Path, database_url: str, demo: DemoModel) -> None:
    async with running_gateway(tmp_path, database_url, quotas={"flush_s": 0.1}) as world:
        invoker, headers = await _limited(world, demo, {"rows": {"amount": 10_000}})
        bodies = [_rows(demo, n % 5 + 1) for n in range(60)]
        answers = await asyncio.gather(*(world.http.post(V1, json=body, headers=headers) for body in bodies))
        assert {answer.status_code for answer in answers} == {200}
        await _statuses(world, headers, [{"instances": []}])
        await asyncio.sleep(0.4)
        owner = await world.headers(world.owners["acme"])
        (line,) = (await world.http.get("/admin/v1/usage", headers=owner)).json()["usage"]
        assert (line["subject"], line["model"]) == (invoker.subject, "bc")
        assert (line["requests"], line["rows"]) == (60, 180)
        assert 0 < line["compute_ms"] < 60_000
        for query in ({"to": "2020-01-01"}, {"from": "2999-01-01", "to": "2999-01-02"}):
            assert not (await world.http.get("/admin/v1/usage", params=query, headers=owner)).json()["usage"]
        for query, field in (({"from": "2999-01-01"}, "from"), ({"cursor": "x"}, "cursor"), ({"from": "x"}, "from")):
            answer = await world.http.get("/admin/v1/usage", params=query, headers=owner)
            assert (answer.status_code, field in answer.json()["detail"]) == (400, True), query
        assert (await world.http.get("/admin/v1/usage", headers=headers)).status_code == 403


async def test_pages_of_usage_have_every_line_once(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path, quotas={"flush_s": 0.1}) as world:
        owner = await world.headers(await world.tenant("acme"))
        for name in ("a", "b"):
            await published_model(world, "acme", name, demo)
        for _ in range(3):
            headers = await world.headers(await world.service("acme", "invoker"))
            for name in ("a", "b"):
                assert await _statuses(world, headers, [_rows(demo)], f"/v1/models/{name}:predict") == [200]
        await asyncio.sleep(0.4)
        found, cursor = [], None
        while True:
            query = {"limit": "2"} if cursor is None else {"limit": "2", "cursor": cursor}
            page = (await world.http.get("/admin/v1/usage", params=query, headers=owner)).json()
            found += [(line["subject"], line["model"]) for line in page["usage"]]
            cursor = page.get("next_cursor")
            if cursor is None:
                break
        assert len(found) == len(set(found)) == 6
