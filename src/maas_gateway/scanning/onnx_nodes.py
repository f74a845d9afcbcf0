"""One node of an ONNX graph: its operator, and its attributes as far as they stand for themselves.

Rules:
    * The operator is on the list, and its domain is imported.
    * An attribute has a name, a type, and its value in the one field of that type; it refers to no function's
      parameter. Only operators of control flow hold graphs, in the attributes that the standard gives them.
    * Tensors in attributes follow `onnx_tensors`.
    * A locale is one that every system has: its name would be looked up among the system's files.
    * Nothing is in training mode: dropout would be random, normalisation would mix the requests of a batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from maas_gateway.scanning.onnx_operators import CONTROL_FLOW, OPERATORS, REASONS
from maas_gateway.scanning.onnx_schema import ATTRIBUTE_FIELDS, SCHEMA
from maas_gateway.scanning.onnx_sizes import Origin, attribute_numbers, constant, constant_tensor
from maas_gateway.scanning.onnx_tensors import Fault, tensor_faults
from maas_gateway.scanning.protobuf import Message, Run
from maas_gateway.scanning.scanner import clip

_NO_VALUE: Final = frozenset({"name", "type", "doc_string"})
_VALUE_FIELDS: Final = frozenset(name for name, _ in SCHEMA["AttributeProto"].values()) - _NO_VALUE
_LOCALES: Final = frozenset({b"", b"C", b"C.UTF-8", b"en_US", b"en_US.UTF-8"})
_MAX_PATTERN_BYTES: Final = 1024
_MAX_STRING_BYTES: Final = 1 << 20
_TRAINING_INPUT: Final = 2  # of Dropout


def domain_of(message: Message) -> str:
    """Return the domain of a node or an import; the default one has two names."""
    domain = message.text("domain")
    return "" if domain == "ai.onnx" else domain


def operator_faults(node: Message, opsets: Mapping[str, int]) -> Iterator[Fault]:
    """Yield what is wrong with a node's operator.

    Args:
        node: the node.
        opsets: imported domains.
    """
    domain, op_type = domain_of(node), node.text("op_type")
    listed = OPERATORS.get(domain)
    if listed is None:
        yield "custom-domain", node.at, f"operator {clip(op_type)} of domain {clip(domain)}: only the standard's run."
    elif op_type not in listed:
        yield "operator-not-allowed", node.at, f"{clip(op_type)}: {REASONS.get(op_type, 'it is not on the list.')}"
    elif domain not in opsets:
        yield "opset", node.at, f"its domain {clip(domain)} is not imported."
    if node.text("overload"):
        yield "local-function", node.at, "it calls an overload, which only local functions have."
    if node.has("device_configurations"):
        yield "devices", node.at, "a node divided over devices is not accepted."


def attribute_faults(attribute: Message, op_type: str, *, max_elements: int) -> Iterator[Fault]:
    """Yield what is wrong with an attribute, but for the graph in it.

    Args:
        attribute: of a node.
        op_type: the node's operator, if it is of the default domain, else "".
        max_elements: of a tensor.

    Raises:
        Refusal: it cannot be read.
    """
    name, number = attribute.text("name"), attribute.integer("type")
    if not name.isidentifier():
        yield "attribute", attribute.at, f"{clip(name)} cannot name an attribute."
    if attribute.text("ref_attr_name"):
        yield "local-function", attribute.at, "it takes its value from a function's parameter."
        return
    wanted = ATTRIBUTE_FIELDS.get(number)
    if wanted is None:
        yield "attribute", attribute.at, f"attribute {clip(name)} is of type {number}, which is not accepted."
        return
    if any(field != wanted and attribute.has(field) for field in _VALUE_FIELDS):
        yield "attribute", attribute.at, f"attribute {clip(name)} has values beside the one of its type."
        return
    if wanted in ("floats", "ints"):
        attribute.n_values(wanted)  # a packed row is held to the rules of numbers
    if wanted in ("s", "strings"):
        yield from _string_faults(attribute, name)
    tensor = attribute.message("t")
    if tensor is not None:
        yield from tensor_faults(tensor, max_elements=max_elements)
    if name == "training_mode" and attribute.integer("i"):
        yield "training", attribute.at, "it normalises over the batch as in training; export the model for inference."
    if attribute.has("g") and name not in CONTROL_FLOW.get(op_type, ()):
        yield "nested-graph", attribute.at, f"{clip(op_type)} does not take a graph as {clip(name)}."


def training_faults(op_type: str, at: str, inputs: Sequence[Origin | None]) -> Iterator[Fault]:
    """Yield whether a dropout may be one of training; inputs that are left out are None."""
    mode = inputs[_TRAINING_INPUT] if len(inputs) > _TRAINING_INPUT else None
    if op_type == "Dropout" and mode is not None and mode.values != (0,):
        yield "training", at, "dropout in training mode is random; export the model for inference."


def constant_of(attribute: Message) -> Origin:
    """Return the origin of what a Constant with this attribute makes."""
    tensor = attribute.message("t")
    return constant_tensor(tensor) if tensor is not None else constant(attribute_numbers(attribute))


def _string_faults(attribute: Message, name: str) -> Iterator[Fault]:
    if any(span.n_bytes > _MAX_STRING_BYTES for span in attribute.spans("strings") if not isinstance(span, Run)):
        yield "attribute", attribute.at, f"a text of attribute {clip(name)} is too long."
    if name == "locale" and attribute.raw("s", max_bytes=_MAX_STRING_BYTES) not in _LOCALES:
        yield "locale", attribute.at, "only the locales C and en_US are accepted."
    if name == "pattern" and len(attribute.raw("s", max_bytes=_MAX_STRING_BYTES)) > _MAX_PATTERN_BYTES:
        yield "attribute", attribute.at, f"a pattern has more than {_MAX_PATTERN_BYTES} bytes."
