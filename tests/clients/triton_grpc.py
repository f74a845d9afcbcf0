"""Triton's own client over gRPC, against a running gateway; run by a Python of its own, prints one line of JSON.

python triton_grpc.py HOST:PORT MODEL   with the token in the variable TOKEN, rows as JSON on standard input
"""

import asyncio
import json
import os
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as client
from triton_refusals import refused
from tritonclient.grpc import aio
from tritonclient.grpc.auth import BasicAuth
from tritonclient.utils import InferenceServerException


def _input(rows: np.ndarray) -> Any:
    tensor = client.InferInput("measurements", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows)
    return tensor


def told(address: str, model: str, token: str, rows: np.ndarray) -> dict[str, Any]:
    """Return what the blocking client finds out."""
    headers = {"authorization": f"Bearer {token}"}
    with client.InferenceServerClient(address) as server:
        found: dict[str, Any] = {"live": server.is_server_live(), "ready": server.is_server_ready()}
        found["extensions"] = list(server.get_server_metadata(headers=headers).extensions)
        found["model_ready"] = server.is_model_ready(model, headers=headers)
        found["inputs"] = server.get_model_metadata(model, headers=headers, as_json=True)["inputs"]
        found["config"] = server.get_model_config(model, headers=headers, as_json=True)["config"]["max_batch_size"]
        result = server.infer(model, [_input(rows)], headers=headers, request_id="7", priority=1, timeout=5_000_000)
        name = result.get_response().outputs[0].name
        found["scores"] = result.as_numpy(name).tolist()
        found["dtype"] = str(result.as_numpy(name).dtype)
        found["id"] = result.get_response().id
        wanted = [client.InferRequestedOutput(name, class_count=1)]
        for compression in (None, "gzip", "deflate"):
            classes = server.infer(
                model, [_input(rows)], outputs=wanted, headers=headers, compression_algorithm=compression
            )
            found[f"classes {compression}"] = [row[0].decode() for row in classes.as_numpy(name)]
        stats = server.get_inference_statistics(model, headers=headers, as_json=True)["model_stats"][0]
        found["inference_count"] = int(stats["inference_count"])
        found["index"] = server.get_model_repository_index(headers=headers, as_json=True)["models"]
        found["nobody"] = refused(lambda: server.infer(model, [_input(rows)]))
        found["unknown"] = refused(lambda: server.infer("nope", [_input(rows)], headers=headers))
        found["load"] = refused(lambda: server.load_model(model, headers=headers))
        found["bad"] = refused(lambda: server.infer(model, [_input(rows[:, :7])], headers=headers))
        found["stream"] = _streamed(server, model, headers, rows, name)
    with client.InferenceServerClient(address) as server:
        server.register_plugin(BasicAuth("anybody", token))
        found["basic"] = server.infer(model, [_input(rows)]).as_numpy(name).tolist()
    return found


def _streamed(server: Any, model: str, headers: dict[str, str], rows: np.ndarray, name: str) -> list[Any]:
    answers: queue.Queue[Any] = queue.Queue()
    server.start_stream(lambda result, error: answers.put(error or result), headers=headers)
    for number in range(6):
        server.async_stream_infer(model if number != 3 else "nope", [_input(rows)], request_id=str(number))
    found = []
    for _ in range(6):
        answer = answers.get(timeout=20)
        if isinstance(answer, InferenceServerException):
            found.append(answer.message())
        else:
            found.append([answer.get_response().id, answer.as_numpy(name).tolist()])
    server.stop_stream()
    return found


async def told_async(address: str, model: str, token: str, rows: np.ndarray) -> dict[str, Any]:
    """Return what the asynchronous client finds out."""
    headers = {"authorization": f"Bearer {token}"}
    async with aio.InferenceServerClient(address) as server:
        assert await server.is_server_live()
        results = await asyncio.gather(*(server.infer(model, [_input(rows)], headers=headers) for _ in range(8)))
        name = results[0].get_response().outputs[0].name

        async def requests() -> Any:
            for number in range(3):
                yield {"model_name": model, "inputs": [_input(rows)], "request_id": str(number)}

        streamed = []
        async for result, error in server.stream_infer(requests(), headers=headers):
            assert error is None, error
            streamed.append([result.get_response().id, result.as_numpy(name).tolist()])
        return {"aio": [result.as_numpy(name).tolist() for result in results], "aio stream": streamed}


if __name__ == "__main__":
    _, where, which = sys.argv
    sent = np.array(json.load(sys.stdin), np.float32)
    answers_ = told(where, which, os.environ["TOKEN"], sent)
    answers_ |= asyncio.run(told_async(where, which, os.environ["TOKEN"], sent))
    print(json.dumps(answers_))  # noqa: T201  what the test reads
