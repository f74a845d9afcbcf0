"""Models as flat files and back: every layer that Keras saves answers as before, and the file passes its scanner."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builders.benign import small_archives
from maas_gateway.confinement.child import run_child
from maas_gateway.confinement.limits import Limits
from maas_gateway.scanning.keras_rebuilt import RebuiltKerasScanner
from maas_gateway.tensors.safetensors import PREFIX_BYTES, header_bytes, read_layout

# Recurrent, attending, normalising and preprocessing layers, and what keeps variables at odd places.
LISTED = [
    *("LSTM", "GRU", "SimpleRNN", "Bidirectional", "RNN of cells", "TimeDistributed", "ConvLSTM1D", "Embedding"),
    *("Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention"),
    *("BatchNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization", "UnitNormalization"),
    *("SpectralNormalization", "Normalization", "Normalization with statistics", "Dense of half precision"),
    *("Discretization", "Discretization by boundaries", "CategoryEncoding", "Hashing", "Dense of low rank"),
    *("IntegerLookup", "IntegerLookup adapted", "IntegerLookup of frequencies", "lookups in nested models"),
    *("StringLookup", "StringLookup adapted", "StringLookup inverted", "TextVectorization", "Dropout"),
    *("TextVectorization adapted", "Rescaling", "Resizing", "CenterCrop", "Pipeline", "RandomFlip"),
]
# Keras 3.15.1 itself cannot load or run these, or they declare no inputs.
NOT_RUN = {
    *("Equalization", "HashedCrossing", "RandomShear", "operation linalg.Norm", "operation nn.ConvTranspose"),
    *("operation nn.AdaptiveAveragePool", "operation nn.AdaptiveMaxPool"),
}


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What became of an archive."""

    told: Mapping[str, Any]
    content: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        return self.content[offset : offset + n_bytes]


@pytest.fixture(scope="session")
def archives(shared_folder: Path) -> dict[str, bytes]:
    return small_archives(shared_folder)


def rebuilt(archives: Mapping[str, bytes], *, deadline_s: float) -> dict[str, Rebuilt]:
    answer = asyncio.run(
        run_child(
            "rebuild_each",
            request=list(archives.values()),
            arguments={"sizes": [len(archive) for archive in archives.values()]},
            limits=Limits(cpu_s=2 * int(deadline_s)),
            deadline_s=deadline_s,
            search_paths=[Path(__file__).parent / "children"],
        )
    )
    found, offset = {}, 0
    for name, told in zip(archives, answer.header["told"], strict=True):  # type: ignore[call-overload]
        found[name] = Rebuilt(told, answer.payload[offset : offset + told["n_bytes"]])
        offset += told["n_bytes"]
    return found


def check(name: str, model: Rebuilt) -> None:
    assert "refused" not in model.told, (name, model.told)
    assert model.told["error"] <= 1e-6, name
    assert model.told["n_compared"] > 0, name
    assert model.told["again"] == model.size_bytes, f"{name}: it is laid out otherwise once it was rebuilt"
    assert RebuiltKerasScanner().scan(model).refuse_reason() is None, name


@pytest.mark.thorough
def test_listed_layers_answer_as_before_when_they_are_rebuilt(archives: dict[str, bytes]) -> None:
    made = rebuilt({name: archives[name] for name in LISTED}, deadline_s=240)
    for name, model in made.items():
        check(name, model)
    names = _names(made["RNN of cells"])
    assert "layers/rnn/cell/cells/lstm_cell/recurrent_kernel" in names
    assert len(names) == made["RNN of cells"].told["n_variables"]
    assert _names(made["Dropout"]) == ["layers/dropout/seed_generator_state"]
    assert "layers/batch_normalization/moving_variance" in _names(made["BatchNormalization"])


@pytest.mark.slow
def test_every_layer_and_operation_answers_as_before_when_it_is_rebuilt(archives: dict[str, bytes]) -> None:
    for name, model in rebuilt(archives, deadline_s=900).items():
        if name not in NOT_RUN:
            check(name, model)


def _names(model: Rebuilt) -> list[str]:
    end = PREFIX_BYTES + header_bytes(model.content[:PREFIX_BYTES])
    return list(read_layout(model.content[PREFIX_BYTES:end], size_bytes=model.size_bytes).tensors)
