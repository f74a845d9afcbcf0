"""Frozen graphs as the child returns them: the canonical form passes and nothing else."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.tf_models import FLOAT, RESOURCE, Fields, calls, constant, encode, frozen_graph, function, node, shape
from maas_gateway.scanning.frozen_graph import FrozenGraphScanner
from maas_gateway.scanning.scanner import ScanReport
from unit.scanning.keras_files import InMemory

Change = Callable[[Fields], Any]


def scan(raw: bytes) -> ScanReport:
    return FrozenGraphScanner().scan(InMemory(raw))


def insert(*nodes: Fields) -> Change:
    def change(graph: Fields) -> None:
        graph["node"][2:2] = nodes

    return change


def in_function(*nodes: Fields) -> Change:
    return lambda graph: graph["library"]["function"][0]["node_def"].extend(nodes)


def of_node(index: int, **fields: Any) -> Change:
    return lambda graph: graph["node"][index].update(fields)


def with_attribute(index: int, name: str, value: Fields) -> Change:
    return lambda graph: graph["node"][index]["attr"].update({name: value})


HOSTILE: list[tuple[str, Change, str, str]] = [
    ("a file read", insert(node("n9", "ReadFile", "n0")), "operator-not-allowed", "not in use: graph: node 'n9'"),
    ("a file read inside", in_function(node("evil", "ReadFile", "x")), "operator-not-allowed", "served: function 'f0'"),
    ("a variable", insert(node("n9", "VarHandleOp")), "operator-not-allowed", "not in use: graph: node 'n9'"),
    ("a table", insert(node("n9", "HashTableV2")), "operator-not-allowed", "not in use: graph: node 'n9'"),
    ("a random number", in_function(node("r", "RandomUniform", "x")), "operator-keeps-state", "served: function 'f0'"),
    ("the saver", insert(node("n9", "SaveV2", "n0")), "operator-not-allowed", "not in use: graph: node 'n9'"),
    ("an input of another name", insert(node("x", "Placeholder")), "placeholder", "graph: node 'x'"),
    ("an input inside a function", in_function(node("p", "Placeholder")), "placeholder", "function 'f0': node 'p'"),
    ("a resource as input", with_attribute(0, "dtype", {"type": RESOURCE}), "input-type", "graph: node 'input_0'"),
    ("an input of no type", of_node(0, attr={"shape": {"shape": shape(-1)}}), "input-type", "graph: node 'input_0'"),
    (
        "an input of unknown rank",
        with_attribute(0, "shape", {"shape": {"unknown_rank": 1}}),
        "input-shape",
        "graph: node 'input_0'",
    ),
    ("a gap in the outputs", of_node(4, name="output_1"), "ports", "graph"),
    ("no outputs", of_node(4, name="n9"), "ports", "graph"),
    ("an output that computes", of_node(4, op="Neg"), "ports", "graph: node 'output_0'"),
    ("an input that is a constant", of_node(0, op="Const"), "ports", "graph: node 'input_0'"),
    ("a device", of_node(2, device="/job:worker/task:1"), "graph-form", "graph: node 'n1'"),
    ("a hidden attribute", with_attribute(2, "_XlaMustCompile", {"b": 1}), "graph-form", "graph: node 'n1'"),
    ("a session's settings", with_attribute(3, "config_proto", {"s": b"\x08\x01"}), "graph-form", "graph: node 'n2'"),
    ("an executor by name", with_attribute(3, "executor_type", {"s": b"X"}), "graph-form", "graph: node 'n2'"),
    ("a hidden attribute inside", in_function(node("d", "Neg", "x", _a={"b": 1})), "graph-form", "function 'f0'"),
    ("names for a debugger", of_node(2, experimental_debug_info={}), "graph-form", "graph: node 'n1'"),
    ("a node before its input", lambda graph: graph["node"].reverse(), "graph-order", "graph: node"),
    ("a cycle", of_node(2, input=["input_0", "n2"]), "graph-order", "graph: node 'n1'"),
    ("a gradient", lambda graph: graph["library"].update(gradient=[{}]), "graph-form", "graph"),
    (
        "attributes of a function",
        lambda graph: graph["library"]["function"][0].update(attr={"a": {"b": 1}}),
        "graph-form",
        "function 'f0'",
    ),
    ("a recursion", in_function(node("c", "PartitionedCall", "x", f=calls("f0"))), "recursion", "function 'f0'"),
    ("a constant bomb", insert(constant("n9", FLOAT, (1 << 26,))), "constant-bomb", "graph: node 'n9'"),
    (
        "a call to nowhere",
        insert(node("n9", "If", "n0", then_branch=calls("f9"))),
        "unknown-function",
        "graph: node 'n9'",
    ),
]


def test_scan_passes_the_canonical_form() -> None:
    report = scan(encode("GraphDef", frozen_graph()))
    assert report.findings == ()
    assert not report.has_control_flow


@pytest.mark.parametrize("row", HOSTILE, ids=[row[0] for row in HOSTILE])
def test_scan_refuses(row: tuple[str, Change, str, str]) -> None:
    _, change, rule, where = row
    graph = frozen_graph()
    change(graph)
    refusals = scan(encode("GraphDef", graph)).refusals
    assert any(finding.rule == rule and finding.where.startswith(where) for finding in refusals), refusals


@pytest.mark.parametrize("op", ["While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase"])
def test_scan_says_that_a_graph_may_loop(op: str) -> None:
    graph = frozen_graph()
    graph["library"]["function"].append(function("f1", node("loop", op, "x", body=calls("f0"))))
    graph["node"][3]["attr"]["f"] = calls("f1")
    report = scan(encode("GraphDef", graph))
    assert report.findings == ()
    assert report.has_control_flow


@pytest.mark.parametrize("raw", [b"", b"\x00", b"PK\x03\x04", b"\x0a\xff", b"\xff" * 64])
def test_scan_refuses_what_is_no_graph(raw: bytes) -> None:
    assert scan(raw).refusals


_RAW = encode("GraphDef", frozen_graph())


@settings(max_examples=80, deadline=None)
@given(st.integers(0, len(_RAW) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_scan_never_raises_whatever_is_changed(at: int, put: bytes, cut: int) -> None:
    assert isinstance(scan(_RAW[:at] + put + _RAW[at + cut :]), ScanReport)
