"""Rebuilt Keras models: what a conversion may send, and everything else it might."""

import json
from typing import Any

import pytest

from maas_gateway.registry.model import ArtifactRole
from maas_gateway.scanning.catalogue import PLANS, REBUILDERS, SEALED, UPLOADS
from maas_gateway.scanning.formats import FORMATS
from maas_gateway.scanning.keras_rebuilt import RebuiltKerasScanner
from maas_gateway.scanning.scanner import ScanReport
from maas_gateway.tensors.safetensors import Flat, lay_out

DENSE = {"layers/dense/kernel": Flat("F32", (4, 3)), "layers/dense/bias": Flat("F32", (3,))}


class Content:
    """A file in memory that counts what is read of it."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size_bytes = len(content)
        self.n_read = 0

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        self.n_read += n_bytes
        return self._content[offset : offset + n_bytes]


def layer(class_name: str = "Dense", **config: Any) -> dict[str, Any]:
    return {
        "module": "keras.layers",
        "class_name": class_name,
        "config": {"name": "dense", "units": 3, **config},
        "registered_name": None,
    }


def model(*layers: dict[str, Any], **more: Any) -> dict[str, Any]:
    start = {"module": "keras.layers", "class_name": "InputLayer", "config": {"batch_shape": [None, 4], "name": "x"}}
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "m", "layers": [start, *(layers or (layer(),))]},
        "registered_name": None,
        **more,
    }


def file(config: object = None, tensors: dict[str, Flat] | None = None, **metadata: str) -> bytes:
    text = config if isinstance(config, str) else json.dumps(model() if config is None else config)
    tensors = DENSE if tensors is None else tensors
    layout, head = lay_out(tensors, {"config": text, "keras": "3.15.1", **metadata})
    return head + bytes(layout.size_bytes - len(head))


def scan(content: bytes) -> ScanReport:
    return RebuiltKerasScanner().scan(Content(content))


def test_rebuilt_model_passes_and_only_its_header_is_read() -> None:
    content = file(tensors={"layers/dense/kernel": Flat("F32", (4_000, 300)), **DENSE})
    source = Content(content)
    assert RebuiltKerasScanner().scan(source).findings == ()
    assert source.n_read < 4_000


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        pytest.param(b"", "rebuilt-layout", id="nothing"),
        pytest.param(b"\xff" * 8, "rebuilt-layout", id="a header of exbibytes"),
        pytest.param(file()[:-1], "rebuilt-layout", id="a file that is cut"),
        pytest.param(file() + b"\0", "rebuilt-layout", id="a byte that belongs to no tensor"),
        pytest.param(file(more="x"), "rebuilt-metadata", id="metadata that is not known"),
        pytest.param(lay_out(DENSE, {})[1] + bytes(60), "rebuilt-metadata", id="no metadata"),
        pytest.param(file(keras="2.15.0"), "keras-version", id="another Keras"),
        pytest.param(file("{"), "json-syntax", id="a configuration that is no JSON"),
        pytest.param(file('{"a": 1, "a": 2}'), "json-duplicate-key", id="a configuration of two readings"),
        pytest.param(file([]), "not-a-model", id="a configuration that is no model's"),
        pytest.param(file(model(layer("Lambda"))), "class-runs-code", id="a layer that runs code"),
        pytest.param(file(model(layer("Evil"))), "class-not-allowed", id="a layer that is on no list"),
        pytest.param(file(model(compile_config=None)), "rebuilt-compiled", id="how it was compiled"),
        pytest.param(
            file(json.dumps(model(compile_config=None)).replace("compile_c", "compile\\u005fc")),
            "rebuilt-compiled",
            id="the same in other letters",
        ),
        pytest.param(
            file(model({**model(), "compile_config": {"optimizer": "adam"}})),
            "rebuilt-compiled",
            id="how a model inside was compiled",
        ),
        pytest.param(
            file(model(layer("StringLookup", vocabulary="/etc/passwd"))), "vocabulary", id="a vocabulary in a file"
        ),
        pytest.param(file(tensors={"layers/../kernel": Flat("F32", (1,))}), "tensor-name", id="a name with dots"),
        pytest.param(file(tensors={"a b": Flat("F32", (1,))}), "tensor-name", id="a name with a space"),
        pytest.param(file(tensors={"/a": Flat("F32", (1,))}), "tensor-name", id="a name from the root"),
        pytest.param(
            file(tensors={f"t{n}": Flat("U8", (0,)) for n in range(100_001)}), "too-many-tensors", id="too many tensors"
        ),
    ],
)
def test_what_no_conversion_sends_is_refused(content: bytes, rule: str) -> None:
    report = scan(content)
    assert rule in [finding.rule for finding in report.refusals], report.findings


def test_every_format_and_every_plan_has_a_scanner() -> None:
    assert set(UPLOADS) == set(FORMATS)
    assert set(PLANS) == {"litert", "onnx", "openvino", "keras", "tensorflow"}
    assert set(SEALED) == {role.value for role in ArtifactRole}
    assert set(REBUILDERS) <= set(UPLOADS)
    for scanner in (*UPLOADS.values(), *PLANS.values()):
        assert scanner.scan(Content(b"\x80\x04nothing that any of them takes")).refusals
