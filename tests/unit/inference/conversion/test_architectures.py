"""An architecture of each family, converted as an upload is: the plan answers as Keras does, and ranks the same.

Weights are random, rescaled until the largest output exceeds 0.1. VGG16 (10 GiB to convert) and InceptionResNetV2 are
left to whoever has the memory: only their configs are looked at (`unit/scanning/test_benign_models.py`).
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from builders.conversions import converted
from maas_gateway.scanning.catalogue import PLANS
from maas_gateway.scanning.keras_archive import KerasScanner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

_BUILDER = Path(__file__).parents[3] / "builders" / "benign_keras.py"
_TOLERANCE = 1e-5
_REBUILT_TOLERANCE = 1e-6
_NAMES = [
    "MobileNetV3Small",
    "MobileNetV2",
    "MobileNet",
    "EfficientNetB0",
    "NASNetMobile",
    "EfficientNetV2B0",
    "DenseNet121",
    "Xception",
    "InceptionV3",
    "ResNet50V2",
    "ResNet50",
    "ConvNeXtTiny",
]


class _Bytes:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size_bytes = len(content)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        return self._content[offset : offset + n_bytes]


@pytest.mark.parametrize("name", _NAMES)
def test_plan_of_an_architecture_answers_and_ranks_as_keras_does(tmp_path: Path, name: str) -> None:
    command = [sys.executable, str(_BUILDER), str(tmp_path), "answering", name]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **quiet})
    raw = (tmp_path / "model.keras").read_bytes()
    rows, answers = np.load(tmp_path / "rows.npy"), np.load(tmp_path / "answers.npy")
    assert np.abs(answers).max() > 0.1
    assert KerasScanner().scan(_Bytes(raw)).findings == ()
    made = asyncio.run(converted("keras", raw, deadline_s=1_000))
    assert set(made.plans) == {"keras", "litert"}, made.conversion.notes
    assert made.plans["keras"].max_relative_error <= _REBUILT_TOLERANCE
    for runtime in made.plans:
        assert PLANS[runtime].scan(_Bytes(made.content(runtime))).refusals == ()
    given = _run(made.content("litert"), rows)
    assert np.abs(given - answers).max() <= _TOLERANCE * np.abs(answers).max()
    assert (given.argmax(axis=1) == answers.argmax(axis=1)).all()
    assert (np.diff(np.take_along_axis(given, np.argsort(answers, axis=1), axis=1)) >= -_TOLERANCE).all()


def _run(plan: bytes, rows: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=plan)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, rows.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, rows)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
