"""Keras as a runtime, in a program of its own: what it answers, what it leaves behind, what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("build_keras.py"))],
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
