"""One table of tensors and one of errors through every door: the same numbers, datatypes, sentences, counts, records."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builders.doors import DOORS, GRPC_STREAM, OF_GRPC, OF_V1, V2_RAW, Answer, Asked, Doors, Given, carries
from builders.echo_models import echo, served_onnx
from builders.gateways import Account, World
from builders.grpc_clients import Caller, calling, running_grpc
from maas_gateway.tensors.datatypes import Datatype

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
REFUSALS = json.loads((HERE / "refusals.json").read_text(encoding="utf-8"))
TENSORS = json.loads((HERE / "tensors.json").read_text(encoding="utf-8"))["cases"]
TOKENS = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


def an_array(values: Any, datatype: str) -> np.ndarray:
    flat = np.array(values, np.object_)
    if datatype == "BYTES":
        return np.array([text.encode() for text in flat.ravel()], np.object_).reshape(flat.shape)
    return np.array([TOKENS.get(each, each) for each in flat.ravel().tolist()], Datatype(datatype).numpy).reshape(
        flat.shape
    )


def a_case(case: dict[str, Any]) -> tuple[Given, Asked]:
    given = Given(case["datatype"], an_array(case["values"], case["datatype"]))
    return given, Asked(f"echo-{case['datatype']}".lower(), {"x": given})


@asynccontextmanager
async def serving(folder: Path, models: dict[str, bytes], **overrides: Any) -> AsyncIterator[tuple[World, Caller]]:
    async with running_grpc(folder, **overrides) as world, calling(world) as caller:
        await world.tenant("acme")
        for name, content in models.items():
            await served_onnx(world, "acme", name, content)
        yield world, caller


@pytest.mark.parametrize("case", TENSORS, ids=lambda case: case["name"])
def test_values_of_the_table_are_its_bytes(case: dict[str, Any]) -> None:
    given, _ = a_case(case)
    assert given.raw == bytes.fromhex(case["raw"])


async def test_every_door_gives_back_the_same_tensors(tmp_path: Path, subtests: pytest.Subtests) -> None:
    datatypes = {case["datatype"] for case in TENSORS}
    assert datatypes == set(Datatype)
    models = {f"echo-{datatype}".lower(): echo(x=datatype) for datatype in sorted(datatypes)}
    async with serving(tmp_path, models) as (world, caller):
        token = await world.token(await world.service("acme", "invoker"))
        for case in TENSORS:
            given, asked = a_case(case)
            doors = Doors(world.http, caller, token, {"x_out": given.datatype})
            for door in DOORS:
                if not carries(door, asked):
                    continue
                with subtests.test(case["name"], door=door):
                    await _is_same(doors, door, asked, given)


async def _is_same(doors: Doors, door: str, asked: Asked, given: Given) -> None:
    expected = given.array
    if door == V2_RAW:  # one row
        expected = expected[:1]
        asked = Asked(asked.model, {"x": Given(given.datatype, expected)})
    answer = await doors.through(door, asked)
    assert answer.is_given, answer
    (output,) = answer.outputs.values()
    assert (output.dtype, output.shape) == (expected.dtype, expected.shape)
    assert Given(given.datatype, output).raw == Given(given.datatype, expected).raw
    assert answer.datatypes == ({} if door in OF_V1 else {"x_out": given.datatype})


async def test_every_door_refuses_in_the_same_words(tmp_path: Path, subtests: pytest.Subtests) -> None:
    ports = REFUSALS["model"]
    async with serving(tmp_path, {"two": echo(**ports)}) as (world, caller):
        token = await world.token(await world.service("acme", "invoker"))
        doors = Doors(world.http, caller, token, {f"{name}_out": datatype for name, datatype in ports.items()})
        for door in DOORS:
            if door != V2_RAW:
                assert (await doors.through(door, an_asking({}))).is_given
        for case in REFUSALS["cases"]:
            asked = an_asking(case["asked"])
            for door in DOORS:
                says = _said(case["says"], door)
                if says is None or not carries(door, asked):
                    continue
                with subtests.test(case["name"], door=door):
                    answer = await doors.through(door, asked)
                    assert (answer.status, answer.sentence) == (_status(case["status"], door), says)


def an_asking(case: dict[str, Any]) -> Asked:
    """Return a request that the model `two` answers, but for what a case is about."""
    inputs = {"a": Given("FP32", np.array([[1.5, 2.5]], "<f4")), "b": Given("INT8", np.array([[1, 2]], "<i1"))}
    for name, other in case.get("inputs", {}).items():
        if other is None:
            del inputs[name]
            continue
        dtype = "<i8" if other.get("wide") else Datatype(other["datatype"]).numpy
        inputs[name] = Given(other["datatype"], np.array(other["values"], dtype), other.get("shape"))
    more = {name: value for name, value in case.items() if name not in {"inputs", "model"}}
    return Asked(case.get("model", "two"), inputs, **more)


def _said(says: dict[str, str | None], door: str) -> str | None:
    """Return a door's sentence: its own, or that of all doors of its protocol."""
    return says[door] if door in says else says.get("v1" if door in OF_V1 else "v2")


def _status(statuses: dict[str, Any], door: str) -> Any:
    if door == GRPC_STREAM:
        return ""  # in the stream there is a sentence only
    return statuses["gRPC" if door in OF_GRPC else "v1" if door in OF_V1 else "v2"]


async def test_every_door_counts_and_records_the_same(tmp_path: Path, subtests: pytest.Subtests) -> None:
    async with serving(tmp_path, {"x": echo(x="FP32")}, quotas={"flush_s": 0.1}) as (world, caller):
        owner = await world.headers(world.owners["acme"])
        asked = Asked("x", {"x": Given("FP32", np.array([[1.5, 2.5]], "<f4"))})
        absent = Asked("nope", asked.inputs)
        accounts: dict[str, Account] = {}
        told: dict[str, list[Answer]] = {}
        for door in DOORS:
            account = accounts[door] = await world.service("acme", "invoker")
            quota = {"subject": account.subject, "quota": {"requests": {"amount": 2, "window_s": 3_600}}}
            assert (await world.http.post("/admin/v1/quotas", json=quota, headers=owner)).status_code == 201
            doors = Doors(world.http, caller, await world.token(account), {"x_out": "FP32"})
            told[door] = [await doors.through(door, each) for each in (asked, absent, asked, asked)]
        counts = await _counts(world, {account.subject for account in accounts.values()})
        records = await _records(world)
        names = {door: (await world.principal(account)).name for door, account in accounts.items()}
        for door, account in accounts.items():
            with subtests.test(door=door):
                given, unknown, again, refused = told[door]
                assert given.is_given
                assert again.is_given
                assert "nope" in unknown.sentence
                assert refused.sentence == "the limit of 2 requests in 3600 s for you is reached"
                assert refused.status == _status({"v1": 429, "v2": 429, "gRPC": "RESOURCE_EXHAUSTED"}, door)
                if door != GRPC_STREAM:
                    assert refused.told["ratelimit-limit"] == "2"
                    assert 1_700 <= int(refused.told["retry-after"]) <= 1_800
                assert counts[account.subject] == ("x", 2, 2)
                assert sorted(records[names[door]]) == ["model-not-found", "quota-exceeded"]


async def _counts(world: World, subjects: set[str]) -> dict[str, tuple[str, int, int]]:
    """Return model, requests and rows of each subject, once all are written."""
    owner = await world.headers(world.owners["acme"])
    async with asyncio.timeout(20):
        while True:
            lines = (await world.http.get("/admin/v1/usage", headers=owner)).json()["usage"]
            found = {line["subject"]: (line["model"], line["requests"], line["rows"]) for line in lines}
            if found.keys() == subjects and all(requests >= 2 for _, requests, _ in found.values()):
                return found


async def _records(world: World) -> dict[str, list[str]]:
    """Return why each actor was refused."""
    await world.gateway.audit.flush()
    owner = await world.headers(world.owners["acme"])
    answer = await world.http.get("/admin/v1/audit/events", params={"limit": 500}, headers=owner)
    found: dict[str, list[str]] = {}
    for event in answer.json()["events"]:
        if event["kind"] == "request.refused":
            found.setdefault(event["actor"], []).append(event["reason"])
    return found
