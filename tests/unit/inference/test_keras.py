"""Keras as a runtime, in a program of its own: what it answers, what it leaves behind, what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maas_gateway.confinement.limits import Limits
from maas_gateway.confinement.resident import ResidentChild
from maas_gateway.inference.process import MODULE, Plan, ProcessRuntime
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keras")


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("build_keras.py")), str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("name", ["dense", "recurrent", "stateful", "random", "several"])
def test_it_answers_what_keras_answers_and_the_same_again(found: dict[str, Any], name: str) -> None:
    compared = found["compared"][name]
    assert compared["error"] < 1e-5
    assert compared["drift"] == 0, "something was left by the call before"


def test_strings_come_as_they_are(found: dict[str, Any]) -> None:
    assert found["strings"] == [True, True]


def test_an_input_that_it_cannot_compute_is_the_requests_fault(found: dict[str, Any]) -> None:
    assert found["bad_index"] == "InvalidRequest: the model cannot compute this input"


def test_a_graph_that_writes_a_variable_is_refused_wherever_it_does(found: dict[str, Any]) -> None:
    assert found["graph_that_writes"].startswith("ArtifactRefused: the model keeps something between calls")
    assert "AssignAddVariableOp" in found["graph_that_writes"]


@pytest.mark.parametrize("what", ["another width", "another output", "another order", "two outputs", "no file"])
def test_a_plan_that_is_not_its_signatures_is_refused(found: dict[str, Any], what: str) -> None:
    assert found["wrong"][what].startswith("ArtifactRefused: ")
    assert "the Keras model" in found["wrong"][what]


def test_it_runs_in_a_confined_process(found: dict[str, Any], folder: Path) -> None:
    content = (folder / "dense.safetensors").read_bytes()
    signature = ModelSignature((TensorSpec("x", Datatype.FP32, (-1, 4)),), (TensorSpec("y", Datatype.FP32, (-1, 3)),))
    plan = Plan("keras", signature, (0,), (0,))
    child = ResidentChild(
        MODULE,
        limits=Limits(cpu_s=0),
        arguments=plan.arguments(size_bytes=len(content), n_threads=1),
    )
    runtime = ProcessRuntime.load(child, memoryview(content), signature, load_s=120, call_s=20)
    try:
        (y,) = runtime.run((np.ones((2, 4), np.float32),))
        np.testing.assert_allclose(y, np.load(folder / "dense.npy"), rtol=1e-6)
        threads = len(list(Path(f"/proc/{runtime.pid}/task").iterdir()))
        assert threads < 10
    finally:
        runtime.close()
