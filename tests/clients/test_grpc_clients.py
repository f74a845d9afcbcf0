"""Clients that others wrote, as they are released, against the gRPC door: numbers, types, texts, refusals."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from builders.grpc_clients import running_grpc
from builders.models import DemoModel, published_model

HERE = Path(__file__).parent
PYTHON = HERE.parents[1] / ".venv" / "clients" / "bin" / "python"
WITHIN_S = 120

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.services,
    pytest.mark.skipif(not PYTHON.exists(), reason="no clients: sh tests/install_clients.sh all"),
]


async def _told(script: str, folder: Path, demo: DemoModel) -> tuple[dict[str, Any], list[list[float]]]:
    """Return what a client found out about two rows, and what it should have found."""
    async with running_grpc(folder) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        token = await world.token(await world.service("acme", "invoker"))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            str(PYTHON),
            str(HERE / script),
            f"127.0.0.1:{world.app.state.grpc_port}",
            "bc",
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env={**os.environ, "TOKEN": token, "PYTHONPATH": ""},
        )
        async with asyncio.timeout(WITHIN_S):
            printed, errors = await process.communicate(json.dumps([list(demo.seed.example)] * 2).encode())
        assert process.returncode == 0, errors.decode()[-2_000:]
        return json.loads(printed.splitlines()[-1]), [[demo.seed.expected]] * 2


def _close(scores: list[list[float]]) -> Any:
    return [pytest.approx(row, rel=1e-5) for row in scores]


async def test_tritons_client_works_unmodified(tmp_path: Path, demo: DemoModel) -> None:
    found, scores = await _told("triton_grpc.py", tmp_path, demo)
    expected = _close(scores)
    assert (found["live"], found["ready"], found["model_ready"]) == (True, True, True)
    assert "statistics" in found["extensions"]
    assert found["inputs"] == [{"name": "measurements", "datatype": "FP32", "shape": ["-1", "30"]}]
    assert found["config"] == 64
    assert (found["scores"], found["dtype"], found["id"]) == (expected, "float32", "7")
    for compression in (None, "gzip", "deflate"):
        assert found[f"classes {compression}"] == [f"{row[0]:f}:0" for row in scores]
    assert found["inference_count"] == 8
    assert found["index"] == [{"name": "bc", "version": "1", "state": "READY"}]
    assert found["nobody"][0] == "StatusCode.UNAUTHENTICATED"
    assert found["unknown"] == ["StatusCode.NOT_FOUND", "Request for unknown model: 'nope' is not found"]
    refused = "this needs the permission model:promote on model 'bc'"
    assert found["load"] == ["StatusCode.PERMISSION_DENIED", refused]
    assert found["bad"] == [
        "StatusCode.INVALID_ARGUMENT",
        "input 'measurements': expected shape [-1, 30] and got [2, 7]",
    ]
    for number, answer in enumerate(found["stream"]):
        assert answer == ([str(number), expected] if number != 3 else "Request for unknown model: 'nope' is not found")
    assert found["basic"] == expected
    assert found["aio"] == [expected] * 8
    assert found["aio stream"] == [[str(number), expected] for number in range(3)]


async def test_kserves_client_works_unmodified(tmp_path: Path, demo: DemoModel) -> None:
    found, scores = await _told("kserve_grpc.py", tmp_path, demo)
    assert (found["live"], found["ready"], found["model_ready"]) == (True, True, True)
    for name in ("binary True", "binary False"):
        assert found[name] == ["7", "FP32", _close(scores)]
    assert "unknown model: 'nope' is not found" in found["unknown"]
