"""Triton's own client over HTTP, against a running gateway; run by a Python of its own, prints one line of JSON.

python triton_http.py HOST:PORT   with tokens in the variables TOKEN and PUBLISHER, rows as JSON on standard input
"""

import asyncio
import json
import os
import sys
from typing import Any

import numpy as np
import tritonclient.http as client
from triton_refusals import refused
from tritonclient.http import aio
from tritonclient.http.auth import BasicAuth
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

ECHOED: dict[str, list[Any]] = {
    "BOOL": [True, False],
    "UINT8": [0, 2**8 - 1],
    "UINT16": [0, 2**16 - 1],
    "UINT32": [0, 2**32 - 1],
    "UINT64": [0, 2**64 - 1],
    "INT8": [-(2**7), 2**7 - 1],
    "INT16": [-(2**15), 2**15 - 1],
    "INT32": [-(2**31), 2**31 - 1],
    "INT64": [-(2**63), 2**63 - 1],
    "FP16": [0.5, -65504.0],
    "FP32": [0.1, -3.4028235e38],
    "FP64": [0.1, 5e-324],
    "BYTES": ["", "grün \N{GRINNING FACE}"],
}
"""One row by datatype: what lies at the ends of its range."""
COMPRESSIONS = ((None, None), ("gzip", None), ("deflate", None), (None, "gzip"), (None, "deflate"), ("gzip", "gzip"))


def _input(rows: np.ndarray, *, is_binary: bool = True) -> Any:
    tensor = client.InferInput("measurements", list(rows.shape), "FP32")
    tensor.set_data_from_numpy(rows, binary_data=is_binary)
    return tensor


def _echo(datatype: str, *, is_binary: bool, row: list[Any] | None = None) -> Any:
    dtype = triton_to_np_dtype(datatype)
    values = [ECHOED[datatype] if row is None else row] * 2
    array = np.array(values, dtype=np.object_ if datatype == "BYTES" else dtype)
    tensor = client.InferInput(f"IN_{datatype}", [2, 2], datatype)
    tensor.set_data_from_numpy(array, binary_data=is_binary)
    return tensor


def _echoed(server: Any, *, is_binary: bool) -> dict[str, list[Any]]:
    """Send every datatype at once; what has no form in JSON goes as raw bytes."""
    forms = {name: is_binary or name == "FP16" for name in ECHOED}
    inputs = [_echo(name, is_binary=form) for name, form in forms.items()]
    wanted = [client.InferRequestedOutput(f"OUT_{name}", binary_data=form) for name, form in forms.items()]
    answer = server.infer("echo", inputs, outputs=wanted)
    found = {}
    for name in ECHOED:
        array = answer.as_numpy(f"OUT_{name}")
        rows = [[each.decode() if isinstance(each, bytes) else each for each in row] for row in array.tolist()]
        found[name] = [str(array.dtype), rows]
    return found


def _counts(server: Any) -> list[int]:
    (told,) = server.get_inference_statistics("bc")["model_stats"]
    stages = ("success", "compute_input", "compute_infer", "compute_output")
    return [told["inference_count"], *(told["inference_stats"][stage]["count"] for stage in stages)]


def _refusals(address: str, server: Any, rows: np.ndarray) -> dict[str, tuple[str, str]]:
    other = client.InferInput("other", list(rows.shape), "FP32")
    other.set_data_from_numpy(rows)
    double = client.InferInput("measurements", list(rows.shape), "FP64")
    double.set_data_from_numpy(rows.astype(np.float64))
    raw = [_echo(name, is_binary=True) for name in ECHOED if name != "BYTES"]
    not_text = _echo("BYTES", is_binary=True, row=[b"\xff", b""])
    half = [client.InferRequestedOutput("OUT_FP16", binary_data=False)]
    cases = {
        "unknown model": lambda: server.infer("nope", [_input(rows)]),
        "unknown version": lambda: server.infer("bc", [_input(rows)], model_version="9"),
        "shape": lambda: server.infer("bc", [_input(rows[:, :7])]),
        "input": lambda: server.infer("bc", [other]),
        "datatype": lambda: server.infer("bc", [double]),
        "output": lambda: server.infer("bc", [_input(rows)], outputs=[client.InferRequestedOutput("other")]),
        "no text": lambda: server.infer("echo", [*raw, not_text]),
        "FP16 as JSON": lambda: server.infer("echo", [*raw, _echo("BYTES", is_binary=True)], outputs=half),
        "reserved parameter": lambda: server.infer("bc", [_input(rows)], parameters={"triton_x": 1}),
        "load": lambda: server.load_model("bc"),
        "shared memory": server.get_system_shared_memory_status,
    }
    found = {name: refused(ask) for name, ask in cases.items()}
    with client.InferenceServerClient(address) as nobody:
        found["nobody"] = refused(lambda: nobody.infer("bc", [_input(rows)]))
    return found


def told(address: str, token: str, rows: np.ndarray) -> dict[str, Any]:
    """Return what the blocking client finds out, its token carried by its own plugin."""
    with client.InferenceServerClient(address, concurrency=4) as server:
        found: dict[str, Any] = {"live": server.is_server_live(), "ready": server.is_server_ready()}
        server.register_plugin(BasicAuth("anybody", token))
        found["model_ready"] = [
            server.is_model_ready("bc"),
            server.is_model_ready("bc", "1"),
            server.is_model_ready("x"),
        ]
        found["server"] = server.get_server_metadata()
        found["metadata"] = server.get_model_metadata("bc")
        found["config"] = server.get_model_config("bc")
        found["index"] = server.get_model_repository_index()
        name = found["metadata"]["outputs"][0]["name"]
        before = _counts(server)
        for is_binary in (True, False):
            wanted = [client.InferRequestedOutput(name, binary_data=is_binary)]
            answer = server.infer("bc", [_input(rows, is_binary=is_binary)], outputs=wanted, request_id="7", priority=1)
            scores = answer.as_numpy(name)
            found[f"scores {is_binary}"] = [answer.get_response()["id"], str(scores.dtype), scores.tolist()]
            found[f"echo {is_binary}"] = _echoed(server, is_binary=is_binary)
        found["compressed"] = [
            server.infer("bc", [_input(rows)], request_compression_algorithm=sent, response_compression_algorithm=back)
            .as_numpy(name)
            .tolist()
            for sent, back in COMPRESSIONS
        ]
        best = [client.InferRequestedOutput(name, class_count=1)]
        found["classes"] = [row[0].decode() for row in server.infer("bc", [_input(rows)], outputs=best).as_numpy(name)]
        waiting = [server.async_infer("bc", [_input(rows)], timeout=5_000_000) for _ in range(8)]
        found["async"] = [each.get_result().as_numpy(name).tolist() for each in waiting]
        found["counted"] = [now - then for now, then in zip(_counts(server), before, strict=True)]
        found["refused"] = _refusals(address, server, rows)
    return found


def told_of_repository(address: str, token: str) -> dict[str, Any]:
    """Return what comes of loading and unloading a model of two versions, the second of which has never served."""
    with client.InferenceServerClient(address) as server:
        server.register_plugin(BasicAuth("anybody", token))
        steps = [server.is_model_ready("cycled", "2")]
        server.load_model("cycled")
        steps.append(server.is_model_ready("cycled", "2"))
        server.unload_model("cycled")
        steps.append(server.is_model_ready("cycled"))
        config = refused(lambda: server.load_model("cycled", config="{}"))
        files = refused(lambda: server.load_model("cycled", config="{}", files={"file:1/model.onnx": b"x"}))
        unknown = refused(lambda: server.unload_model("nope"))
        rows = [row for row in server.get_model_repository_index() if row["name"] == "cycled"]
        return {"steps": steps, "config": config, "files": files, "unknown": unknown, "rows": rows}


async def told_async(address: str, token: str, rows: np.ndarray) -> dict[str, Any]:
    """Return what the asynchronous client finds out."""
    headers = {"authorization": f"Bearer {token}"}
    async with aio.InferenceServerClient(address) as server:
        live = await server.is_server_live()
        metadata = await server.get_model_metadata("bc", headers=headers)
        name = metadata["outputs"][0]["name"]
        answers = await asyncio.gather(*(server.infer("bc", [_input(rows)], headers=headers) for _ in range(8)))
        packed = await server.infer(
            "bc",
            [_input(rows)],
            headers=headers,
            request_compression_algorithm="gzip",
            response_compression_algorithm="deflate",
        )
        try:
            await server.infer("nope", [_input(rows)], headers=headers)
        except InferenceServerException as error:
            refused = [str(error.status()), error.message()]
        scores = [answer.as_numpy(name).tolist() for answer in (*answers, packed)]
        return {"live": live, "scores": scores, "refused": refused}


if __name__ == "__main__":
    where = sys.argv[1]
    sent_ = np.array(json.load(sys.stdin), np.float32)
    found_ = told(where, os.environ["TOKEN"], sent_)
    found_["aio"] = asyncio.run(told_async(where, os.environ["TOKEN"], sent_))
    found_["repository"] = told_of_repository(where, os.environ["PUBLISHER"])
    print(json.dumps(found_))  # noqa: T201  what the test reads
