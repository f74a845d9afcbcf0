"""An architecture of each family, converted as an upload is: the plan answers as Keras does, and ranks the same.

Weights are random, rescaled until the largest output exceeds 0.1. VGG16 (10 GiB to convert) and InceptionResNetV2 are
left to whoever has the memory: only their configs are looked at (`unit/scanning/test_benign_models.py`).
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from maas_gateway.inference.conversion.convert import convert, limits_for
from maas_gateway.scanning.keras_archive import KerasScanner
from maas_gateway.scanning.tflite_graph import TFLiteScanner

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

_BUILDER = Path(__file__).parents[3] / "builders" / "benign_keras.py"
_TOLERANCE = 1e-5
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


async def _pieces(raw: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(raw), 1 << 20):
        yield raw[start : start + (1 << 20)]


@pytest.mark.parametrize("name", _NAMES)
def test_plan_of_an_architecture_answers_and_ranks_as_keras_does(tmp_path: Path, name: str) -> None:
    command = [sys.executable, str(_BUILDER), str(tmp_path), "answering", name]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **quiet})
    raw = (tmp_path / "model.keras").read_bytes()
    rows, answers = np.load(tmp_path / "rows.npy"), np.load(tmp_path / "answers.npy")
    assert np.abs(answers).max() > 0.1
    assert KerasScanner().scan(_Bytes(raw)).findings == ()
    contents = bytearray()

    async def sink(piece: bytes) -> None:
        contents.extend(piece)

    limits = limits_for(len(raw), max_memory_bytes=16 << 30)
    conversion = asyncio.run(
        convert("keras", _pieces(raw), size_bytes=len(raw), sink=sink, limits=limits, deadline_s=1_000)
    )
    (litert,) = (plan for plan in conversion.plans if plan.runtime == "litert")
    content = bytes(contents[litert.offset : litert.offset + litert.n_bytes])
    assert TFLiteScanner().scan(_Bytes(content)).refusals == ()
    given = _run(content, rows)
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
