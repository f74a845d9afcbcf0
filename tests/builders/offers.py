"""A gateway as other people's clients meet it: real ports, a few models, tokens; and how such a client is run.

async with offered(tmp_path, demo) as offer:
    found = await offer.told(PYTHON, "triton_http.py", offer.address)
"""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builders import onnx_models
from builders.gateways import World
from builders.grpc_clients import running_grpc
from builders.listening import listening
from builders.models import DemoModel, pieces, published_model, uploaded_model
from maas_gateway.clock import Deadline
from maas_gateway.controlplane.arriving import Incoming
from maas_gateway.identifiers import ModelRef

CLIENTS = Path(__file__).parents[1] / "clients"
ENVIRONMENTS = CLIENTS.parents[1] / ".venv"
"""Where `tests/install_clients.sh` puts them."""
PERF = ENVIRONMENTS / "clients-perf"
CUDA = PERF / "nvidia" / "cuda_runtime" / "lib"
"""The library without which perf_analyzer does not start, though it needs no GPU."""
WITHIN_S = 120


def has_perf_analyzer() -> bool:
    """Tell whether perf_analyzer is here with all that it is linked to."""
    program, ldd = PERF / "bin" / "perf_analyzer", shutil.which("ldd")
    if ldd is None or not program.exists():
        return False
    env = {"LD_LIBRARY_PATH": str(CUDA)}
    found = subprocess.run([ldd, str(program)], env=env, capture_output=True, text=True, check=False)
    return "not found" not in found.stdout


@dataclass
class Offer:
    """A running gateway with models of the tenant `acme`.

    `bc` is the demo's; `echo` gives back every datatype, `texts` BYTES alone; `cycled` has two versions, the first of
    which serves.

    Attributes:
        world: the gateway.
        url: of its HTTP port.
        grpc: host and port of its gRPC door.
        token: of an invoker.
        publisher: a token of a publisher.
        rows: two rows for `bc`.
        scores: what is answered to them.
    """

    world: World
    url: str
    grpc: str
    token: str
    publisher: str
    rows: list[list[float]]
    scores: list[list[float]]

    @property
    def address(self) -> str:
        """Host and port, as clients want it that know no URL."""
        return self.url.removeprefix("http://")

    async def told(self, python: Path, script: str, *arguments: str, **variables: str) -> dict[str, Any]:
        """Run a script of `tests/clients`; return the line of JSON that it prints."""
        command = [str(python), str(CLIENTS / script), *arguments]
        done = await self.run(command, {"PYTHONPATH": "", **variables}, sent=json.dumps(self.rows).encode())
        assert done[0] == 0, done[2][-3_000:]
        found: dict[str, Any] = json.loads(done[1].splitlines()[-1])
        return found

    async def run(
        self, command: list[str], variables: Mapping[str, str], *, sent: bytes = b""
    ) -> tuple[int | None, str, str]:
        """Run a program that knows the tokens; return its exit status and what it printed."""
        pipe = asyncio.subprocess.PIPE
        known = {"TOKEN": self.token, "PUBLISHER": self.publisher, "URL": self.url, "GRPC": self.grpc}
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env={**os.environ, **known, **variables}
        )
        try:
            async with asyncio.timeout(WITHIN_S):
                printed, errors = await process.communicate(sent)
        finally:
            if process.returncode is None:
                process.kill()
        return process.returncode, printed.decode(), errors.decode()


@asynccontextmanager
async def offered(folder: Path, demo: DemoModel) -> AsyncIterator[Offer]:
    """Run a gateway with those models."""
    async with running_grpc(folder) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        await published_model(world, "acme", "cycled", demo)
        await uploaded_model(world, "acme", "cycled", demo, version=2)
        await _echoing(world, "echo")
        await _echoing(world, "texts", "BYTES")
        token, publisher = [await world.token(await world.service("acme", role)) for role in ("invoker", "publisher")]
        rows, scores = [list(demo.seed.example)] * 2, [[demo.seed.expected]] * 2
        async with listening(world.app) as url:
            grpc = f"127.0.0.1:{world.app.state.grpc_port}"
            yield Offer(world, url, grpc, token, publisher, rows=rows, scores=scores)


async def _echoing(world: World, name: str, *datatypes: str) -> None:
    owner = await world.principal(world.owners["acme"])
    content = onnx_models.echo(*datatypes).SerializeToString()
    incoming = Incoming(format="onnx", digest=None, declared_bytes=len(content), chunks=pieces(content))
    await world.gateway.upload.upload(owner, ModelRef(name, 1), incoming)
    await world.gateway.promote.promote(owner, ModelRef(name, 1))
    await world.gateway.reconciler.settle(owner.tenant, name, Deadline.after(30.0))
