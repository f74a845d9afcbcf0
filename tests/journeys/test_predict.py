"""From an uploaded file to an answer, through both doors, on both databases."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.gateways import World, running_gateway
from builders.models import DemoModel, published_model

pytestmark = pytest.mark.anyio

V1 = "/v1/models/bc:predict"
V2 = "/v2/models/bc/infer"


def _infer(rows: list[list[float]], **changes: Any) -> dict[str, Any]:
    tensor = {"name": "measurements", "shape": [len(rows), 30], "datatype": "FP32", "data": rows}
    return {"inputs": [{**tensor, **changes}]}


async def test_an_uploaded_model_answers_as_it_did_when_it_was_trained(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo, is_converted_anew=True)
        headers = await world.headers(await world.service("acme", "invoker"))
        row = list(demo.seed.example)
        answer = await world.http.post(V1, json={"instances": [row, row]}, headers=headers)
        assert answer.status_code == 200
        assert np.allclose(answer.json()["predictions"], [[demo.seed.expected]] * 2, rtol=1e-5)
        answer = await world.http.post(V2, json={"id": "7", **_infer([row])}, headers=headers)
        body = answer.json()
        assert (body["model_name"], body["model_version"], body["id"]) == ("bc", "1", "7")
        assert math.isclose(body["outputs"][0]["data"][0], demo.seed.expected, rel_tol=1e-5)
        for named in ("/versions/1", ""):
            answer = await world.http.post(f"/v1/models/bc{named}:predict", json={"inputs": [row]}, headers=headers)
            assert set(answer.json()) == {"outputs"}


async def _world_with_model(world: World, demo: DemoModel) -> dict[str, str]:
    await world.tenant("acme")
    await published_model(world, "acme", "bc", demo)
    return await world.headers(await world.service("acme", "invoker"))


async def test_every_malformed_body_gets_the_doors_own_error_that_names_the_field(
    tmp_path: Path, demo: DemoModel
) -> None:
    row = list(demo.seed.example)
    text = ["x", *row[1:]]
    cases: list[tuple[str, Any, int, str]] = [
        (V1, b"", 400, "JSON"),
        (V1, b"{", 400, "JSON"),
        (V1, b"[1]", 400, ""),
        (V1, {}, 400, "instances"),
        (V1, {"instances": []}, 400, "instances"),
        (V1, {"instances": [row[:29]]}, 400, "measurements"),
        (V1, {"instances": [row, row[:29]]}, 400, "29"),
        (V1, {"instances": [text]}, 400, "instances"),
        (V1, {"instances": [[True, *row[1:]]]}, 400, "instances"),
        (V1, {"instances": [[None, *row[1:]]]}, 400, "instances"),
        (V1, {"instances": [row], "inputs": [row]}, 400, "instances"),
        (V1, {"instances": [{"wrong": row}]}, 400, "wrong"),
        (V1, {"instances": [row], "signature_name": "other"}, 400, "other"),
        (V2, b"", 400, ""),
        (V2, b"nonsense", 400, ""),
        (V2, {}, 400, "inputs"),
        (V2, _infer([row], name="wrong"), 400, "wrong"),
        (V2, _infer([row], datatype="INT32"), 400, "measurements"),
        (V2, _infer([row], datatype="FP99"), 400, "measurements"),
        (V2, _infer([row], shape=[1, 29]), 400, "measurements"),
        (V2, _infer([row], shape=[-1, 30]), 400, "measurements"),
        (V2, _infer([text]), 400, "measurements"),
        (
            V2,
            b'{"inputs":[{"name":"measurements","shape":[1,30],"datatype":"FP32","data":[NaN]}]}',
            400,
            "measurements",
        ),
        (V2, {**_infer([row]), "outputs": [{"name": "nope"}]}, 400, "nope"),
    ]
    async with running_gateway(tmp_path) as world:
        headers = await _world_with_model(world, demo)
        for path, body, status, named in cases:
            sent = {"content": body} if isinstance(body, bytes) else {"json": body}
            answer = await world.http.post(path, headers=headers, **sent)
            case = f"{path} {str(body)[:80]} -> {answer.text}"
            assert answer.status_code == status, case
            assert named in answer.json()["error"], case
            assert answer.json()["request_id"] == answer.headers["x-request-id"], case
            assert answer.headers["content-type"] == "application/json", case


async def test_unknown_models_versions_and_labels_get_each_doors_own_words(tmp_path: Path, demo: DemoModel) -> None:
    cases = [
        ("/v1/models/none:predict", 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/bc/versions/9:predict", 404, "Servable not found for request: Specific(bc, 9)"),
        ("/v1/models/bc/labels/none:predict", 400, "Unrecognized servable version label: none"),
        ("/v1/models/bc/versions/x:predict", 400, "Malformed request: POST /v1/models/bc/versions/x:predict"),
        ("/v2/models/none/infer", 404, "Request for unknown model: 'none' is not found"),
        ("/v2/models/bc/versions/9/infer", 404, "Request for unknown model: 'bc' version 9 is not found"),
        ("/v2/models/bc/labels/none/infer", 404, "Request for unknown model: 'bc' label none is not found"),
    ]
    async with running_gateway(tmp_path) as world:
        headers = await _world_with_model(world, demo)
        for path, status, sentence in cases:
            answer = await world.http.post(path, headers=headers, json={})
            assert (answer.status_code, answer.json()["error"]) == (status, sentence), path


async def test_nan_passes_through_the_tf_serving_door_as_a_token(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        headers = await _world_with_model(world, demo)
        row = ["NaN", *map(str, demo.seed.example[1:])]
        body = f'{{"instances": [[{", ".join(row)}]]}}'
        answer = await world.http.post(V1, headers=headers, content=body)
        assert (answer.status_code, answer.text) == (200, '{"predictions":[[NaN]]}')


async def test_status_and_metadata_answer_as_the_protocols_say(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        headers = await _world_with_model(world, demo)

        async def get(path: str) -> Any:
            return (await world.http.get(path, headers=headers)).json()

        status = (await get("/v1/models/bc"))["model_version_status"]
        assert status == [{"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}]
        signature = (await get("/v1/models/bc/metadata"))["metadata"]["signature_def"]["signature_def"]
        measured = signature["serving_default"]["inputs"]["measurements"]
        assert measured["dtype"] == "DT_FLOAT"
        assert [dim["size"] for dim in measured["tensor_shape"]["dim"]] == ["-1", "30"]
        assert (await get("/v2/models/bc"))["inputs"] == [
            {"name": "measurements", "datatype": "FP32", "shape": [-1, 30]}
        ]
        assert await get("/v2/models/bc/ready") == {"name": "bc", "ready": True}
        assert await get("/v1/models") == {"models": ["bc"]}


async def test_health_needs_no_token_and_says_nothing_of_models(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        for name, body in (("live", {"live": True}), ("ready", {"ready": True, "live": True})):
            answer = await world.http.get(f"/v2/health/{name}")
            assert (answer.status_code, answer.json()) == (200, body)


async def test_a_full_queue_is_answered_503_with_retry_after(tmp_path: Path, demo: DemoModel) -> None:
    import asyncio

    async with running_gateway(tmp_path, inference={"max_queue": 1}) as world:
        headers = await _world_with_model(world, demo)
        body = {"instances": [list(demo.seed.example)]}
        answers = await asyncio.gather(*(world.http.post(V1, json=body, headers=headers) for _ in range(60)))
        refused = [answer for answer in answers if answer.status_code != 200]
        assert refused
        for answer in refused:
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1


async def test_a_body_over_the_bound_is_413_at_both_doors(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path, http={"max_body_bytes": 1_024}) as world:
        headers = await _world_with_model(world, demo)
        for path in (V1, V2):
            answer = await world.http.post(path, content=b" " * 2_000, headers=headers)
            assert answer.status_code == 413
            assert "1024" in answer.json()["error"]
