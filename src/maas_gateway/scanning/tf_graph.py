"""A TensorFlow GraphDef with its function library: read once, kept as names and edges.

Rules:
    * Names are plain and unique; every input is a node that is there, every function that is named is in the library.
    * No function calls itself, by whatever detour; calls are nested at most `max_call_depth` deep; with every call put
      in the place of its function the graph has at most `max_expanded_nodes` nodes (thirty functions that each call the
      next one twice are a thousand million).
    * No function has the name of an operator: the engine would run the one where the graph says the other.
    * Every attribute's value is read (`tf_values`); what sets the size of an output and is a constant is bounded.

Source: tensorflow 2.21 core/framework/{graph,node_def,function}.proto; function.cc for what an attribute may call.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from maas_gateway.scanning.protobuf import Message
from maas_gateway.scanning.scanner import Refusal, clip
from maas_gateway.scanning.tf_operators import DORMANT, FROZEN_AWAY, OPERATORS, SAVER, SIZE_INPUTS
from maas_gateway.scanning.tf_values import Attribute, ValueReader, entries

_NAME: Final = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.\\/>-]{0,1023}")
_INPUT: Final = re.compile(r"(?P<control>\^?)(?P<node>[A-Za-z0-9_.][A-Za-z0-9_.\\/>-]*)(?::[A-Za-z0-9_]+)?(?::[0-9]+)?")
_SESSION_SETTINGS: Final = frozenset(("config", "config_proto", "executor_type"))
_LISTED: Final = OPERATORS | FROZEN_AWAY | DORMANT | SAVER


@dataclass(frozen=True, slots=True)
class GraphLimits:
    """What one GraphDef may declare.

    Attributes:
        max_nodes: nodes of the graph and of all functions.
        max_expanded_nodes: the same with every call put in the place of its function.
        max_call_depth: functions that call each other.
        max_unbacked_bytes: what constants take in memory beyond their bytes in the file.
        max_size_argument: product of the values of a constant that sets a size.
    """

    max_nodes: int = 100_000
    max_expanded_nodes: int = 1_000_000
    max_call_depth: int = 64
    max_unbacked_bytes: int = 64 * 1024 * 1024
    max_size_argument: int = 2**26


@dataclass(frozen=True, slots=True)
class Node:
    """One node.

    Attributes:
        inputs: as written: `node`, `node:1`, `node:output:0`, `^node`.
        calls: functions that its attributes name.
        attributes: kept of a placeholder only.
        is_bare: whether it names no device, has no attribute that begins with `_` or holds a session's settings, and
            nothing that only a debugger reads.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    calls: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    is_bare: bool = True


@dataclass(frozen=True, slots=True)
class Function:
    """One function of the library.

    Attributes:
        calls: functions that it calls, each once.
        is_bare: whether it has no attributes, and its nodes are bare.
    """

    name: str
    nodes: tuple[Node, ...]
    calls: tuple[str, ...]
    is_bare: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """A GraphDef: its nodes and its functions by name."""

    nodes: Mapping[str, Node]
    functions: Mapping[str, Function]


def read_graph(message: Message, limits: GraphLimits) -> Graph:
    """Return the graph of a GraphDef.

    Raises:
        Refusal: it breaks a rule of this module.
    """
    if message.has("debug_info"):
        raise Refusal("debug-info", message.at, "a graph with call sites in it is not accepted.")
    reader = _GraphReader(limits)
    functions: dict[str, Function] = {}
    library = message.message("library")
    for entry in library.messages("function") if library is not None else ():
        function = reader.function(entry)
        if function.name in functions:
            raise Refusal("duplicate-function", f"function {clip(function.name)}", "the library holds it twice.")
        functions[function.name] = function
    nodes = {node.name: node for node in reader.nodes(message, "node", "graph")}
    for node in nodes.values():
        for name in node.inputs:
            if node_of(name) not in nodes:
                raise Refusal("dangling-input", f"graph: node {clip(node.name)}", f"input {clip(name)} is no node.")
    _check_calls(nodes.values(), functions, limits)
    return Graph(nodes, functions)


def node_of(name: str) -> str:
    """Return the node that an input, or the name of a tensor, belongs to."""
    match = _INPUT.fullmatch(name)
    return match["node"] if match else ""


class _GraphReader:
    """Reads the nodes of one file."""

    def __init__(self, limits: GraphLimits) -> None:
        self._limits = limits
        self._values = ValueReader(max_unbacked_bytes=limits.max_unbacked_bytes)
        self._n_nodes = 0

    def function(self, message: Message) -> Function:
        """Return a FunctionDef."""
        signature = message.message("signature")
        name = signature.text("name") if signature is not None else ""
        at = f"function {clip(name)}"
        if not _NAME.fullmatch(name) or name in _LISTED:
            raise Refusal("function-name", at, "a function needs a plain name that is no operator's.")
        attributes = [self._values.attribute(value, at) for _, value in entries(message, "attr")]
        for entry in message.messages("arg_attr"):
            arguments = entry.message("value")
            for _, value in entries(arguments, "attr") if arguments is not None else ():
                attributes.append(self._values.attribute(value, at))
        nodes = self.nodes(message, "node_def", at)
        calls = [call for node in nodes for call in node.calls]
        calls += [call for attribute in attributes for call in attribute.calls]
        is_bare = not attributes and all(node.is_bare for node in nodes)
        return Function(name, nodes, tuple(dict.fromkeys(calls)), is_bare)

    def nodes(self, message: Message, field_name: str, at: str) -> tuple[Node, ...]:
        """Return the nodes of a graph or function."""
        nodes: dict[str, Node] = {}
        sizes: dict[str, int] = {}
        for entry in message.messages(field_name):
            node, size = self._node(entry, at)
            if node.name in nodes:
                raise Refusal("duplicate-node", f"{at}: node {clip(node.name)}", "there are two nodes of this name.")
            nodes[node.name] = node
            if size is not None:
                sizes[node.name] = size
        for node in nodes.values():
            self._check_size(node, sizes, at)
        return tuple(nodes.values())

    def _node(self, message: Message, at: str) -> tuple[Node, int | None]:
        """Return a node, and the product of its values if it is a constant of few integers."""
        self._n_nodes += 1
        name, op = message.text("name"), message.text("op")
        at = f"{at}: node {clip(name)}"
        if self._n_nodes > self._limits.max_nodes:
            raise Refusal("too-many-nodes", at, f"more than {self._limits.max_nodes} nodes are not accepted.")
        inputs = message.texts("input")
        if not _NAME.fullmatch(name) or not all(map(_INPUT.fullmatch, inputs)):
            raise Refusal("node-name", at, "a node, or one of its inputs, has no plain name.")
        found = {
            key: self._values.attribute(value, f"{at}, attribute {clip(key)}")
            for key, value in entries(message, "attr")
        }
        calls = tuple(call for attribute in found.values() for call in attribute.calls)
        is_hidden = message.has("experimental_debug_info", "experimental_type") or any(map(_is_hidden, found.items()))
        kept = found if op == "Placeholder" else {}
        node = Node(name, op, inputs, calls, kept, is_bare=not (is_hidden or message.text("device")))
        constant = found["value"].constant if op == "Const" and "value" in found else None
        numbers = None if constant is None else constant.numbers
        return node, None if numbers is None else math.prod(max(number, 0) for number in numbers)

    def _check_size(self, node: Node, sizes: Mapping[str, int], at: str) -> None:
        position = SIZE_INPUTS.get(node.op)
        if position is None or position >= len(node.inputs):
            return
        size = sizes.get(node_of(node.inputs[position]), 0)
        if size > self._limits.max_size_argument:
            raise Refusal(
                "size-argument",
                f"{at}: node {clip(node.name)}",
                f"{node.op} makes {size} elements or copies; {self._limits.max_size_argument} are allowed.",
            )


def _is_hidden(attribute: tuple[str, Attribute]) -> bool:
    """Return whether an attribute is none of the operator's own: how and where it runs, not what it computes."""
    key, value = attribute
    return key.startswith("_") or (key in _SESSION_SETTINGS and bool(value.text))


def _check_calls(nodes: Iterable[Node], functions: Mapping[str, Function], limits: GraphLimits) -> None:
    """Refuse unknown functions, recursion, deep nesting, and graphs that grow when calls are expanded."""
    sizes: dict[str, int] = {}  # nodes of a function with all its calls in place
    for name in functions:
        _measure(name, functions, sizes, limits)
    total = 0
    for node in nodes:
        for call in node.calls:
            if call not in sizes:
                raise _unknown(call, f"graph: node {clip(node.name)}")
            total += sizes[call]
    if total > limits.max_expanded_nodes:
        raise _too_large("graph", limits)


def _measure(root: str, functions: Mapping[str, Function], sizes: dict[str, int], limits: GraphLimits) -> None:
    """Enter the size of `root`, and of all that it calls, into `sizes`; no recursion of ours either."""
    path: list[tuple[str, Iterator[str]]] = []
    entered: set[str] = set()
    name: str | None = root
    while name is not None or path:
        if name is not None and name not in sizes:
            at = f"function {clip(name)}"
            if name not in functions:
                raise _unknown(name, f"function {clip(path[-1][0])}")
            if name in entered:
                raise Refusal("recursion", at, "the function calls itself, if by a detour.")
            if len(path) >= limits.max_call_depth:
                raise Refusal("nested-too-deeply", at, f"calls are nested more than {limits.max_call_depth} deep.")
            path.append((name, iter(functions[name].calls)))
            entered.add(name)
        if not path:
            return
        name = next(path[-1][1], None)
        if name is None:
            done, _ = path.pop()
            entered.discard(done)
            function = functions[done]
            sizes[done] = len(function.nodes) + sum(sizes[call] for node in function.nodes for call in node.calls)
            if sizes[done] > limits.max_expanded_nodes:
                raise _too_large(f"function {clip(done)}", limits)


def _unknown(name: str, at: str) -> Refusal:
    return Refusal("unknown-function", at, f"it calls function {clip(name)}, which is not in the library.")


def _too_large(at: str, limits: GraphLimits) -> Refusal:
    return Refusal(
        "too-many-nodes", at, f"with every call in its place it has more than {limits.max_expanded_nodes} nodes."
    )
