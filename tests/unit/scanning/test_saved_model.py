"""SavedModels: what TensorFlow saves passes, every hostile one is refused with the place."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.hostile import Hostile, Scene
from builders.hostile_savedmodel import HOSTILE
from builders.tf_models import (
    FLOAT,
    call,
    calls,
    constant,
    encode,
    files_of,
    function,
    function_of,
    graph_of,
    library_of,
    meta_graph_of,
    node,
    objects_of,
    packed,
    saved_model,
    tar,
    varint,
)
from maas_gateway.scanning.saved_model import SavedModelScanner, served_signature
from maas_gateway.scanning.scanner import Refusal, ScanReport
from unit.scanning.keras_files import InMemory

LARGE = ("bomb.tar.gz", "bomb.zip", "two-streams.tar.gz")


def scan(raw: bytes) -> ScanReport:
    return SavedModelScanner().scan(InMemory(raw))


def test_scan_passes_what_tensorflow_saves() -> None:
    report = scan(packed(saved_model()))
    assert report.findings == ()
    assert report.format == "savedmodel"
    assert not report.has_control_flow


@pytest.mark.parametrize(
    "hostile",
    [
        pytest.param(hostile, id=hostile.name, marks=[pytest.mark.thorough] if hostile.name in LARGE else [])
        for hostile in HOSTILE
    ],
)
def test_scan_refuses(hostile: Hostile, tmp_path: Path) -> None:
    first = scan(hostile.build(Scene(tmp_path))).refusals[0]
    assert first.rule == hostile.rule
    assert first.where.startswith(hostile.where)
    assert list(tmp_path.iterdir()) == []


def test_hostile_files_are_many_and_their_names_unique() -> None:
    assert len(HOSTILE) == len({hostile.name for hostile in HOSTILE}) >= 60


def test_scan_says_that_a_loop_may_not_end_and_accepts_it() -> None:
    model = saved_model()
    test = function("__inference_cond_6", constant("yes", 10, bool_val=[1]), ret="yes:output:0")
    library_of(model).append(test)
    loop = node("loop", "While", "x", body=calls("__inference_inner_1"), cond=calls("__inference_cond_6"))
    function_of(model, "served")["node_def"].append(loop)
    report = scan(packed(model))
    assert report.findings == ()
    assert report.has_control_flow


def test_scan_says_nothing_of_a_loop_that_is_not_served() -> None:
    model = saved_model()
    loop = node("loop", "While", "x", body=calls("__inference_inner_1"), cond=calls("__inference_inner_1"))
    function_of(model, "spare")["node_def"].append(loop)
    assert not scan(packed(model)).has_control_flow


@pytest.mark.parametrize("op", ["AssignAddVariableOp", "RandomUniform", "LookupTableImportV2"])
def test_scan_lets_functions_that_are_not_served_keep_state(op: str) -> None:
    model = saved_model()
    function_of(model, "spare")["node_def"].append(node("update", op, "x", "x"))
    assert scan(packed(model)).findings == ()


@pytest.mark.parametrize("op", ["VarHandleOp", "ReadVariableOp", "HashTableV2", "LookupTableFindV2"])
def test_scan_lets_what_is_served_read_variables_and_tables(op: str) -> None:
    model = saved_model()
    function_of(model, "served")["node_def"].append(node("read", op))
    assert scan(packed(model)).findings == ()


def test_scan_names_every_bad_operator_once_however_many_signatures_reach_it() -> None:
    model = saved_model()
    function_of(model, "inner")["node_def"] += [node("evil", "ReadFile", "x"), node("worse", "PyFunc", "x")]
    signatures = meta_graph_of(model)["signature_def"]
    signatures["serve"] = signatures["serving_default"]
    places = [finding.where for finding in scan(packed(model)).refusals]
    assert places == [
        "signature 'serving_default': function '__inference_inner_1': node 'evil'",
        "signature 'serving_default': function '__inference_inner_1': node 'worse'",
    ]


def test_scan_accepts_constants_that_stand_for_little_more_than_they_hold() -> None:
    model = saved_model()
    function_of(model, "served")["node_def"] += [
        constant("zeros", FLOAT, (1000, 1000), float_val=[0.0]),
        constant("names", 7, (3,), string_val=[b"a", b"", b"c"]),
        constant("bytes", 3, (2,), tensor_content=bytes(8)),
        constant("complex", 8, (1,), scomplex_val=[1.0, 2.0]),
        constant("empty", FLOAT, (0, 4)),
    ]
    assert scan(packed(model)).findings == ()


def test_scan_accepts_a_lookup_table_as_tensorflow_saves_one() -> None:
    model = saved_model()
    objects_of(model).append({"resource": {}, "registered_name": "tf.StaticHashTable"})
    objects_of(model).append({"constant": {"operation": "Const"}, "registered_name": "tf.TrackableConstant"})
    assert scan(packed(model)).findings == ()


@pytest.mark.parametrize("name", ["SavedModel", "GraphDef", "NodeDef"])
def test_scan_refuses_a_field_that_it_does_not_know(name: str) -> None:
    foreign = {
        place: varint(99 << 3) + b"\x01" if place == name else b"" for place in ("SavedModel", "GraphDef", "NodeDef")
    }
    model = saved_model()
    graph = graph_of(model)
    graph["node"][0] = encode("NodeDef", graph["node"][0]) + foreign["NodeDef"]
    meta_graph_of(model)["graph_def"] = encode("GraphDef", graph) + foreign["GraphDef"]
    extra = encode("SavedModel", model) + foreign["SavedModel"]
    report = scan(tar({**files_of(saved_model()), "saved_model.pb": extra}))
    assert [finding.rule for finding in report.findings] == ["unknown-field"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["serve", "serving_default"], "serving_default"),
        (["predict"], "predict"),
        (["predict", "__saved_model_init_op"], "predict"),
    ],
)
def test_served_signature_is_the_default_or_the_only_one(names: list[str], expected: str) -> None:
    assert served_signature(names) == expected


@pytest.mark.parametrize("names", [[], ["a", "b"], ["__saved_model_init_op"]])
def test_served_signature_is_refused_where_it_is_not_clear(names: list[str]) -> None:
    with pytest.raises(Refusal, match="serving_default"):
        served_signature(names)


_RAW = packed(saved_model())


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(_RAW) - 1), st.binary(min_size=0, max_size=4), st.integers(0, 4))
def test_scan_never_raises_whatever_is_changed(at: int, put: bytes, cut: int) -> None:
    raw = _RAW[:at] + put + _RAW[at + cut :]
    assert isinstance(scan(raw), ScanReport)


@pytest.mark.thorough
def test_scan_passes_a_model_of_thousands_of_functions() -> None:
    model = saved_model()
    for number in range(3_000):
        library_of(model).append(function(f"__inference_f_{number}", call("c", "__inference_inner_1", "x")))
    assert scan(packed(model)).findings == ()
