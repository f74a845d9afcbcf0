"""A frozen TensorFlow graph, as the confined child returned it: the plan of runtime `tensorflow`. Hostile until it passes.

Rules:
    * One GraphDef in canonical form: nothing but nodes and functions, without devices, debug information, function
      attributes, or attributes that begin with `_`; a node stands behind its inputs.
    * Operators from `tf_operators.OPERATORS` only: no variables, tables, resources, nothing that keeps state.
    * The inputs are the placeholders `input_0`, `input_1`, …, each with a served datatype and a shape of known rank; the
      outputs are identities `output_0`, `output_1`, ….
    * The rules of `tf_graph` and `tf_values`.

What this does not decide: how long it computes (a loop may not end; `has_control_flow` says that there is one) and how
much memory that takes. Both are bounded by the worker process that runs it.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Final

from maas_gateway.scanning.protobuf import Message, Wire
from maas_gateway.scanning.scanner import MAX_FINDINGS, Finding, Refusal, ScanReport, Source, clip, report_of
from maas_gateway.scanning.tf_graph import Graph, GraphLimits, Node, node_of, read_graph
from maas_gateway.scanning.tf_operators import OPERATORS
from maas_gateway.scanning.tf_reach import Root, Walk
from maas_gateway.scanning.tf_schema import SCHEMA

FORMAT: Final = "tensorflow"

_INPUT: Final = "input_"
_OUTPUT: Final = "output_"
_PORT_TYPES: Final = frozenset((1, 2, 3, 4, 5, 6, 7, 9, 10, 17, 19, 22, 23))
_MAX_RECORDS: Final = 1_000_000


class FrozenGraphScanner:
    """Scans a frozen GraphDef.

    Protects against: operators that touch anything but their inputs, state kept between requests, constants and calls
    that unfold to far more than the file holds, functions that call themselves. Not against: faults inside a kernel, and
    time and memory of what it computes.
    """

    def __init__(self, limits: GraphLimits | None = None) -> None:
        self._limits = limits or GraphLimits()

    def scan(self, source: Source) -> ScanReport:
        """Return what there is to say about `source` as a frozen graph."""
        try:
            return self._scan(Wire(source, SCHEMA, max_records=_MAX_RECORDS).root("GraphDef"))
        except Refusal as refusal:
            return report_of(FORMAT, [refusal.finding])

    def _scan(self, message: Message) -> ScanReport:
        graph = read_graph(message, self._limits)
        walk = Walk(graph)
        ports = tuple(name for name in graph.nodes if name.startswith((_INPUT, _OUTPUT)))
        judged = chain(
            walk.judge([Root("served", ports)], OPERATORS), walk.judge_rest(OPERATORS), _faults(message, graph)
        )
        findings = list(islice(judged, MAX_FINDINGS))
        return replace(report_of(FORMAT, findings), has_control_flow=walk.has_control_flow)


def _faults(message: Message, graph: Graph) -> Iterator[Finding]:
    library = message.message("library")
    if message.has("version") or (library is not None and library.has("gradient", "registered_gradients")):
        yield _fault("graph-form", "graph", "it holds more than nodes and functions.")
    for function in graph.functions.values():
        if not function.is_bare:
            yield _fault("graph-form", f"function {clip(function.name)}", "it is not in its canonical form.")
        for node in function.nodes:
            if node.op == "Placeholder":
                yield _fault(
                    "placeholder",
                    f"function {clip(function.name)}: node {clip(node.name)}",
                    "an input stands inside a function.",
                )
    yield from _node_faults(graph)
    for prefix, op in ((_INPUT, "Placeholder"), (_OUTPUT, "Identity")):
        yield from _port_faults(graph, prefix, op)


def _node_faults(graph: Graph) -> Iterator[Finding]:
    before: set[str] = set()
    for name, node in graph.nodes.items():
        where = f"graph: node {clip(name)}"
        if not node.is_bare:
            yield _fault("graph-form", where, "it is not in its canonical form.")
        if any(node_of(tensor) not in before for tensor in node.inputs):
            yield _fault("graph-order", where, "it stands before one of its inputs.")
        if node.op == "Placeholder" and not name.startswith(_INPUT):
            yield _fault("placeholder", where, f"an input must be named {_INPUT}0, {_INPUT}1, ….")
        before.add(name)


def _port_faults(graph: Graph, prefix: str, op: str) -> Iterator[Finding]:
    ports = {name: node for name, node in graph.nodes.items() if name.startswith(prefix)}
    if not ports or ports.keys() != {f"{prefix}{index}" for index in range(len(ports))}:
        yield _fault(
            "ports", "graph", f"nodes must be named {prefix}0, {prefix}1, … without a gap, and nothing else so."
        )
        return
    for name, node in ports.items():
        where = f"graph: node {clip(name)}"
        if node.op != op:
            yield _fault("ports", where, f"it must be of operator {op} and is of {clip(node.op)}.")
        elif op == "Placeholder":
            yield from _input_faults(node, where)


def _input_faults(node: Node, where: str) -> Iterator[Finding]:
    dtype, shape = node.attributes.get("dtype"), node.attributes.get("shape")
    if dtype is None or dtype.number not in _PORT_TYPES:
        yield _fault("input-type", where, "its datatype is not one that is served.")
    if shape is None or shape.shape is None:
        yield _fault("input-shape", where, "it does not declare how many dimensions it has.")


def _fault(rule: str, where: str, message: str) -> Finding:
    return Finding(rule, "refuse", where, message)
