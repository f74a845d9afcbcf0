"""An ONNX model: read strictly, held to a list of operators, all its bytes inside the file.

Rules:
    * A ModelProto whose every field is known (`onnx_schema`), IR version 3 to 14, opsets that `onnx_operators` was
      made for. An opset of another domain is noted if no operator is of it, and is dropped when the model is rebuilt.
    * Operators by domain and name from `onnx_operators`, in the graph and in every graph inside it. No local
      functions: they name operators of their own (`onnx.inliner` puts them in line).
    * Tensors hold what they declare (`onnx_tensors`); no external data, no sparse tensors, no training graphs.
    * Data flows forward: a node reads what stands in the file, came in or was written before it, and a name is
      written once, in nested graphs also not over an outer one.
    * Nothing but inference: no dropout or normalisation in training mode.
    * What sets a size is bounded and not a client's (`onnx_sizes`); nodes and nested graphs are counted.
    * Inputs and outputs are tensors that a client can send and receive (`onnx_ports`).

What this does not decide: whether an operator's attributes fit it. The engine checks them when it loads the model,
first of all in a confined child.

Source: onnx 1.23.2, docs/IR.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from maas_gateway.scanning.onnx_nodes import attribute_faults, constant_of, domain_of, operator_faults, training_faults
from maas_gateway.scanning.onnx_operators import CONTROL_FLOW, OPSETS
from maas_gateway.scanning.onnx_ports import Port, inner_faults, is_name, port_faults, port_of
from maas_gateway.scanning.onnx_schema import SCHEMA
from maas_gateway.scanning.onnx_sizes import GIVEN, Origin, Sizes, attribute_numbers, constant_tensor, origin_of
from maas_gateway.scanning.onnx_tensors import Fault, tensor_faults
from maas_gateway.scanning.protobuf import Message, Wire
from maas_gateway.scanning.scanner import MAX_FINDINGS, Finding, Refusal, ScanReport, Source, clip, report_of

FORMAT: Final = "onnx"

_IR_VERSIONS: Final = range(3, 15)


@dataclass(frozen=True, slots=True)
class ONNXLimits:
    """What one model may declare.

    Attributes:
        max_bytes: the file; protocol buffers end below 2 GiB.
        max_nodes: nodes of all graphs; as many initializers.
        max_graph_depth: graphs inside graphs.
        max_tensor_elements: elements of one tensor of the file.
        max_size_argument: constants that set one size (see `onnx_sizes`).
        max_total_size: such sizes together.
        max_records: fields read.
    """

    max_bytes: int = (1 << 31) - 1
    max_nodes: int = 50_000
    max_graph_depth: int = 8
    max_tensor_elements: int = 2**31
    max_size_argument: int = 2**26
    max_total_size: int = 2**28
    max_records: int = 3_000_000


class ONNXScanner:
    """Scans an ONNX file.

    Protects against: operators outside the standard, bytes read from other files, tensors that are not what they
    declare, sizes that a client sets, state kept between requests. Not against: faults inside an engine's kernel, and
    not against growth by ordinary operators, which the engine's memory bound ends.
    """

    def __init__(self, limits: ONNXLimits | None = None) -> None:
        self._limits = limits or ONNXLimits()

    def scan(self, source: Source) -> ScanReport:
        """Return what there is to say about `source` as an ONNX model."""
        return self.read(source)[0]

    def read(self, source: Source) -> tuple[ScanReport, tuple[Port, ...], tuple[Port, ...]]:
        """Return the report, and what the model takes and gives; the latter is empty where something is refused."""
        if source.size_bytes > self._limits.max_bytes:
            finding = Finding("too-large", "refuse", "byte 0", "the model is larger than allowed.")
            return report_of(FORMAT, [finding]), (), ()
        reading = _Reading(self._limits)
        found: list[Finding] = []
        try:
            model = Wire(source, SCHEMA, max_records=self._limits.max_records).root("ModelProto")
            for rule, where, message in reading.model_faults(model):
                found.append(Finding(rule, "refuse", where, message))
                if len(found) == MAX_FINDINGS:
                    break
        except Refusal as refusal:
            found.append(refusal.finding)
        report = report_of(FORMAT, found or reading.notes)
        report = replace(report, has_control_flow=reading.has_control_flow)
        return (report, (), ()) if found else (report, tuple(reading.inputs), tuple(reading.outputs))


@dataclass(frozen=True, slots=True)
class Scope:
    """The values that a graph's nodes can name: its own, and those of the graphs around it."""

    outer: "Scope | None" = None
    own: dict[str, Origin] = field(default_factory=dict)

    def find(self, name: str) -> Origin | None:
        """Return a value's origin, None if there is no such value yet."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.own:
                return scope.own[name]
            scope = scope.outer
        return None

    @property
    def depth(self) -> int:
        """How many graphs are around this one."""
        return 0 if self.outer is None else 1 + self.outer.depth


class _Reading:
    """The rules on one model, and what was met on the way."""

    def __init__(self, limits: ONNXLimits) -> None:
        self._limits = limits
        self._sizes = Sizes(limits.max_size_argument, limits.max_total_size)
        self._nodes_left = limits.max_nodes
        self._tensors_left = limits.max_nodes
        self._opsets: Mapping[str, int] = {}
        self.has_control_flow = False
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []
        self.notes: list[Finding] = []

    def model_faults(self, model: Message) -> Iterator[Fault]:
        """Yield what is wrong with the model."""
        if model.integer("ir_version") not in _IR_VERSIONS:
            yield "ir-version", model.at, f"IR version {model.integer('ir_version')} is not 3 to 14."
        if model.has("training_info"):
            yield (
                "training",
                f"{model.at}.training_info",
                "a model for training is not accepted; export it for inference.",
            )
        if model.has("functions"):
            yield (
                "local-function",
                f"{model.at}.functions",
                "put them in line: onnx.inliner.inline_local_functions(model).",
            )
        if model.has("configuration"):
            yield "devices", f"{model.at}.configuration", "a model divided over devices is not accepted."
        yield from self._opset_faults(model)
        graph = model.message("graph")
        if graph is None:
            yield "graph", model.at, "this is no ONNX model: it has no graph."
            return
        yield from self._graph_faults(graph, Scope(), ())

    def _opset_faults(self, model: Message) -> Iterator[Fault]:
        opsets: dict[str, int] = {}
        for entry in model.messages("opset_import"):
            domain, version = domain_of(entry), entry.integer("version")
            if opsets.get(domain, version) != version:
                yield "opset", entry.at, f"domain {clip(domain)} is imported in two versions."
            opsets[domain] = version
            if domain not in OPSETS:
                message = f"the operators of domain {clip(domain)} are not accepted; none is used."
                self.notes.append(Finding("unused-domain", "note", entry.at, message))
            elif version not in OPSETS[domain]:
                known = OPSETS[domain]
                yield "opset", entry.at, f"opset {version} of {clip(domain)} is not {known[0]} to {known[-1]}."
        self._opsets = opsets

    def _graph_faults(self, graph: Message, scope: Scope, taken: Sequence[Origin]) -> Iterator[Fault]:
        """Check one graph; `taken` are the origins of what a nested one is given."""
        if scope.depth > self._limits.max_graph_depth:
            yield "nested-too-deeply", graph.at, f"graphs are nested more than {self._limits.max_graph_depth} deep."
            return
        if graph.has("sparse_initializer"):
            yield "sparse", f"{graph.at}.sparse_initializer", "sparse tensors are not accepted; write them in full."
        for tensor in graph.messages("initializer"):
            self._tensors_left -= 1
            if self._tensors_left < 0:
                raise Refusal("too-many-tensors", tensor.at, f"more than {self._limits.max_nodes} tensors.")
            faults = list(tensor_faults(tensor, max_elements=self._limits.max_tensor_elements))
            yield from faults
            origin = Origin() if faults else constant_tensor(tensor)
            yield from self._write_faults(tensor.text("name"), tensor.at, scope, origin)
        yield from self._input_faults(graph, scope, taken)
        for node in graph.messages("node"):
            self._nodes_left -= 1
            if self._nodes_left < 0:
                raise Refusal("too-many-nodes", node.at, f"more than {self._limits.max_nodes} nodes.")
            yield from self._node_faults(node, scope)
        yield from self._output_faults(graph, scope)

    def _write_faults(self, name: str, at: str, scope: Scope, origin: Origin) -> Iterator[Fault]:
        """Make a value known under its name, which must be new."""
        if not is_name(name):
            yield "name", at, f"{clip(name)} cannot name a value."
        elif scope.find(name) is not None:
            yield "dataflow", at, f"value {clip(name)} is written twice."
        scope.own[name] = origin

    def _input_faults(self, graph: Message, scope: Scope, taken: Sequence[Origin]) -> Iterator[Fault]:
        """Check what a graph takes; before IR version 4, initializers of the model are listed there as well."""
        seen: set[str] = set()
        for index, value in enumerate(graph.messages("input")):
            name = value.text("name")
            if name in seen:
                yield "dataflow", value.at, f"value {clip(name)} is taken twice."
            seen.add(name)
            if scope.outer is None and name in scope.own:
                continue
            yield from port_faults(value) if scope.outer is None else inner_faults(value)
            origin = taken[index] if index < len(taken) else GIVEN
            yield from self._write_faults(name, value.at, scope, origin)
            if scope.outer is None:
                self.inputs.append(port_of(value))

    def _output_faults(self, graph: Message, scope: Scope) -> Iterator[Fault]:
        names = []
        for value in graph.messages("output"):
            name = value.text("name")
            names.append(name)
            yield from port_faults(value) if scope.outer is None else inner_faults(value)
            if scope.find(name) is None:
                yield "dataflow", value.at, f"output {clip(name)} is a value that nothing wrote."
            if scope.outer is None:
                self.outputs.append(port_of(value))
        if not names or len(set(names)) != len(names):
            yield "dataflow", f"{graph.at}.output", "there is no output, or one twice."

    def _node_faults(self, node: Message, scope: Scope) -> Iterator[Fault]:
        yield from operator_faults(node, self._opsets)
        op_type = node.text("op_type") if domain_of(node) == "" else ""
        inputs: list[Origin | None] = []
        for name in node.texts("input"):
            origin = scope.find(name) if name else None
            inputs.append(origin)
            if name and origin is None:
                yield "dataflow", node.at, f"it reads {clip(name)}, which nothing wrote before."
        yield from self._sizes.faults(op_type, node.at, inputs)
        yield from training_faults(op_type, node.at, inputs)
        self.has_control_flow |= op_type in CONTROL_FLOW
        made = origin_of(op_type, [each for each in inputs if each is not None])
        names: set[str] = set()
        for attribute in node.messages("attribute"):
            name = attribute.text("name")
            if name in names:
                yield "attribute", attribute.at, f"attribute {clip(name)} is given twice."
            names.add(name)
            faults = list(attribute_faults(attribute, op_type, max_elements=self._limits.max_tensor_elements))
            yield from faults
            if not faults:
                yield from self._sizes.attribute_faults(name, attribute.at, attribute_numbers(attribute) or ())
                graph = attribute.message("g")
                if graph is not None:
                    yield from self._graph_faults(graph, Scope(scope), [each or GIVEN for each in inputs])
                if op_type == "Constant":
                    made = constant_of(attribute)
        for name in node.texts("output"):
            if name:
                yield from self._write_faults(name, node.at, scope, made)
