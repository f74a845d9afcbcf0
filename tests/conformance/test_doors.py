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
