"""A model in a confined process, from publishing to unloading: what a caller sees when it loops, dies or is replaced."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from builders.confined import confined_model
from builders.flatbuffer_models import flatbuffers_of
from builders.gateways import World, running_gateway
from builders.logs import Lines
from builders.models import DemoModel, published_model
from builders.plaintext import Search, pieces_of, writable_since
from builders.processes import serving
from maas_gateway.dataplane.servables import Servable
from maas_gateway.identifiers import ModelRef
from maas_gateway.registry.model import ModelVersion
from maas_gateway.telemetry.metrics import exposition
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec

pytestmark = pytest.mark.anyio

ENDS = {"instances": [[-1.0, 0.0, 0.0]]}
LOOPS = {"instances": [[1.0, 0.0, 0.0]]}
SEED = ModelSignature((TensorSpec("x", Datatype.FP32, (-1, 30)),), (TensorSpec("y", Datatype.FP32, (-1, 1)),))


@pytest.fixture(scope="session")
def flatbuffers(shared_folder: Path) -> Path:
    """A directory of `<name>.tflite`, see `build_flatbuffers`."""
    return flatbuffers_of(shared_folder)


@asynccontextmanager
async def endless_world(folder: Path, flatbuffers: Path, **processes: Any) -> AsyncIterator[tuple[World, ModelVersion]]:
    """A gateway in which the tenant acme serves a model that can loop for ever."""
    async with running_gateway(folder, http={"deadline_s": 1.5}, processes=processes) as world:
        await world.tenant("acme")
        plan = (flatbuffers / "endless.tflite").read_bytes()
        yield world, await confined_model(world, "acme", "loop", plan)


def servable_of(world: World, version: ModelVersion) -> Servable:
    found = world.gateway.predict._servables.ready(version)
    assert found is not None
    return found


def pid_of(world: World, version: ModelVersion) -> int:
    process = servable_of(world, version).process
    assert process is not None
    return process.runtime.pid


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def ask(world: World, body: Any, slug: str = "acme", model: str = "loop") -> httpx.Response:
    headers = await world.headers(world.owners[slug])
    return await world.http.post(f"/v1/models/{model}:predict", json=body, headers=headers)


async def until(is_so: Callable[[], bool], within_s: float = 20) -> None:
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110  another process's doing
            await asyncio.sleep(0.02)


async def answers(world: World, within_s: float = 20, *, model: str = "loop") -> httpx.Response:
    """Ask until the model answers: a replacement may take longer to come than a request may."""
    async with asyncio.timeout(within_s):
        while (answer := await ask(world, ENDS, model=model)).status_code in {503, 504}:  # noqa: ASYNC110  another process's doing
            await asyncio.sleep(0.05)
    return answer


def counted(world: World, name: str) -> float:
    lines = exposition(world.gateway.metrics).decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


async def test_an_endless_call_is_a_504_in_each_dialect_and_others_never_notice(
    tmp_path: Path, flatbuffers: Path, demo: DemoModel
) -> None:
    async with endless_world(tmp_path, flatbuffers) as (world, version):
        await world.tenant("beta")
        await published_model(world, "beta", "bc", demo)
        other = await confined_model(world, "beta", "loop", (flatbuffers / "endless.tflite").read_bytes())
        first, others_pid = pid_of(world, version), pid_of(world, other)
        assert (await ask(world, ENDS)).json() == {"predictions": [[-1.0, 0.0, 0.0]]}
        statuses: list[tuple[int, int]] = []
        is_over = False

        async def keep_asking() -> None:
            body = {"instances": [list(demo.seed.example)]}
            while not is_over:
                answered = await asyncio.gather(ask(world, body, "beta", "bc"), ask(world, ENDS, "beta"))
                statuses.append((answered[0].status_code, answered[1].status_code))

        asking = asyncio.create_task(keep_asking())
        late = await ask(world, LOOPS)
        assert (late.status_code, set(late.json())) == (504, {"error", "request_id"})
        assert "deadline" in late.json()["error"]
        await until(lambda: not is_running(first))
        assert (await answers(world)).json() == {"predictions": [[-1.0, 0.0, 0.0]]}
        headers = await world.headers(world.owners["acme"])
        tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 0, 0]}
        late = await world.http.post("/v2/models/loop/infer", json={"inputs": [tensor]}, headers=headers)
        assert (late.status_code, set(late.json())) == (504, {"error", "request_id"})
        is_over = True
        await asking
        assert set(statuses) == {(200, 200)}
        assert len(statuses) > 5
        assert pid_of(world, other) == others_pid


@pytest.mark.parametrize("moment", ["between calls", "during a call"])
async def test_a_killed_process_is_replaced_and_only_the_running_call_fails(
    tmp_path: Path, flatbuffers: Path, moment: str, lines: Lines
) -> None:
    async with endless_world(tmp_path, flatbuffers, per_tenant=1) as (world, version):
        pid = pid_of(world, version)
        if moment == "during a call":
            running = asyncio.create_task(ask(world, LOOPS))
            await asyncio.sleep(0.4)
            waiting = asyncio.create_task(ask(world, ENDS))
            await asyncio.sleep(0.2)
            os.kill(pid, signal.SIGKILL)
            failed = await running
            assert (failed.status_code, "/" in failed.json()["error"]) == (503, False)
            assert (await waiting).status_code in {200, 504}, "it waits for the replacement"
        else:
            os.kill(pid, signal.SIGKILL)
            await until(lambda: not is_running(pid))
            assert (await ask(world, ENDS)).status_code in {200, 504}, "it waits for the replacement"
        assert world.gateway.predict._servables.failure(version) is None, "it has the place of the one before"
        assert (await answers(world)).status_code == 200
        assert pid_of(world, version) != pid
        assert counted(world, "maas_model_processes ") == 1
        assert counted(world, "maas_model_process_restarts_total") == 1
        assert counted(world, "maas_model_process_ends_total") == 1
        assert "model_process_ended" in lines.getvalue()


async def test_a_model_that_ends_its_process_again_and_again_is_started_more_and_more_slowly(
    tmp_path: Path, flatbuffers: Path
) -> None:
    async with endless_world(tmp_path, flatbuffers) as (world, version):
        os.kill(pid_of(world, version), signal.SIGKILL)
        assert (await answers(world)).status_code == 200
        servables = world.gateway.predict._servables
        for pause_s in (1, 2):
            os.kill(pid_of(world, version), signal.SIGKILL)
            await until(lambda: servables.failure(version) is not None)
            refused = await ask(world, ENDS)
            assert refused.status_code == 503
            assert "again and again" in refused.json()["error"]
            assert refused.headers["retry-after"] == str(pause_s)
            began = time.monotonic()
            await until(lambda: servables.ready(version) is not None)  # without being asked for
            assert time.monotonic() - began > pause_s / 2
            assert (await answers(world)).status_code == 200


async def test_the_process_has_no_key_no_environment_and_no_file_of_the_gateway(
    tmp_path: Path, flatbuffers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_OPERATOR", "swordfish")
    async with endless_world(tmp_path, flatbuffers) as (world, version):
        proc = Path(f"/proc/{pid_of(world, version)}")
        seen = {name: (proc / name).read_bytes() for name in ("environ", "cmdline", "maps")}
        for content in seen.values():
            assert b"swordfish" not in content
            assert str(tmp_path).encode() not in content
            assert b"memfd:maas-artifact" not in content
        assert b"MAAS" not in seen["environ"]
        opened = sorted(str(link.readlink()).partition(":")[0] for link in (proc / "fd").iterdir())
        assert opened == ["/dev/null", *["pipe"] * 4]
        assert servable_of(world, version).memory is None, "the plan is not kept in the gateway"


async def test_retiring_a_version_ends_its_process_and_so_does_the_gateways_end(
    tmp_path: Path, flatbuffers: Path
) -> None:
    async with endless_world(tmp_path, flatbuffers) as (world, version):
        plan = (flatbuffers / "endless.tflite").read_bytes()
        pids = [pid_of(world, version)]
        second = await confined_model(world, "acme", "other", plan)
        pids.append(pid_of(world, second))
        looping = asyncio.create_task(ask(world, LOOPS))
        await asyncio.sleep(0.3)
        await world.gateway.promote.retire(await world.principal(world.owners["acme"]), ModelRef("loop", 1))
        assert (await ask(world, ENDS)).status_code == 404
        assert (await looping).status_code == 504, "who was being answered still is"
        await until(lambda: not is_running(pids[0]))
        assert is_running(pids[1])
        await until(lambda: counted(world, "maas_model_processes ") == 1)
        assert counted(world, "maas_model_process_restarts_total") == 0
        last = asyncio.create_task(ask(world, LOOPS, model="other"))
        await asyncio.sleep(0.3)
    assert not is_running(pids[1])
    with contextlib.suppress(Exception):
        await last


async def test_a_tenant_has_no_more_processes_than_it_may(tmp_path: Path, flatbuffers: Path) -> None:
    async with endless_world(tmp_path, flatbuffers, per_tenant=1) as (world, _):
        plan = (flatbuffers / "endless.tflite").read_bytes()
        await world.tenant("beta")
        second = await confined_model(world, "acme", "second", plan)
        refused = await ask(world, ENDS, model="second")
        assert refused.status_code == 503
        assert "1 of this tenant are running, as many as may" in refused.json()["error"]
        await confined_model(world, "beta", "loop", plan)
        assert (await ask(world, ENDS, "beta")).status_code == 200
        await world.gateway.promote.retire(await world.principal(world.owners["acme"]), ModelRef("loop", 1))
        world.gateway.predict._servables.forget_failures(second.model_id)  # instead of waiting for the next try
        assert (await answers(world, model="second")).status_code == 200


async def test_a_plan_that_cannot_be_loaded_says_so_and_leaves_no_process(tmp_path: Path, flatbuffers: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        await confined_model(world, "acme", "loop", b"no flatbuffer")
        refused = await ask(world, ENDS)
        assert refused.status_code == 503
        assert "the engine cannot load the converted model" in refused.json()["error"]
        assert counted(world, "maas_model_processes ") == 0
        assert not world.gateway.predict._servables._processes._taken


async def test_an_altered_plan_is_an_alarm_and_starts_nothing(tmp_path: Path, flatbuffers: Path) -> None:
    async with endless_world(tmp_path, flatbuffers) as (world, version):
        (blob,) = (world.settings.data_dir / "blobs").glob("??/*")
        content = bytearray(blob.read_bytes())
        content[-1] ^= 1
        blob.chmod(0o600)
        blob.write_bytes(content)
        os.kill(pid_of(world, version), signal.SIGKILL)
        servables = world.gateway.predict._servables
        await until(lambda: servables.failure(version) is not None)
        assert (await ask(world, ENDS)).status_code == 503
        assert counted(world, "maas_integrity_alarms_total") == 1
        assert not servables._processes._taken


@pytest.mark.slow
async def test_no_plaintext_of_the_model_reaches_a_disk(tmp_path: Path, flatbuffers: Path) -> None:
    plan = (flatbuffers / "seed.tflite").read_bytes()
    stamp = tmp_path / "stamp"
    stamp.touch()
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        await confined_model(world, "acme", "bc", plan, signature=SEED)
        answer = await ask(world, {"instances": [[0.0] * 30]}, model="bc")
        assert answer.json()["predictions"] == [[0.5]]
        search = Search({"model": pieces_of(plan)})
        assert len(pieces_of(plan)) > 5
        assert search.in_files(writable_since(stamp)) == {}


def children_of(pids: list[int]) -> list[int]:
    """Return the processes that compute models, whose parent is one of `pids`."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            parent = next(line for line in status.read_text().splitlines() if line.startswith("PPid:"))
            is_ours = b"confinement.run" in (status.parent / "cmdline").read_bytes()
            if is_ours and int(parent.split()[1]) in pids:
                found.append(int(status.parent.name))
    return found


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_gateway_that_stops_or_is_killed_leaves_no_process_behind(
    tmp_path: Path, flatbuffers: Path, ending: signal.Signals
) -> None:
    async def prepared() -> Path:
        async with endless_world(tmp_path, flatbuffers) as (world, _):
            return world.settings.data_dir

    with serving(asyncio.run(prepared()), MAAS_HTTP__DEADLINE_S="1.5") as served:
        deadline = time.monotonic() + 30
        while not (left := children_of(served.pids())) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left
        if ending is signal.SIGKILL:
            served.kill()
        else:
            served.process.send_signal(ending)
            served.process.wait(20)
        deadline = time.monotonic() + 10
        while any(is_running(pid) for pid in left) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [pid for pid in left if is_running(pid)]
