"""A model that another tenant may invoke: what the consumer sees, what it does not, how it ends."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from builders.gateways import World, joined_gateway, running_gateway
from builders.models import DemoModel, published_model
from maas_gateway.quotas import store as quotas
from maas_gateway.quotas.quota import Quota

pytestmark = pytest.mark.anyio

V1 = "/v1/models/acme.bc:predict"
V2 = "/v2/models/acme.bc/infer"


def _rows(demo: DemoModel, n: int = 1) -> dict[str, Any]:
    return {"instances": [list(demo.seed.example)] * n}


async def _shared(world: World, demo: DemoModel, quota: dict[str, Any] | None = None) -> tuple[str, dict[str, str]]:
    """Return the id of a share of acme's model with beta, and the header of an invoker of beta."""
    await world.tenants("acme", "beta")
    await published_model(world, "acme", "bc", demo)
    body = {"model": "bc", "consumer": str(await world.tenant_id("beta")), "quota": quota or {}}
    answer = await world.http.post("/admin/v1/shares", json=body, headers=await world.headers(world.owners["acme"]))
    assert answer.status_code == 201, answer.text
    return answer.json()["id"], await world.headers(await world.service("beta", "invoker"))


async def test_a_shared_model_answers_by_its_owners_name_at_every_door(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        _, beta = await _shared(world, demo)
        acme = await world.headers(await world.service("acme", "invoker"))
        own = await world.http.post("/v1/models/bc:predict", json=_rows(demo), headers=acme)
        for path in (V1, "/v1/models/acme.bc/versions/1:predict"):
            shared = await world.http.post(path, json=_rows(demo), headers=beta)
            assert (shared.status_code, shared.content) == (200, own.content)
        tensor = {"name": "measurements", "shape": [1, 30], "datatype": "FP32", "data": list(demo.seed.example)}
        answer = await world.http.post(V2, json={"inputs": [tensor]}, headers=beta)
        assert (answer.status_code, answer.json()["model_name"]) == (200, "acme.bc")
        for path in (
            "/v1/models/acme.bc",
            "/v1/models/acme.bc/metadata",
            "/v2/models/acme.bc",
            "/v2/models/acme.bc/ready",
        ):
            assert (await world.http.get(path, headers=beta)).status_code == 200, path
        assert (await world.http.get("/v2/models/acme.bc", headers=beta)).json()["name"] == "acme.bc"
        listed = await world.http.get("/v1/models", headers=beta)
        assert "acme.bc" in listed.text


async def test_a_share_gives_nothing_but_invoking(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await _shared(world, demo)
        owner = await world.headers(world.owners["beta"])
        for method, path in (
            ("GET", "/admin/v1/models/acme.bc"),
            ("GET", "/admin/v1/models/acme.bc/versions/1"),
            ("POST", "/admin/v1/models/acme.bc/versions/1:retire"),
            ("POST", "/admin/v1/models/acme.bc:erase"),
            ("DELETE", "/admin/v1/models/acme.bc/labels/stable"),
            ("GET", "/v1/models/bc"),
            ("POST", "/v1/models/beta.bc:predict"),
            ("POST", "/v1/models/acme.other:predict"),
            ("POST", "/v1/models/acme.bc.bc:predict"),
            ("POST", "/v1/models/.bc:predict"),
            ("POST", "/v1/models/platform.bc:predict"),
        ):
            assert (await world.http.request(method, path, headers=owner)).status_code == 404, (method, path)
        await world.tenant("gamma")
        stranger = await world.headers(await world.service("gamma", "invoker"))
        answers = [
            await world.http.post(path, json=_rows(demo), headers=stranger)
            for path in (V1, "/v1/models/nobody.bc:predict", "/v1/models/acme.xx:predict")
        ]
        assert [answer.status_code for answer in answers] == [404] * 3
        texts = {
            answer.json()["error"].replace("nobody.bc", "acme.bc").replace("acme.xx", "acme.bc") for answer in answers
        }
        assert len(texts) == 1


async def test_who_cannot_predict_with_a_model_cannot_share_it(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        share_id, beta = await _shared(world, demo)
        owner = await world.headers(world.owners["acme"])
        body = {"name": "shares", "permissions": ["share:read", "share:write"]}
        key = (await world.http.post("/admin/v1/api-keys", json=body, headers=owner)).json()["api_key"]
        narrow = {"x-api-key": key}
        await world.tenant("gamma")
        for model in ("bc", "nothing"):
            body = {"model": model, "consumer": str(await world.tenant_id("gamma"))}
            answer = await world.http.post("/admin/v1/shares", json=body, headers=narrow)
            assert (answer.status_code, answer.json()["detail"]) == (404, f"model '{model}' not found")
        share = f"/admin/v1/shares/{share_id}"
        assert (await world.http.patch(share, json={"enabled": False}, headers=narrow)).status_code == 200
        assert (await world.http.patch(share, json={"enabled": True}, headers=narrow)).status_code == 404
        assert (await world.http.post(V1, json=_rows(demo), headers=beta)).status_code == 404
        assert (await world.http.patch(share, json={"enabled": True}, headers=owner)).status_code == 200
        assert (await world.http.post(V1, json=_rows(demo), headers=beta)).status_code == 200


async def test_which_of_its_principals_use_it_the_consumer_decides(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await _shared(world, demo)
        bound = await world.headers(await world.service("beta", invoker="acme.bc"))
        elsewhere = await world.headers(await world.service("beta", invoker="acme.other"))
        auditor = await world.headers(await world.service("beta", "auditor"))
        statuses = [
            (await world.http.post(V1, json=_rows(demo), headers=headers)).status_code
            for headers in (bound, elsewhere, auditor, await world.headers(world.operator))
        ]
        assert statuses == [200, 404, 403, 404]
        assert (await world.http.post("/v1/models/bc:predict", json=_rows(demo), headers=bound)).status_code == 404


async def test_a_share_has_a_quota_for_the_whole_tenant(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        share, beta = await _shared(world, demo, {"requests": {"amount": 3, "window_s": 3600}, "lifetime_rows": 6})
        other = await world.headers(await world.service("beta", "invoker"))
        acme = await world.headers(await world.service("acme", "invoker"))
        statuses = [
            (await world.http.post(V1, json=_rows(demo, n), headers=headers)).status_code
            for headers, n in ((beta, 4), (other, 2), (beta, 1), (other, 1))
        ]
        assert statuses == [200, 200, 429, 429]  # the budget, then the rate
        own = await world.http.post("/v1/models/bc:predict", json=_rows(demo, 40), headers=acme)
        assert own.status_code == 200
        owner = await world.headers(world.owners["acme"])
        change = {"quota": {"lifetime_rows": 8}}
        changed = await world.http.patch(f"/admin/v1/shares/{share}", json=change, headers=owner)
        assert changed.json()["quota"]["requests"] is None
        statuses = [(await world.http.post(V1, json=_rows(demo, n), headers=beta)).status_code for n in (3, 2, 1)]
        assert statuses == [429, 200, 429]


async def test_an_ended_share_is_a_model_that_is_not_there_in_every_process_within_a_second(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path) as world, joined_gateway(world) as other:
        share, beta = await _shared(world, demo)
        owner, operator = await world.headers(world.owners["acme"]), await world.headers(world.operator)

        async def settles(status: int) -> None:
            ends_at = time.monotonic() + 1
            for place in (world, other):
                while (answer := await place.http.post(V1, json=_rows(demo), headers=beta)).status_code != status:
                    assert time.monotonic() < ends_at, answer.text
                    await asyncio.sleep(0.05)

        address = f"/admin/v1/shares/{share}"
        await settles(200)
        assert (await world.http.patch(address, json={"enabled": False}, headers=owner)).status_code == 200
        await settles(404)
        assert (await world.http.patch(address, json={"enabled": True}, headers=owner)).status_code == 200
        await settles(200)
        assert (await world.http.post("/admin/v1/tenants/acme:suspend", headers=operator)).status_code == 200
        await settles(404)
        assert (await world.http.post("/admin/v1/tenants/acme:resume", headers=operator)).status_code == 200
        await settles(200)
        assert (await world.http.delete(address, headers=owner)).status_code == 204
        await settles(404)
        assert "acme.bc" not in (await world.http.get("/v1/models", headers=beta)).text


async def test_the_owner_reads_what_was_used_and_the_consumer_too(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path, quotas={"flush_s": 0.1}) as world:
        _, beta = await _shared(world, demo)
        for n in (2, 3):
            assert (await world.http.post(V1, json=_rows(demo, n), headers=beta)).status_code == 200
        await asyncio.sleep(0.4)
        acme, consumer = await world.headers(world.owners["acme"]), await world.headers(world.owners["beta"])
        (line,) = (await world.http.get("/admin/v1/usage/shares", headers=acme)).json()["usage"]
        assert (line["consumer"], line["model"]) == (str(await world.tenant_id("beta")), "bc")
        assert (line["requests"], line["rows"]) == (2, 5)
        assert not (await world.http.get("/admin/v1/usage", headers=acme)).json()["usage"]
        (line,) = (await world.http.get("/admin/v1/usage", headers=consumer)).json()["usage"]
        assert (line["model"], line["requests"], line["rows"]) == ("acme.bc", 2, 5)
        assert not (await world.http.get("/admin/v1/usage/shares", headers=consumer)).json()["usage"]


async def test_shares_go_with_their_model_and_with_either_tenant(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await _shared(world, demo)
        owner = await world.headers(world.owners["acme"])
        erased = await world.http.post("/admin/v1/tenants/beta:erase", headers=await world.headers(world.operator))
        assert erased.status_code in {200, 202}, erased.text
        assert not (await world.http.get("/admin/v1/shares", headers=owner)).json()["shares"]
        assert await _quotas_of_shares(world) == {}
        gamma = await world.tenant("gamma")
        body = {"model": "bc", "consumer": str(await world.tenant_id("gamma"))}
        assert (await world.http.post("/admin/v1/shares", json=body, headers=owner)).status_code == 201
        assert (await world.http.post("/admin/v1/models/bc:erase", headers=owner)).status_code in {200, 202}
        assert not (await world.http.get("/admin/v1/shares", headers=owner)).json()["shares"]
        assert await _quotas_of_shares(world) == {}
        answer = await world.http.post(V1, json=_rows(demo), headers=await world.headers(gamma))
        assert answer.status_code == 404


async def _quotas_of_shares(world: World) -> Mapping[UUID, Quota]:
    async with world.gateway.shares._acting.database.read(await world.tenant_id("acme")) as session:
        return await quotas.of_shares(session)


async def test_a_wrong_share_is_refused_by_the_name_of_its_field(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenants("acme", "beta")
        await published_model(world, "acme", "bc", demo)
        owner, beta = await world.headers(world.owners["acme"]), str(await world.tenant_id("beta"))
        own = str(await world.tenant_id("acme"))
        for body, field in (
            ({"model": "bc"}, "consumer"),
            ({"consumer": beta}, "model"),
            ({"model": "none", "consumer": beta}, "model"),
            ({"model": "beta.bc", "consumer": beta}, "model"),
            ({"model": "bc", "consumer": own}, "consumer"),
            ({"model": "bc", "consumer": "00000000-0000-0000-0000-000000000000"}, "consumer"),
            ({"model": "bc", "consumer": "7d1c24a3-47e0-4a4e-9d0b-0d8c7b4d0c11"}, "consumer"),
            ({"model": "bc", "consumer": "beta"}, "consumer"),
            ({"model": "bc", "consumer": beta, "quota": {"weight": 2}}, "weight"),
            ({"model": "bc", "consumer": beta, "tenant_id": beta}, "tenant_id"),
        ):
            answer = await world.http.post("/admin/v1/shares", json=body, headers=owner)
            assert answer.status_code == 400, (body, answer.text)
            assert field in answer.json()["detail"], (body, answer.text)
        body = {"model": "bc", "consumer": beta}
        assert (await world.http.post("/admin/v1/shares", json=body, headers=owner)).status_code == 201
        assert (await world.http.post("/admin/v1/shares", json=body, headers=owner)).status_code == 409
        publisher = await world.headers(await world.service("acme", "publisher"))
        assert (await world.http.post("/admin/v1/shares", json=body, headers=publisher)).status_code == 403
