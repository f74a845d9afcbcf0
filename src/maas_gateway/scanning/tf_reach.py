"""Which nodes of a graph run when something is asked of it, and whether they may.

Rules:
    * From a tensor the walk goes back along all inputs, control inputs too; a function that is called is reached with
      all its nodes, since the engine runs those that have effects whether or not anybody reads what they give.
    * What several roots reach is judged by the strictest of them, and what no root reaches is judged too: the engine
      computes constant parts of a function when it is loaded, called or not.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from maas_gateway.scanning.scanner import Finding, clip
from maas_gateway.scanning.tf_graph import Graph, Node, node_of
from maas_gateway.scanning.tf_operators import CONTROL_FLOW, DORMANT


@dataclass(frozen=True, slots=True)
class Root:
    """Something from where the graph is run.

    Attributes:
        label: how findings name it: `signature 'serving_default'`.
        tensors: names of tensors or nodes of the graph.
        functions: functions of the library.
    """

    label: str
    tensors: tuple[str, ...] = ()
    functions: tuple[str, ...] = ()


class Walk:
    """One walk over a graph, root by root, the strictest roots first."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._seen_nodes: set[str] = set()
        self._seen_functions: set[str] = set()
        self.operators: set[str] = set()
        """Operators met so far."""

    @property
    def has_control_flow(self) -> bool:
        """Whether a loop or a branch has been met so far."""
        return not self.operators.isdisjoint(CONTROL_FLOW)

    def judge(self, roots: Iterable[Root], allowed: frozenset[str]) -> Iterator[Finding]:
        """Yield a finding for every node that these roots reach, none before them did, and may not be there."""
        for root in roots:
            for place, node in self._reached(root):
                self.operators.add(node.op)
                if node.op not in allowed:
                    yield _finding(f"{root.label}: {place}", node)

    def judge_rest(self, allowed: frozenset[str]) -> Iterator[Finding]:
        """Yield a finding for every node that no root has reached and that may not be there."""
        rest = Root("not in use", tuple(self._graph.nodes), tuple(self._graph.functions))
        return self.judge([rest], allowed)

    def _reached(self, root: Root) -> Iterator[tuple[str, Node]]:
        """Yield the nodes that are reached from here for the first time, each with its place."""
        functions = list(root.functions)
        names = [node_of(tensor) for tensor in root.tensors]
        while names:
            name = names.pop()
            if name in self._seen_nodes or name not in self._graph.nodes:
                continue
            self._seen_nodes.add(name)
            node = self._graph.nodes[name]
            names.extend(node_of(tensor) for tensor in node.inputs)
            functions.extend(node.calls)
            yield "graph", node
        while functions:
            name = functions.pop()
            if name in self._seen_functions or name not in self._graph.functions:
                continue
            self._seen_functions.add(name)
            function = self._graph.functions[name]
            functions.extend(function.calls)
            for node in function.nodes:
                yield f"function {clip(name)}", node


def _finding(at: str, node: Node) -> Finding:
    where = f"{at}: node {clip(node.name)}"
    if node.op in DORMANT:
        return Finding(
            "operator-keeps-state",
            "refuse",
            where,
            f"operator {clip(node.op)} writes a variable or table, or draws random numbers: an answer would depend on "
            f"the calls before it. Export a function that only computes.",
        )
    return Finding(
        "operator-not-allowed", "refuse", where, f"operator {clip(node.op)} is not one that this gateway runs."
    )
