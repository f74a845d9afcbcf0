"""The seed network: trained in a child, handed over as bytes, worth what it says."""

import asyncio
import io
import zipfile
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from builders.conversions import converted
from maas_gateway.confinement.conversation import ChildAnswer
from maas_gateway.confinement.failure import ChildFailed, FailureKind
from maas_gateway.training.seed import EpochDone, TrainedSeed, _read, train_seed

pytestmark = pytest.mark.thorough

Trained = tuple[TrainedSeed, list[EpochDone]]


@pytest.fixture(scope="module")
def trained() -> Trained:
    epochs: list[EpochDone] = []
    return asyncio.run(train_seed(epochs.append)), epochs


def test_training_tells_every_epoch(trained: Trained) -> None:
    _, epochs = trained
    assert [(epoch.epoch, epoch.of) for epoch in epochs] == [(n, 10) for n in range(1, 11)]
    assert epochs[-1].loss < epochs[0].loss
    assert 0.9 < epochs[-1].accuracy <= 1


def test_seed_is_worth_serving(trained: Trained) -> None:
    seed, _ = trained
    assert 0.93 < seed.accuracy <= 1
    assert 0.5 < seed.expected <= 1
    assert len(seed.example) == 30
    assert all(float(f"{value:.4g}") == value for value in seed.example)


def test_archive_holds_what_keras_would_have_saved(trained: Trained) -> None:
    with zipfile.ZipFile(io.BytesIO(trained[0].archive)) as members:
        assert set(members.namelist()) == {"metadata.json", "config.json", "model.weights.h5"}


def test_seed_converts_and_answers_its_example(trained: Trained) -> None:
    seed, _ = trained

    made = asyncio.run(converted("keras", seed.archive))
    interpreter = Interpreter(model_content=made.content("litert"))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.float32([seed.example]))
    interpreter.invoke()
    answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert float(answer[0, 0]) == pytest.approx(seed.expected, abs=1e-5)


@pytest.mark.parametrize(
    ("header", "payload"),
    [
        pytest.param({"accuracy": 0.9, "example": [0.0] * 30, "expected": 0.5}, b"", id="no archive"),
        pytest.param({"accuracy": 0.9, "example": [0.0] * 29, "expected": 0.5}, b"PK", id="a short example"),
        pytest.param({"accuracy": 0.9, "example": ["0"] * 30, "expected": 0.5}, b"PK", id="an example of strings"),
        pytest.param({"accuracy": float("nan"), "example": [0.0] * 30, "expected": 0.5}, b"PK", id="no accuracy"),
        pytest.param({"accuracy": 0.9, "example": [0.0] * 30}, b"PK", id="nothing expected"),
    ],
)
def test_answer_of_the_child_is_read_strictly(header: dict[str, Any], payload: bytes) -> None:
    with pytest.raises(ChildFailed) as caught:
        _read(ChildAnswer(header, payload, ()))
    assert caught.value.kind is FailureKind.PROTOCOL
