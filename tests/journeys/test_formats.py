"""Uploads of every format through the real converter: in which forms they are kept, and that these answer."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from builders import onnx_models
from builders.benign import small_archives
from builders.conversions import WholeConversion
from builders.gateways import World, running_gateway
from builders.models import DemoModel, pieces
from builders.saved_models import archive_of, saved_models
from builders.tf_models import tar
from maas_gateway.clock import Deadline
from maas_gateway.confinement.conversation import Sink
from maas_gateway.controlplane.arriving import Incoming
from maas_gateway.errors import ArtifactRefused, VersionExists
from maas_gateway.identifiers import ModelRef
from maas_gateway.inference.conversion.answer import Conversion
from maas_gateway.registry.model import ModelVersion, Stage

pytestmark = pytest.mark.anyio

ROWS = [[0.5, -1.0, 2.0, 0.25], [1.0, 0.0, -3.0, 1.5]]


async def _taken(world: World, name: str, form: str, content: bytes, **asked: str) -> ModelVersion:
    owner = await world.principal(world.owners["acme"])
    incoming = Incoming(format=form, digest=None, declared_bytes=len(content), chunks=pieces(content), **asked)
    version, is_new = await world.gateway.upload.upload(owner, ModelRef(name, 1), incoming)
    assert is_new
    return version


async def _served(world: World, name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Promote a model and return what it answers to a request of the open protocol."""
    owner = await world.principal(world.owners["acme"])
    await world.gateway.promote.promote(owner, ModelRef(name, 1))
    await world.gateway.reconciler.settle(owner.tenant, name, Deadline.after(60.0))
    headers = await world.headers(world.owners["acme"])
    answer = await world.http.post(f"/v2/models/{name}/infer", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    outputs = answer.json()["outputs"]
    return {output["name"]: np.reshape(output["data"], output["shape"]) for output in outputs}


def _floats(name: str, rows: Any) -> dict[str, Any]:
    values: NDArray[np.float64] = np.asarray(rows)
    tensor = {"name": name, "datatype": "FP32", "shape": list(values.shape), "data": values.ravel().tolist()}
    return {"inputs": [tensor]}


def _plans(version: ModelVersion) -> list[tuple[str, str]]:
    plans = (version.plan, *version.other_plans)
    assert sorted(artifact.role for artifact in version.artifacts) == sorted(plan.runtime for plan in plans)
    assert all(plan.tolerance and plan.took_us is not None for plan in plans)
    return [(plan.runtime, plan.placement.value) for plan in plans]


async def test_trees_and_vectors_of_scikit_learn_answer_at_every_door_as_it_does(tmp_path: Path) -> None:
    wanted = [each for each in islice(onnx_models.estimators(), 4) if each.name in {"decision tree", "support vectors"}]
    assert len(wanted) == 2
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        for name, estimator in zip(("tree", "vectors"), wanted, strict=True):
            version = await _taken(world, name, "onnx", estimator.content)
            assert _plans(version) == [("onnx", "threads")]
            rows, (labels, scores) = estimator.inputs["X"], estimator.expected
            answered = await _served(world, name, _floats("X", rows))
            titles = [port.name for port in version.signature.outputs]
            for title, expected in zip(titles, (labels, scores), strict=True):
                np.testing.assert_allclose(answered[title], expected, atol=1e-4)
            headers = await world.headers(world.owners["acme"])
            for key, read in (("instances", "predictions"), ("inputs", "outputs")):
                body = {key: rows.tolist()}
                said = (await world.http.post(f"/v1/models/{name}:predict", json=body, headers=headers)).json()[read]
                columns = said if read == "outputs" else {t: [row[t] for row in said] for t in titles}
                np.testing.assert_array_equal(columns[titles[0]], labels)
                np.testing.assert_allclose(columns[titles[1]], scores, atol=1e-4)


async def test_onnx_and_tflite_are_served_as_the_gateway_writes_them(tmp_path: Path, demo: DemoModel) -> None:
    dense, looping = onnx_models.dense(), onnx_models.looping()
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        version = await _taken(world, "dense", "onnx", dense.SerializeToString())
        assert _plans(version) == [("onnx", "threads"), ("openvino", "process")]
        assert version.artifacts[0].digest != version.digest, "what is sealed was written anew"
        answer = await _served(world, "dense", _floats("x", ROWS))
        np.testing.assert_allclose(answer["y"], np.maximum(np.float32(ROWS) @ onnx_models.WEIGHTS + 1, 0), atol=1e-5)

        version = await _taken(world, "looping", "onnx", looping.SerializeToString())
        placed = [("onnx", "process"), ("openvino", "process")]
        assert sorted(_plans(version)) == placed, "a loop may never end, and a thread cannot be ended"
        np.testing.assert_allclose((await _served(world, "looping", _floats("x", ROWS)))["y"], 8 * np.float32(ROWS))

        version = await _taken(world, "flat", "tflite", demo.plan)
        assert _plans(version) == [("litert", "threads")]
        (entry,) = version.signature.inputs
        (score,) = (await _served(world, "flat", _floats(entry.name, [demo.seed.example]))).values()
        assert score[0, 0] == pytest.approx(demo.seed.expected, abs=1e-5)


async def test_runtime_that_the_publisher_asks_for_serves(tmp_path: Path) -> None:
    content = onnx_models.dense().SerializeToString()
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        version = await _taken(world, "dense", "onnx", content, runtime="openvino")
        assert _plans(version) == [("openvino", "process"), ("onnx", "threads")]
        answer = await _served(world, "dense", _floats("x", ROWS))
        np.testing.assert_allclose(answer["y"], np.maximum(np.float32(ROWS) @ onnx_models.WEIGHTS + 1, 0), atol=1e-5)
        headers = await world.headers(world.owners["acme"])
        told = (await world.http.get("/v2/models/dense", headers=headers)).json()
        assert told["platform"] == "onnx_openvino"

        owner = await world.principal(world.owners["acme"])
        again = Incoming(format="onnx", digest=None, declared_bytes=None, chunks=pieces(content), runtime="onnx")
        with pytest.raises(VersionExists, match="with runtime 'openvino'; take the next number"):
            await world.gateway.upload.upload(owner, ModelRef("dense", 1), again)
        with pytest.raises(ArtifactRefused, match="'keras' cannot serve this model here; onnx and openvino can"):
            await _taken(world, "other", "onnx", content, runtime="keras")
        assert [model.name for model in await world.gateway.browse.models(owner)] == ["dense"]


async def test_savedmodel_is_served_by_litert_and_kept_as_a_frozen_graph(tmp_path: Path, shared_folder: Path) -> None:
    archive = archive_of(saved_models(shared_folder) / "module")
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        version = await _taken(world, "module", "savedmodel", archive)
        assert _plans(version) == [("litert", "threads"), ("tensorflow", "process")]
        answer = await _served(world, "module", _floats("x", ROWS))
        np.testing.assert_allclose(answer["total"], np.sum(ROWS, axis=1), rtol=1e-5)
        np.testing.assert_allclose(np.sum(answer["y"], axis=1), 1, rtol=1e-5)


async def test_keras_model_that_does_not_lower_is_served_by_keras_in_a_process(
    tmp_path: Path, recurrent: bytes
) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        version = await _taken(world, "recurrent", "keras", recurrent)
        assert _plans(version) == [("keras", "process")]
        (note,) = version.findings
        assert (note["rule"], note["severity"]) == ("conversion", "note")
        assert "There is no LiteRT plan" in note["message"]
        (entry,), (made,) = version.signature.inputs, version.signature.outputs
        rows = np.random.default_rng(1).normal(size=(2, *entry.shape[1:]))
        answer = await _served(world, "recurrent", _floats(entry.name, rows))
        assert answer[made.name].shape == (2, *made.shape[1:])
        assert np.all(np.abs(answer[made.name]) < 1)
        assert len(np.unique(answer[made.name])) > 2


@pytest.mark.parametrize(
    ("form", "content", "reason"),
    [
        pytest.param("tflite", "archive", "This is a Keras archive (.keras): upload it with format=keras", id="keras"),
        pytest.param("keras", "plan", "This is a TensorFlow Lite model: upload it with format=tflite", id="tflite"),
        pytest.param("keras", "onnx", "This is an ONNX model: upload it with format=onnx", id="onnx"),
        pytest.param("onnx", "savedmodel", "This is a packed SavedModel: upload it with format=savedmodel", id="saved"),
        pytest.param("tflite", "pickle", "This is a pickle, and unpickling runs code. Load it where you", id="pickle"),
        pytest.param("savedmodel", "hdf5", "This is a bare HDF5 file (.h5), a format in which", id="h5"),
    ],
)
async def test_what_is_of_another_format_is_refused_with_what_to_do(
    tmp_path: Path, demo: DemoModel, form: str, content: str, reason: str
) -> None:
    contents = {
        "archive": demo.seed.archive,
        "plan": demo.plan,
        "onnx": onnx_models.dense().SerializeToString(),
        "savedmodel": tar({"saved_model.pb": b"\x08\x01\x12\x00"}),
        "pickle": b"\x80\x04\x95pickle",
        "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
    }
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        with pytest.raises(ArtifactRefused, match=re.escape(reason)):
            await _taken(world, "m", form, contents[content])


async def test_plan_that_its_scanner_refuses_falls_away_and_the_last_one_takes_the_upload_along(
    tmp_path: Path, demo: DemoModel
) -> None:
    """A converting process that was taken over by what it parsed can send what it wants."""
    keras, litert = demo.made.conversion.plans
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        _answering(world, demo.made.content("keras") + b"\0" * litert.n_bytes, demo.made)
        version = await _taken(world, "half", "keras", demo.seed.archive)
        assert _plans(version) == [("keras", "process")]
        (note,) = version.findings
        assert (note["rule"], note["severity"], note["where"]) == ("plan-refused", "note", "plan litert")
        assert "this is no TensorFlow Lite file" in note["message"]
        _answering(world, bytes(keras.n_bytes + litert.n_bytes), demo.made)
        with pytest.raises(ArtifactRefused, match="The model was refused"):
            await _taken(world, "none", "keras", demo.seed.archive)


async def test_plans_on_threads_come_first_then_the_quicker_ones(tmp_path: Path, demo: DemoModel) -> None:
    slow = tuple(replace(plan, took_us=1 if plan.runtime == "keras" else 900) for plan in demo.made.conversion.plans)
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        made = WholeConversion(replace(demo.made.conversion, plans=slow), demo.made.payload)
        _answering(world, made.payload, made)
        version = await _taken(world, "bc", "keras", demo.seed.archive)
        assert _plans(version) == [("litert", "threads"), ("keras", "process")]
        assert (version.stage, version.plan.took_us) == (Stage.STAGED, 900)


def _answering(world: World, payload: bytes, made: WholeConversion) -> None:
    async def convert(
        form: str, upload: AsyncIterator[bytes], *, size_bytes: int, sink: Sink, sample: bytes = b""
    ) -> Conversion:
        assert (form, sum([len(piece) async for piece in upload])) == ("keras", size_bytes)
        await sink(payload)
        return made.conversion

    world.gateway.upload._examiner._convert = convert


@pytest.fixture(scope="session")
def recurrent(shared_folder: Path) -> bytes:
    """A `.keras` archive with an LSTM."""
    return small_archives(shared_folder)["LSTM"]
