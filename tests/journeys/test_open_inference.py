"""The Open Inference Protocol's extensions through the door: raw bytes, classes, statistics, configuration."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from builders.gateways import World, running_gateway
from builders.models import DemoModel, published_model
from maas_gateway.client import AsyncClient, ClientCredentials, GatewayRefused
from maas_gateway.client.failure import NotAccepted, NotThere

pytestmark = pytest.mark.anyio

MODEL = "/v2/models/bc"
LENGTH = "inference-header-content-length"


async def _invoker(world: World, demo: DemoModel) -> dict[str, str]:
    await world.tenant("acme")
    await published_model(world, "acme", "bc", demo)
    return await world.headers(await world.service("acme", "invoker"))


def _binary(demo: DemoModel, n_rows: int = 2, **fields: Any) -> tuple[dict[str, str], bytes]:
    """Return a request whose one input is raw bytes, and its header."""
    raw = np.array([demo.seed.example] * n_rows, dtype="<f4").tobytes()
    tensor = {"name": "measurements", "shape": [n_rows, 30], "datatype": "FP32"}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}], **fields}).encode()
    return {LENGTH: str(len(head))}, head + raw


@pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
async def test_raw_bytes_go_in_and_come_out_whatever_the_body_calls_itself(
    tmp_path: Path, demo: DemoModel, encoding: str
) -> None:
    async with running_gateway(tmp_path) as world:
        headers = await _invoker(world, demo)
        length, body = _binary(demo, parameters={"binary_data_output": True})
        packed = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding](body)
        sent = {**headers, **length, "content-encoding": encoding, "content-type": "application/json"}
        answer = await world.http.post(f"{MODEL}/infer", content=packed, headers=sent)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/octet-stream"
        n_json = int(answer.headers[LENGTH])
        (output,) = json.loads(answer.content[:n_json])["outputs"]
        assert (output["shape"], output["parameters"]) == ([2, 1], {"binary_data_size": 8})
        scores = np.frombuffer(answer.content[n_json:], "<f4")
        assert np.allclose(scores, demo.seed.expected, rtol=1e-5)


async def test_body_that_is_nothing_but_one_row_is_answered_in_raw_bytes(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        headers = await _invoker(world, demo)
        raw = np.array(demo.seed.example, dtype="<f4").tobytes()
        answer = await world.http.post(f"{MODEL}/infer", content=raw, headers={**headers, LENGTH: "0"})
        n_json = int(answer.headers[LENGTH])
        assert np.isclose(np.frombuffer(answer.content[n_json:], "<f4"), demo.seed.expected, rtol=1e-5)


async def test_body_that_inflates_beyond_the_bound_is_refused(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path, http={"max_body_bytes": 100_000}) as world:
        headers = await _invoker(world, demo)
        bomb = gzip.compress(bytes(50_000_000))
        assert len(bomb) < 100_000
        sent = {**headers, LENGTH: "10", "content-encoding": "gzip"}
        answer = await world.http.post(f"{MODEL}/infer", content=bomb, headers=sent)
        assert (answer.status_code, "inflated" in answer.json()["error"]) == (413, True)


async def test_a_request_is_given_up_at_its_own_timeout(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        headers = await _invoker(world, demo)
        row = {"name": "measurements", "shape": [1, 30], "datatype": "FP32", "data": list(demo.seed.example)}
        for timeout_us, status in ((1, 504), (60_000_000, 200), (2**64 - 1, 200)):
            body = {"inputs": [row], "parameters": {"timeout": timeout_us, "priority": 1}}
            answer = await world.http.post(f"{MODEL}/infer", json=body, headers=headers)
            assert answer.status_code == status, answer.text


async def test_statistics_and_configuration_tell_what_ran(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path, inference={"max_batch_rows": 16, "max_queue": 7}) as world:
        headers = await _invoker(world, demo)
        (before,) = (await world.http.get(f"{MODEL}/stats", headers=headers)).json()["model_stats"]
        assert (before["version"], before["inference_count"], before["last_inference"]) == ("1", 0, 0)
        for n_rows in (1, 3, 3):
            length, body = _binary(demo, n_rows)
            await world.http.post(f"{MODEL}/infer", content=body, headers={**headers, **length})
        for path in (f"{MODEL}/stats", f"{MODEL}/versions/1/stats", "/v2/models/stats"):
            (told,) = (await world.http.get(path, headers=headers)).json()["model_stats"]
            assert (told["name"], told["inference_count"], told["execution_count"]) == ("bc", 7, 3)
            assert [(batch["batch_size"], batch["compute_infer"]["count"]) for batch in told["batch_stats"]] == [
                (1, 1),
                (3, 2),
            ]
            stats = told["inference_stats"]
            assert stats["success"]["count"] == stats["queue"]["count"] == stats["compute_infer"]["count"] == 3
            assert stats["success"]["ns"] >= stats["queue"]["ns"] + stats["compute_infer"]["ns"] > 0
            assert told["last_inference"] > 1_700_000_000_000
        told = (await world.http.get(f"{MODEL}/config", headers=headers)).json()
        assert (told["max_batch_size"], told["dynamic_batching"]["default_queue_policy"]["max_queue_size"]) == (16, 7)
        assert told["input"] == [{"name": "measurements", "data_type": "TYPE_FP32", "dims": [30]}]
        assert (await world.http.get("/v2/models", headers=headers)).json() == {"models": ["bc"]}


async def test_statistics_of_a_shared_model_are_its_owners(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        await world.tenant("globex")
        mine = await world.headers(await world.service("globex", "invoker"))
        share = {"model": "bc", "consumer": str(await world.tenant_id("globex")), "quota": {}}
        answer = await world.http.post("/admin/v1/shares", json=share, headers=await world.headers(owner))
        assert answer.status_code == 201, answer.text
        for path, status in (("/config", 200), ("/stats", 400), ("/versions/1/stats", 400)):
            answer = await world.http.get(f"/v2/models/acme.bc{path}", headers=mine)
            assert answer.status_code == status, answer.text
        assert (await world.http.get("/v2/models/stats", headers=mine)).json() == {"model_stats": []}


async def test_the_projects_own_client_runs_a_model_and_renews_its_token(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path, tokens={"life_s": 60}) as world:
        owner = await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        invoker = await world.service("acme", "invoker")
        who = ClientCredentials(invoker.name, invoker.secret)
        rows = np.array([demo.seed.example] * 3, dtype=np.float32)
        transport = httpx.ASGITransport(app=world.app)
        async with AsyncClient("http://gateway", who, transport=transport) as client:
            answer = await client.infer("bc", {"measurements": rows}, version=1)
            (scores,) = answer.outputs.values()
            assert np.allclose(scores, demo.seed.expected, rtol=1e-5)
            assert (scores.shape, scores.dtype, answer.version) == ((3, 1), np.float32, "1")
            assert await client.models() == ["bc"]
            assert await client.is_ready("bc")
            assert (await client.metadata("bc"))["inputs"][0]["name"] == "measurements"
            with pytest.raises(NotAccepted, match="expected FP32 and got FP64"):
                await client.infer("bc", {"measurements": rows.astype(np.float64)})
            with pytest.raises(NotThere, match="unknown model: 'bd'"):
                await client.infer("bd", {"measurements": rows})
            body = {"enabled": False}
            path = f"/admin/v1/service-accounts/{invoker.subject}"
            assert (await world.http.patch(path, json=body, headers=await world.headers(owner))).is_success
            with pytest.raises(GatewayRefused) as caught:
                await client.infer("bc", {"measurements": rows})
            assert caught.value.status in {400, 401}
