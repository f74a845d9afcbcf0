"""ONNX models: real ones pass and stay what they are when written anew; whatever is changed, nothing foreign passes."""

import random
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import onnx
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from builders.hostile_onnx import HOSTILE, Hostile
from builders.onnx_models import SMALL, Bytes, Estimator, dense, estimators, graph, model_of, node, scalar, value
from maas_gateway.errors import ArtifactRefused
from maas_gateway.scanning.onnx_graph import ONNXLimits, ONNXScanner
from maas_gateway.scanning.onnx_operators import OPERATORS, OPSETS
from maas_gateway.scanning.onnx_ports import Port
from maas_gateway.scanning.onnx_rebuild import rebuild
from maas_gateway.scanning.scanner import ScanReport


def _scan(raw: bytes, limits: ONNXLimits | None = None) -> ScanReport:
    return ONNXScanner(limits).scan(Bytes(raw))


def _rebuilt(raw: bytes) -> bytes:
    return b"".join(rebuild(Bytes(raw)))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_scan_accepts_small_models_and_tells_control_flow(name: str) -> None:
    report = _scan(SMALL[name]().SerializeToString())
    assert report.findings == ()
    assert report.has_control_flow == (name in {"branching", "looping"})


@pytest.mark.parametrize("hostile", HOSTILE, ids=[hostile.name for hostile in HOSTILE])
def test_scan_refuses(hostile: Hostile) -> None:
    began = time.monotonic()
    findings = _scan(hostile.build()).refusals
    assert time.monotonic() - began < 10
    assert hostile.rule in {finding.rule for finding in findings}
    assert any(finding.rule == hostile.rule and finding.where.startswith(hostile.where) for finding in findings)
    assert all(finding.where.startswith("ModelProto") for finding in findings)


def test_scan_tells_what_the_model_takes_and_gives() -> None:
    report, inputs, outputs = ONNXScanner().read(Bytes(dense().SerializeToString()))
    assert report.findings == ()
    assert inputs == (Port("x", "FP32", ("n", 4)),)
    assert outputs == (Port("y", "FP32", ("n", 3)),)


def test_sentence_about_maps_says_how_to_convert() -> None:
    (zipmap,) = [hostile for hostile in HOSTILE if hostile.name == "a list of maps"]
    assert "options={'zipmap': False}" in (_scan(zipmap.build()).refuse_reason() or "")


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        (replace(ONNXLimits(), max_bytes=100), "too-large"),
        (replace(ONNXLimits(), max_nodes=2), "too-many-nodes"),
        (replace(ONNXLimits(), max_nodes=1), "too-many-tensors"),
        (replace(ONNXLimits(), max_records=20), "too-many-fields"),
        (replace(ONNXLimits(), max_tensor_elements=11), "tensor-shape"),
    ],
)
def test_scan_holds_the_limit_given(limits: ONNXLimits, rule: str) -> None:
    assert rule in {finding.rule for finding in _scan(dense().SerializeToString(), limits).refusals}


@pytest.mark.parametrize(
    "tensor",
    [
        helper.make_tensor("w", TensorProto.FLOAT, [4, 3], [1.5] * 12),
        helper.make_tensor("w", TensorProto.DOUBLE, [12], [1.5] * 12),
        helper.make_tensor("w", TensorProto.INT8, [12], [-3] * 12),
        helper.make_tensor("w", TensorProto.INT64, [40_000], [-(1 << 40)] * 40_000),
        helper.make_tensor("w", TensorProto.UINT64, [2], [1, (1 << 64) - 1]),
        helper.make_tensor("w", TensorProto.STRING, [40], [b"red", b"green"] * 20),
        helper.make_tensor("w", TensorProto.BFLOAT16, [3], [1.0, 2.0, 3.0]),
        helper.make_tensor("w", TensorProto.FLOAT, [0, 3], []),
        helper.make_tensor("w", TensorProto.INT4, [3], b"\x12\x03", raw=True),
    ],
    ids=lambda tensor: f"{TensorProto.DataType.Name(tensor.data_type)}{list(tensor.dims)}",
)
def test_tensor_passes_in_every_form_and_loses_nothing_when_written_anew(tensor: onnx.TensorProto) -> None:
    made = model_of(graph([node("Identity", "x", "y")], [value("x", [4])], [value("y", None)], tensor))
    raw = made.SerializeToString()
    assert _scan(raw).findings == ()
    assert onnx.load_from_string(_rebuilt(raw)).graph.initializer[0] == tensor
    tensor_short = onnx.TensorProto.FromString(tensor.SerializeToString())
    tensor_short.dims[0] += 2
    short = model_of(graph([node("Identity", "x", "y")], [value("x", [4])], [value("y", None)], tensor_short))
    assert {finding.rule for finding in _scan(short.SerializeToString()).refusals} == {"tensor-size"} - (
        {"tensor-size"} if 0 in tensor.dims[1:] else set()
    )


@pytest.mark.parametrize("name", sorted(SMALL))
def test_rebuilt_model_scans_clean_is_the_same_again_and_valid(name: str) -> None:
    raw = SMALL[name]().SerializeToString()
    rebuilt = _rebuilt(raw)
    assert _scan(rebuilt).findings == ()
    assert _rebuilt(rebuilt) == rebuilt
    onnx.checker.check_model(onnx.load_from_string(rebuilt), full_check=True)


def test_rebuilt_model_holds_the_model_and_nothing_for_people() -> None:
    model = dense()
    model.metadata_props.add(key="k", value="SECRET")
    model.graph.value_info.append(value("h", ["n", 3]))
    model.graph.doc_string = model.graph.node[0].doc_string = model.graph.initializer[0].doc_string = "SECRET"
    model.graph.node[1].metadata_props.add(key="k", value="SECRET")
    model.opset_import.add(domain="pkg.of.somebody", version=1)
    raw = model.SerializeToString()
    assert [finding.severity for finding in _scan(raw).findings] == ["note"]
    rebuilt = _rebuilt(raw)
    assert b"SECRET" not in rebuilt
    assert b"somebody" not in rebuilt
    assert b"a test" not in rebuilt
    again = onnx.load_from_string(rebuilt)
    assert [each.op_type for each in again.graph.node] == ["MatMul", "Add", "Relu"]
    assert list(again.graph.initializer) == [
        onnx.TensorProto(dims=each.dims, data_type=each.data_type, name=each.name, raw_data=each.raw_data)
        for each in dense().graph.initializer
    ]


def test_initializer_that_is_listed_as_an_input_becomes_a_constant() -> None:
    model = dense()
    model.ir_version = 3
    model.graph.input.extend([value("w", [4, 3]), value("b", [3])])
    report, inputs, _ = ONNXScanner().read(Bytes(model.SerializeToString()))
    assert report.findings == ()
    assert [port.name for port in inputs] == ["x"]
    again = onnx.load_from_string(_rebuilt(model.SerializeToString()))
    assert again.ir_version == 4
    assert [port.name for port in again.graph.input] == ["x"]


def test_rebuild_refuses_what_it_cannot_read() -> None:
    with pytest.raises(ArtifactRefused, match="ModelProto"):
        _rebuilt(b"\xff" * 40)


class _Huge:
    """An ONNX file with one large initializer of zeros, made as it is read; counts what was read."""

    def __init__(self, n_bytes: int) -> None:
        tensor = TensorProto(dims=[n_bytes // 4], data_type=1, name="w")
        made = model_of(graph([node("Identity", "x", "y")], [value("x", [4])], [value("y", None)], tensor))
        self._n_zeros = n_bytes
        head = tensor.SerializeToString() + b"\x4a" + _varint(n_bytes)
        made.graph.ClearField("initializer")
        inner = made.graph.SerializeToString()
        made.ClearField("graph")
        size = len(inner) + 1 + len(_varint(len(head) + n_bytes)) + len(head) + n_bytes
        self._before = (
            made.SerializeToString() + b"\x3a" + _varint(size) + inner + b"\x2a" + _varint(len(head) + n_bytes) + head
        )
        self.size_bytes = len(self._before) + n_bytes
        self.n_read = 0

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        n_bytes = max(0, min(n_bytes, self.size_bytes - offset))
        self.n_read += n_bytes
        start = self._before[offset : offset + n_bytes]
        return start + bytes(n_bytes - len(start))


def _varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + _varint(number >> 7) if number > 127 else bytes([number])


def test_content_of_tensors_is_not_read_by_the_scan_and_once_by_the_rebuilding() -> None:
    source = _Huge(64 << 20)
    assert ONNXScanner().scan(source).findings == ()
    assert source.n_read < 1 << 20
    source.n_read = 0
    largest = 0
    n_written = 0
    for piece in rebuild(source):
        largest, n_written = max(largest, len(piece)), n_written + len(piece)
    assert n_written > 64 << 20
    assert source.n_read < (64 << 20) + (1 << 20)
    assert largest <= 1 << 20


def test_sizes_made_of_shapes_pass_and_multiplied_by_much_do_not() -> None:
    nodes = [node("Shape", "x", "s"), node("Mul", "s k", "m"), node("ConstantOfShape", "m", "y")]

    def of(factor: int) -> bytes:
        made = graph(nodes, [value("x", ["n", 4])], [value("y", None)], scalar("k", factor))
        return model_of(made).SerializeToString()

    assert _scan(of(2)).findings == ()
    assert {finding.rule for finding in _scan(of(1 << 30)).findings} == {"size-too-large"}


def test_attribute_rows_are_counted_packed_or_not() -> None:
    made = node("TfIdfVectorizer", "x", "y", pool_int64s=list(range(1000)), weights=[0.5] * 1000)
    model = model_of(graph([made], [value("x", ["n", 4], TensorProto.INT64)], [value("y", None)]))
    raw = model.SerializeToString()
    assert _scan(raw).findings == ()
    again = onnx.load_from_string(_rebuilt(raw))
    assert again.graph.node[0].attribute == model.graph.node[0].attribute


def _operators(made: onnx.GraphProto) -> Iterator[tuple[str, str]]:
    for each in made.node:
        yield "" if each.domain == "ai.onnx" else each.domain, each.op_type
        for attribute in each.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _operators(inner)


def _assert_sound(raw: bytes) -> None:
    """Assert with the `onnx` package that what was accepted is inside the list and the file."""
    try:
        model = onnx.load_from_string(raw)
    except DecodeError:  # stricter than ours about something that the engine refuses as well
        return
    assert not model.functions
    assert not model.training_info
    assert all(name in OPERATORS[domain] for domain, name in _operators(model.graph))
    assert b"external_data" not in str(model).encode()
    assert {"" if each.domain == "ai.onnx" else each.domain for each in model.opset_import} & set(OPSETS)


def _mutate(raw: bytes, chance: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(chance.choice((1, 1, 2, 5))):
        at = chance.randrange(len(changed))
        kind = chance.randrange(4)
        if kind == 0:
            changed[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif kind == 2:
            del changed[at : at + chance.randrange(1, 9)]
        else:
            changed[at:at] = changed[chance.randrange(len(changed)) :][: chance.randrange(1, 40)]
        if not changed:
            return b""
    return bytes(changed)


def _fuzz(raw: bytes, n_rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(n_rounds):
        changed = _mutate(raw, chance)
        began = time.monotonic()
        report = _scan(changed)
        assert time.monotonic() - began < 1
        if not report.refusals:
            _assert_sound(changed)
            assert _scan(_rebuilt(changed)).findings == ()


@pytest.mark.parametrize("name", sorted(SMALL))
def test_scan_never_raises_and_accepts_nothing_foreign_when_bytes_are_changed(name: str) -> None:
    _fuzz(SMALL[name]().SerializeToString(), 150, 20261122)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(SMALL))
def test_scan_never_raises_and_accepts_nothing_foreign_when_many_bytes_are_changed(name: str) -> None:
    _fuzz(SMALL[name]().SerializeToString(), 20_000, 7)


def test_scan_never_raises_when_the_file_is_cut() -> None:
    raw = dense().SerializeToString()
    assert all(_scan(raw[:length]).refusals for length in range(len(raw) - 40))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_scan_never_raises_on_noise(raw: bytes) -> None:
    if not _scan(raw).refusals:
        _assert_sound(raw)


@pytest.fixture(scope="module")
def converted() -> dict[str, Estimator]:
    return {estimator.name: estimator for estimator in estimators()}


_NAMES = (
    "decision tree",
    "random forest",
    "gradient boosting",
    "support vectors",
    "logistic regression",
    "perceptrons",
    "scaled vectors",
    "linear regression",
    "regression forest",
    "regression vectors",
    "mixed columns",
)


@pytest.mark.thorough
@pytest.mark.parametrize("name", _NAMES)
def test_estimator_of_scikit_learn_passes_and_answers_as_it_does(converted: dict[str, Estimator], name: str) -> None:
    from maas_gateway.inference.runtimes.onnx import from_engine, open_session, to_engine

    estimator = converted[name]
    assert _scan(estimator.content).refusals == ()
    rebuilt = _rebuilt(estimator.content)
    assert _scan(rebuilt).findings == ()
    inputs = {name: to_engine(name, array) for name, array in estimator.inputs.items()}
    answers = [open_session(raw).run(None, inputs) for raw in (estimator.content, rebuilt)]
    for original, again, expected in zip(*answers, estimator.expected, strict=True):
        np.testing.assert_array_equal(original, again)
        largest = np.abs(expected).max()
        np.testing.assert_allclose(from_engine(again), expected, rtol=0, atol=1e-5 * max(largest, 1e-9))


def test_lists_hold_what_the_standard_has() -> None:
    known: dict[str, set[str]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        known.setdefault(schema.domain, set()).add(schema.name)
    assert all(names <= known[domain] for domain, names in OPERATORS.items())
    words = ("Random", "Multinomial", "Bernoulli", "Image", "Optional", "Gradient", "Adam")
    assert not [name for names in OPERATORS.values() for name in names if name.startswith(words)]
    assert OPSETS[""][-1] == onnx.defs.onnx_opset_version()
