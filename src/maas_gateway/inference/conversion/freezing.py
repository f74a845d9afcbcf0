"""From a loaded SavedModel's signature to a frozen graph in canonical form, in memory.

The form: nodes only of what the outputs need, each behind its inputs, named `n0`, `n1`, …, but for the inputs, which are
`input_0`, `input_1`, …, and the outputs, which are identities `output_0`, `output_1`, …, both in the order of the
signature's names; the functions that they call; no devices, no debug information, no attribute that begins with `_`, no
settings of a session. It is written deterministically: the same model gives the same bytes.

Rules: variables and captured values become constants, lookup tables plain operators (`table_lookup`); loops and
branches stay functions. What cannot be written so is refused by the scanner that the gateway asks, with the operator.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from maas_gateway.inference.conversion.refusal import NotConvertible, raise_if_out_of_memory, sentence
from maas_gateway.inference.conversion.table_lookup import replace_lookups

if TYPE_CHECKING:
    import tensorflow as tf
    from tensorflow.types.experimental import ConcreteFunction

_SESSION_SETTINGS: Final = ("config", "config_proto", "executor_type")


def freeze(function: "ConcreteFunction", inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Return a signature as a canonical GraphDef.

    Args:
        function: of the loaded SavedModel.
        inputs: the names of its inputs, in the signature's order.
        outputs: the names of its outputs, in the signature's order.

    Raises:
        NotConvertible: it cannot be frozen.
    """
    # imported where it runs: TensorFlow is loaded in the confined child only
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    try:
        frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    except Exception as objection:
        raise_if_out_of_memory(objection)
        raise NotConvertible(f"it cannot be frozen: {sentence(str(objection))}") from objection
    graph_def = frozen.graph.as_graph_def()
    handles = {name.op.name: handle for handle, name in function.graph.captures if handle.dtype.name == "resource"}
    replace_lookups(graph_def, handles)
    placeholders = dict(zip(_input_names(function), function.inputs, strict=False))
    given = dict(zip(sorted(function.structured_outputs), frozen.outputs, strict=True))
    return _canonical(graph_def, [placeholders[name].op.name for name in inputs], [given[name] for name in outputs])


def _input_names(function: "ConcreteFunction") -> list[str]:
    """Return the names of a signature's inputs in the order of its placeholders."""
    return [str(name) for name in function._arg_keywords]  # noqa: SLF001  TensorFlow has no public way


def _canonical(graph_def: Any, inputs: Sequence[str], outputs: Sequence["tf.Tensor"]) -> bytes:
    """Return a frozen graph in the form of this module.

    Args:
        graph_def: the frozen graph.
        inputs: the placeholders, in the signature's order.
        outputs: the tensors that are given back, in the signature's order.
    """
    nodes = {node.name: node for node in graph_def.node}
    order = _in_order([*inputs, *(tensor.op.name for tensor in outputs)], nodes)
    names = {name: f"input_{number}" for number, name in enumerate(inputs)}
    names |= {name: f"n{number}" for number, name in enumerate(name for name in order if name not in names)}
    functions = _Functions(graph_def)
    written = type(graph_def)()
    written.versions.CopyFrom(graph_def.versions)
    for name in order:
        node = written.node.add()
        node.CopyFrom(nodes[name])
        node.name = names[name]
        del node.input[:]
        node.input.extend(_renamed(tensor, names) for tensor in nodes[name].input)
        functions.clean(node)
    for number, tensor in enumerate(outputs):
        node = written.node.add(name=f"output_{number}", op="Identity")
        node.input.append(_renamed(tensor.name, names))
        node.attr["T"].type = tensor.dtype.as_datatype_enum
    functions.write(written)
    return bytes(written.SerializeToString(deterministic=True))


def _in_order(roots: Sequence[str], nodes: Mapping[str, Any]) -> list[str]:
    """Return what the roots need, each node behind its inputs."""
    done: dict[str, None] = {}
    for root in roots:
        path: list[tuple[str, Iterator[str]]] = [(root, iter(map(_node_of, nodes[root].input)))]
        while path:
            name, rest = path[-1]
            following = next((needed for needed in rest if needed not in done), None)
            if following is None:
                done[name] = None
                path.pop()
            else:
                path.append((following, iter(map(_node_of, nodes[following].input))))
    return list(done)


def _node_of(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _renamed(tensor: str, names: Mapping[str, str]) -> str:
    control, node = "^" if tensor.startswith("^") else "", _node_of(tensor)
    return control + names[node] + tensor[len(control) + len(node) :].removesuffix(":0")


class _Functions:
    """The functions of a graph that are called, cleaned and named `f0`, `f1`, … as they are met."""

    def __init__(self, graph_def: Any) -> None:
        self._functions = {function.signature.name: function for function in graph_def.library.function}
        self._names: dict[str, str] = {}

    def clean(self, node: Any) -> None:
        """Take from a node whatever the canonical form does not have, and rename what it calls."""
        node.device = ""
        node.ClearField("experimental_debug_info")
        node.ClearField("experimental_type")
        for key in [key for key in node.attr if key.startswith("_")]:
            del node.attr[key]
        for key in _SESSION_SETTINGS:
            if key in node.attr and node.op.endswith("PartitionedCall"):
                node.attr[key].s = b""
        for key in sorted(node.attr):
            value = node.attr[key]
            for called in [value.func] if value.HasField("func") else value.list.func:
                called.name = self._name(called.name)
                called.attr.clear()

    def write(self, graph_def: Any) -> None:
        """Put the functions that were met into a graph's library; those that they call follow them."""
        n_written = 0
        while n_written < len(self._names):
            function = self._functions[list(self._names)[n_written]]
            n_written += 1
            function.attr.clear()
            function.arg_attr.clear()
            function.resource_arg_unique_id.clear()
            function.signature.name = self._names[function.signature.name]
            for argument in (*function.signature.input_arg, *function.signature.output_arg):
                argument.ClearField("handle_data")
                argument.ClearField("experimental_full_type")
            for node in function.node_def:
                self.clean(node)
            graph_def.library.function.append(function)

    def _name(self, name: str) -> str:
        if name not in self._functions:
            raise NotConvertible("it calls a function that is not there")
        return self._names.setdefault(name, f"f{len(self._names)}")
