"""KServe's own client over gRPC, against a running gateway; run by a Python of its own, prints one line of JSON.

python kserve_grpc.py HOST:PORT MODEL   with the token in the variable TOKEN, rows as JSON on standard input
"""

import asyncio
import json
import os
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest


async def told(address: str, model: str, token: str, rows: np.ndarray) -> dict[str, Any]:
    """Return what the client finds out, with raw bytes and with typed contents."""
    headers = (("authorization", f"Bearer {token}"),)
    client = InferenceGRPCClient(address, timeout=20)
    found: dict[str, Any] = {"live": await client.is_server_live(), "ready": await client.is_server_ready()}
    found["model_ready"] = await client.is_model_ready(model, headers=headers)
    for is_binary in (True, False):
        tensor = InferInput("measurements", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows, binary_data=is_binary)
        answer = await client.infer(InferRequest(model, [tensor], request_id="7"), headers=headers)
        output = answer.outputs[0]
        found[f"binary {is_binary}"] = [answer.id, output.datatype, output.as_numpy().tolist()]
    try:
        await client.infer(InferRequest("nope", [tensor]), headers=headers)
    except Exception as error:  # noqa: BLE001  whatever it raises: its text is looked at
        found["unknown"] = str(error)
    await client.close()
    return found


if __name__ == "__main__":
    _, where, which = sys.argv
    sent = np.array(json.load(sys.stdin), np.float32)
    print(json.dumps(asyncio.run(told(where, which, os.environ["TOKEN"], sent))))  # noqa: T201  what the test reads
