"""KServe's own client over REST, v1 and v2, against a running gateway; run by a Python of its own, prints one line of JSON.

python kserve_rest.py URL   with the token in the variable TOKEN, rows as JSON on standard input
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable
from typing import Any

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

TEXTS = ["", "grün \N{GRINNING FACE}"]


async def _refused(asked: Awaitable[Any]) -> tuple[int, str]:
    try:
        await asked
    except httpx.HTTPStatusError as error:
        return error.response.status_code, str(error)
    raise AssertionError("it was not refused")


async def told_v1(url: str, headers: dict[str, str], rows: np.ndarray) -> dict[str, Any]:
    """Return what the client finds out over v1."""
    async with InferenceRESTClient(RESTConfig(protocol="v1", timeout=20)) as client:
        data = {"instances": rows.tolist()}
        return {
            "live": await client.is_server_live(url),
            "model_ready": await client.is_model_ready(url, "bc", headers=headers),
            "scores": await client.infer(url, data, model_name="bc", headers=headers),
            "texts": await client.infer(url, {"instances": [TEXTS]}, model_name="texts", headers=headers),
            "unknown": await _refused(client.infer(url, data, model_name="nope", headers=headers)),
            "bad": await _refused(client.infer(url, {"instances": [["x"] * 30]}, model_name="bc", headers=headers)),
            "nobody": await _refused(client.infer(url, data, model_name="bc")),
        }


async def told_v2(url: str, headers: dict[str, str], rows: np.ndarray) -> dict[str, Any]:
    """Return what the client finds out over v2, with raw bytes and with JSON."""
    found: dict[str, Any] = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=20)) as client:
        found["live"] = await client.is_server_live(url)
        found["ready"] = await client.is_server_ready(url)
        found["model_ready"] = [await client.is_model_ready(url, name, headers=headers) for name in ("bc", "nope")]
        for is_binary in (True, False):
            tensor = InferInput("measurements", list(rows.shape), "FP32")
            tensor.set_data_from_numpy(rows, binary_data=is_binary)
            asked = InferRequest("bc", [tensor], request_id="7", parameters={"binary_data_output": is_binary})
            answer = await client.infer(url, asked, model_name="bc", headers=dict(headers))
            output = answer.outputs[0]
            found[f"scores {is_binary}"] = [answer.id, output.datatype, output.as_numpy().tolist()]
            texts = InferInput("IN_BYTES", [1, 2], "BYTES")
            texts.set_data_from_numpy(np.array([TEXTS], np.object_), binary_data=is_binary)
            asked = InferRequest("texts", [texts], parameters={"binary_data_output": is_binary})
            answer = await client.infer(url, asked, model_name="texts", headers=dict(headers))
            given = answer.outputs[0].as_numpy().ravel().tolist()
            found[f"texts {is_binary}"] = [each.decode() if isinstance(each, bytes) else each for each in given]
        short = InferInput("measurements", [1, 7], "FP32")
        short.set_data_from_numpy(rows[:1, :7], binary_data=True)
        found["bad"] = await _refused(
            client.infer(url, InferRequest("bc", [short]), model_name="bc", headers=dict(headers))
        )
        asked = InferRequest("nope", [tensor])
        found["unknown"] = await _refused(client.infer(url, asked, model_name="nope", headers=dict(headers)))
    return found


async def _told(url: str, token: str, rows: np.ndarray) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {token}"}
    return {"v1": await told_v1(url, headers, rows), "v2": await told_v2(url, headers, rows)}


if __name__ == "__main__":
    sent = np.array(json.load(sys.stdin), np.float32)
    print(json.dumps(asyncio.run(_told(sys.argv[1], os.environ["TOKEN"], sent))))  # noqa: T201  what the test reads
