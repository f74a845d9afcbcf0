"""TensorFlow Lite graphs: real ones pass, and whatever is changed in one, nothing outside the list is ever accepted."""

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_gateway.scanning.flatbuffer import FlatBuffer
from maas_gateway.scanning.scanner import ScanReport
from maas_gateway.scanning.tflite_graph import TFLiteLimits, TFLiteScanner
from maas_gateway.scanning.tflite_operators import OPERATORS, SIZE_INPUTS
from maas_gateway.scanning.tflite_schema import OPTIONS, TABLES
from unit.scanning.keras_files import InMemory
from unit.scanning.tflite_files import Fields, model, tensor, write


def _scan(raw: bytes, **limits: int) -> ScanReport:
    return TFLiteScanner(TFLiteLimits(**limits)).scan(InMemory(raw))


@pytest.mark.parametrize("name", ["seed", "convolutional"])
def test_scan_accepts_what_the_converter_made(models: Path, name: str) -> None:
    assert _scan((models / f"{name}.tflite").read_bytes()).findings == ()


def test_scan_accepts_the_model_that_the_tests_change() -> None:
    assert _scan(write(model())).findings == ()


def _graph(changed: Fields) -> Fields:
    graph: Fields = changed["subgraphs"][0]
    return graph


def _set(*path: str | int, to: Any) -> Callable[[Fields], None]:
    def change(changed: Any) -> None:
        for step in path[:-1]:
            changed = changed[step]
        changed[path[-1]] = to

    return change


def _code(number: int, **fields: Any) -> Callable[[Fields], None]:
    return _set("operator_codes", 0, to={"builtin_code": number, **fields})


def _tensor(index: int, **fields: Any) -> Callable[[Fields], None]:
    return _set("subgraphs", 0, "tensors", index, to=tensor(**fields))


def _operator(index: int, key: str, to: Any) -> Callable[[Fields], None]:
    return _set("subgraphs", 0, "operators", index, key, to=to)


_HOSTILE = [
    ("a custom operator", _code(32, custom_code=b"FlexReadFile"), "custom-operator", "operator_codes[0]"),
    ("custom code on a builtin operator", _code(0, custom_code=b"x"), "custom-operator", "operator_codes[0]"),
    ("WHILE that names no subgraphs", _code(119), "subgraph-index", "subgraphs[0].operators[0]"),
    ("IF that names no subgraphs", _code(118), "subgraph-index", "subgraphs[0].operators[0]"),
    ("CALL_ONCE in the new field behind ADD in the old", _code(129, deprecated_builtin_code=0), "operator-not-allowed", "operator_codes[0]"),
    ("a hash table", _code(136), "operator-not-allowed", "operator_codes[0]"),
    ("a variable handle", _code(142), "operator-not-allowed", "operator_codes[0]"),
    ("random numbers", _code(148), "operator-not-allowed", "operator_codes[0]"),
    ("a recurrent kernel", _code(44), "operator-not-allowed", "operator_codes[0]"),
    ("an operator of tomorrow", _code(5000), "operator-not-allowed", "operator_codes[0]"),
    ("a negative operator", _code(-1, deprecated_builtin_code=-1), "operator-not-allowed", "operator_codes[0]"),
    ("an impossible operator version", _code(0, version=1000), "operator-version", "operator_codes[0]"),
    ("another schema version", _set("version", to=2), "version", "version"),
    ("no subgraph", _set("subgraphs", to=[]), "subgraphs", "subgraphs"),
    ("two subgraphs", lambda changed: changed["subgraphs"].append(changed["subgraphs"][0]), "subgraphs", "subgraphs"),
    ("a first buffer with bytes", _set("buffers", 0, to={"data": b"x"}), "buffers", "buffers[0]"),
    ("no buffers", _set("buffers", to=[]), "buffers", "buffers[0]"),
    ("a buffer outside its vector", _set("buffers", 1, to={"offset": 9, "size": 9}), "external-buffer", "buffers[1]"),
    ("external buffers", _set("external_buffers", to=b""), "field-refused", "external_buffers"),
    ("custom options", _operator(0, "custom_options", b"x"), "field-refused", "subgraphs[0].operators[0].custom_options"),
    ("large custom options", _operator(0, "large_custom_options_offset", 9), "index", "subgraphs[0].operators[0]"),
    ("a mutating input", _operator(0, "mutating_variable_inputs", [True]), "index", "subgraphs[0].operators[0]"),
    ("an intermediate tensor", _operator(0, "intermediates", [2]), "index", "subgraphs[0].operators[0]"),
    ("options of a forbidden operator", _operator(0, "builtin_options_type", 103), "options-refused", "subgraphs[0].operators[0].builtin_options"),
    ("an operator code that is not there", _operator(1, "opcode_index", 2), "index", "subgraphs[0].operators[1]"),
    ("an input tensor that is not there", _operator(1, "inputs", [5, 3]), "index", "subgraphs[0].operators[1]"),
    ("an input tensor of -2", _operator(1, "inputs", [-2, 3]), "index", "subgraphs[0].operators[1]"),
    ("an output tensor of -1", _operator(1, "outputs", [-1]), "index", "subgraphs[0].operators[1]"),
    ("an operator without output", _operator(1, "outputs", []), "dataflow", "subgraphs[0].operators[1]"),
    ("an operator that writes one tensor twice", _operator(1, "outputs", [4, 4]), "dataflow", "subgraphs[0].operators[1]"),
    ("an operator that writes a constant", _operator(1, "outputs", [1]), "dataflow", "subgraphs[0].operators[1]"),
    ("an operator that writes an input", _operator(1, "outputs", [0]), "dataflow", "subgraphs[0].operators[1]"),
    ("an operator that reads what a later one writes", _operator(0, "inputs", [4, 1]), "dataflow", "subgraphs[0].operators[0]"),
    ("an output that nothing wrote", _set("subgraphs", 0, "operators", to=[]), "dataflow", "subgraphs[0].outputs"),
    ("an input that is a constant", _set("subgraphs", 0, "inputs", to=[0, 1]), "dataflow", "subgraphs[0].inputs"),
    ("a graph input that is not there", _set("subgraphs", 0, "inputs", to=[9]), "index", "subgraphs[0]"),
    ("a graph without output", _set("subgraphs", 0, "outputs", to=[]), "index", "subgraphs[0]"),
    ("a text tensor", _tensor(2, type=5), "tensor-type", "subgraphs[0].tensors[2]"),
    ("a resource tensor", _tensor(2, type=13), "tensor-type", "subgraphs[0].tensors[2]"),
    ("a variable tensor", _tensor(2, is_variable=True), "variable", "subgraphs[0].tensors[2]"),
    ("a negative dimension", _tensor(2, shape=[-1, 2]), "tensor-shape", "subgraphs[0].tensors[2]"),
    ("nine dimensions", _tensor(2, shape=[1] * 9), "tensor-shape", "subgraphs[0].tensors[2]"),
    ("2^60 elements", _tensor(2, shape=[2**30, 2**30]), "tensor-shape", "subgraphs[0].tensors[2]"),
    ("a signature of another rank", _tensor(2, shape_signature=[-1]), "tensor-shape", "subgraphs[0].tensors[2]"),
    ("a signature below -1", _tensor(2, shape_signature=[-2, 2]), "tensor-shape", "subgraphs[0].tensors[2]"),
    ("a buffer that is not there", _tensor(2, buffer=4), "index", "subgraphs[0].tensors[2].buffer"),
    ("a constant shorter than its shape", _tensor(1, buffer=2, shape=[1, 3]), "constant-size", "subgraphs[0].tensors[1]"),
    ("a sparse tensor", _tensor(1, buffer=2, sparsity=b""), "field-refused", "subgraphs[0].tensors[1].sparsity"),
    ("scales for an axis that is not there", _tensor(2, quantization={"scale": [1.0, 1.0], "zero_point": [0], "quantized_dimension": 7}), "quantization", "subgraphs[0].tensors[2]"),
    ("scales without zero points", _tensor(2, quantization={"scale": [1.0]}), "quantization", "subgraphs[0].tensors[2]"),
    ("custom quantization", _tensor(2, quantization={"details_type": 1}), "quantization", "subgraphs[0].tensors[2]"),
    ("metadata in a buffer that is not there", _set("metadata", 0, "buffer", to=4), "index", "metadata[0].buffer"),
    ("a metadata buffer that is not there", _set("metadata_buffer", to=[-1]), "index", "metadata_buffer"),
    ("a signature of a tensor that is not there", _set("signature_defs", 0, "inputs", 0, "tensor_index", to=5), "index", "signature_defs[0].inputs[0].tensor_index"),
    ("a signature of another subgraph", _set("signature_defs", 0, "subgraph_index", to=1), "index", "signature_defs[0].subgraph_index"),
    ("TILE by 2^30", _set("buffers", 3, "data", to=struct.pack("<2i", 1, 2**30)), "size-too-large", "subgraphs[0].operators[1]"),
    ("TILE by a product", _set("buffers", 3, "data", to=struct.pack("<2i", 2**11, 2**11)), "size-too-large", "subgraphs[0].operators[1]"),
    ("TILE by what a client sends", lambda changed: (_tensor(3, type=2)(changed), _graph(changed)["inputs"].append(3)), "size-not-constant", "subgraphs[0].operators[1]"),
    ("TILE without its second input", _operator(1, "inputs", [2]), "size-not-constant", "subgraphs[0].operators[1]"),
    ("TILE by floats", _tensor(3, shape=[2], type=0, buffer=3), "size-not-constant", "subgraphs[0].operators[1]"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "rule", "place"), [row[1:] for row in _HOSTILE], ids=[row[0] for row in _HOSTILE])
def test_scan_refuses(change: Callable[[Fields], object], rule: str, place: str) -> None:
    changed = model()
    change(changed)
    findings = _scan(write(changed)).findings
    assert (rule, place) in {(finding.rule, finding.where) for finding in findings}
    assert {finding.severity for finding in findings} == {"refuse"}


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        ({"max_bytes": 100}, "too-large"),
        ({"max_tensors": 4}, "too-many-tensors"),
        ({"max_tensor_elements": 5}, "tensor-shape"),
        ({"max_total_elements": 9}, "too-large"),
    ],
)
def test_scan_holds_the_limit_given(limits: dict[str, int], rule: str) -> None:
    assert rule in {finding.rule for finding in _scan(write(model()), **limits).findings}


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"", "identifier"),
        (b"\x10\0\0\0TFL2" + bytes(40), "identifier"),
        (b"\0\0\0\0TFL3" + bytes(40), "null-offset"),
        (b"\xff\xff\xff\x7fTFL3" + bytes(40), "out-of-bounds"),
        (b"\x0a\0\0\0TFL3" + bytes(40), "misaligned"),
        (b"\x08\0\0\0TFL3" + bytes(40), "vtable"),
    ],
)
def test_scan_refuses_a_file_without_a_root(raw: bytes, rule: str) -> None:
    assert [finding.rule for finding in _scan(raw).findings] == [rule]


def test_scan_refuses_a_table_that_reaches_beyond_the_file() -> None:
    raw = bytearray(write(model()))
    struct.pack_into("<H", raw, 10, 0xFFF0)
    assert [finding.rule for finding in _scan(bytes(raw)).findings] == ["vtable"]


def test_scan_refuses_a_field_that_the_schema_does_not_know() -> None:
    raw = write({**model(), "external_buffer_groups": b""})
    assert [finding.rule for finding in _scan(raw).findings] == ["field-refused"]
    longer = {**TABLES, "Buffer": (*TABLES["Buffer"], ("more", "i"))}
    raw = write(model())
    assert FlatBuffer(raw, longer, OPTIONS).root("Model").integer("version") == 3
    shorter = {**TABLES, "Metadata": TABLES["Metadata"][:1]}
    with pytest.raises(Exception, match="schema does not know"):
        FlatBuffer(raw, shorter, OPTIONS).root("Model")


def test_scan_refuses_a_small_file_that_asks_for_much_work() -> None:
    """Every operator code is one and the same table, a million times."""
    raw = bytearray(write({"version": 3, "operator_codes": [{}], "buffers": [{}]}))
    table = 8 + 4 + 2 * len(TABLES["Model"])
    table += -table % 8
    (codes,) = struct.unpack_from("<I", raw, table + 16)
    (code,) = struct.unpack_from("<I", raw, table + 16 + codes + 4)
    code += table + 16 + codes + 4
    raw += bytes(-len(raw) % 8)
    struct.pack_into("<I", raw, table + 16, len(raw) - table - 16)
    n_codes = 1_000_000
    raw += struct.pack("<I", n_codes)
    first = len(raw)
    raw += b"".join(struct.pack("<I", 0x7FFFFFFF) for _ in range(n_codes))
    assert code < first
    assert [finding.rule for finding in _scan(bytes(raw)).findings] == ["too-much"]


def _sound(raw: bytes) -> None:
    """Assert that what was accepted is inside the list, read by the schema anew."""
    root = FlatBuffer(raw, TABLES, OPTIONS).root("Model")
    for code in root.tables("operator_codes"):
        number = max(code.integer("deprecated_builtin_code"), code.integer("builtin_code"))
        assert number in OPERATORS
        custom = code.span("custom_code")
        assert custom is None or custom.n_bytes == 0
    (graph,) = root.tables("subgraphs")
    n_tensors = len(graph.tables("tensors"))
    for operator in graph.tables("operators"):
        assert operator.integer("opcode_index") < len(root.tables("operator_codes"))
        assert all(-1 <= index < n_tensors for index in operator.numbers("inputs") + operator.numbers("outputs"))
    assert all(each.integer("buffer") < len(root.tables("buffers")) for each in graph.tables("tensors"))


@pytest.mark.parametrize("name", ["seed", "convolutional", "written"])
def test_scan_never_raises_and_accepts_nothing_foreign_when_bytes_are_changed(models: Path, name: str) -> None:
    raw = write(model()) if name == "written" else (models / f"{name}.tflite").read_bytes()
    chance = random.Random(20261122)
    structure = [at for at in range(len(raw)) if at < 400 or at > len(raw) - 6000]
    n_accepted = 0
    for _ in range(1500):
        changed = bytearray(raw)
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.choice(structure)
            changed[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, changed[at] ^ (1 << chance.randrange(8))))
        report = _scan(bytes(changed))
        if not report.findings:
            n_accepted += 1
            _sound(bytes(changed))
    assert n_accepted < 1500


def test_scan_never_raises_when_the_file_is_cut() -> None:
    raw = write(model())
    for length in range(len(raw) - 16):
        assert _scan(raw[:length]).refusals, length


@given(st.binary(max_size=200))
def test_scan_never_raises_on_noise(raw: bytes) -> None:
    assert _scan(b"\x0c\0\0\0TFL3" + raw).refusals


def test_no_forbidden_operator_is_on_the_list() -> None:
    words = (
        "CUSTOM",
        "CALL",
        "WHILE",
        "IF",
        "HASHTABLE",
        "VAR",
        "RANDOM",
        "VARIABLE",
        "STABLEHLO",
        "DELEGATE",
        "LSTM",
        "RNN",
    )
    assert not {name for name in OPERATORS.values() if set(name.split("_")) & set(words)}
    assert set(SIZE_INPUTS) <= set(OPERATORS.values())
