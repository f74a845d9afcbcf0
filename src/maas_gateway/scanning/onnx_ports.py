"""What an ONNX model takes and gives, as its graph declares it.

Rules: tensors of the Open Inference datatypes; a dimension is a positive number, or a name or nothing where the request
chooses; names are what `is_name` takes, and at most 256 characters. Names may begin with `/`, as PyTorch writes them:
no name is ever opened, since no tensor lies in another file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from maas_gateway.scanning.onnx_schema import ITEM_BITS, STRING, TYPE_NAMES
from maas_gateway.scanning.onnx_tensors import Fault
from maas_gateway.scanning.protobuf import Message
from maas_gateway.scanning.scanner import clip

_MAX_PORT_CHARACTERS: Final = 256
_MAX_NAME_CHARACTERS: Final = 1024
_MAX_RANK: Final = 16
_MAX_DIMENSION: Final = 1 << 31
_NO_TENSORS: Final = ("sequence_type", "map_type", "opaque_type", "sparse_tensor_type", "optional_type")


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output.

    Attributes:
        name: unique among the inputs or among the outputs.
        datatype: of the Open Inference Protocol.
        shape: a number, or where the request chooses a name or None; None as a whole if the rank is not declared.
    """

    name: str
    datatype: str
    shape: tuple[int | str | None, ...] | None


def is_name(text: str) -> bool:
    """Return whether a text may name a value: printable, not too long, and no path out of a folder or to a host."""
    return (
        0 < len(text) <= _MAX_NAME_CHARACTERS
        and text.isprintable()
        and "\\" not in text
        and "://" not in text
        and ".." not in text.split("/")
    )


def port_of(value: Message) -> Port:
    """Return the port that a value declares; it passed `port_faults`."""
    declared = value.message("type")
    tensor = None if declared is None else declared.message("tensor_type")
    elem_type = 0 if tensor is None else tensor.integer("elem_type")
    return Port(value.text("name"), TYPE_NAMES.get(elem_type, ""), None if tensor is None else _shape(tensor))


def port_faults(value: Message) -> Iterator[Fault]:
    """Yield what is wrong with an input or output of the whole model."""
    name = value.text("name")
    if not is_name(name) or len(name) > _MAX_PORT_CHARACTERS:
        yield "name", value.at, f"{clip(name)} cannot name an input or output."
    declared = value.message("type")
    if declared is None:
        yield "port-type", value.at, f"{clip(name)} declares no type."
        return
    if declared.has("sequence_type", "map_type"):
        yield "port-type", value.at, f"{clip(name)} is a list or map; scikit-learn: options={{'zipmap': False}}."
        return
    tensor = declared.message("tensor_type")
    if tensor is None or declared.has(*_NO_TENSORS):
        yield "port-type", value.at, f"{clip(name)} is no tensor."
    elif tensor.integer("elem_type") not in TYPE_NAMES:
        yield (
            "port-type",
            value.at,
            f"{clip(name)} has element type {tensor.integer('elem_type')}, which is not served.",
        )
    else:
        yield from _shape_faults(tensor, value.at)


def inner_faults(value: Message) -> Iterator[Fault]:
    """Yield what is wrong with an input or output of a nested graph: a tensor or a list of tensors, or no type."""
    if not is_name(value.text("name")):
        yield "name", value.at, f"{clip(value.text('name'))} cannot name a value."
    declared = value.message("type")
    while declared is not None and declared.has("sequence_type"):
        sequence = declared.message("sequence_type")
        declared = None if sequence is None else sequence.message("elem_type")
    tensor = None if declared is None else declared.message("tensor_type")
    if declared is not None and declared.has(*_NO_TENSORS):
        yield "port-type", value.at, "a map, optional, sparse or opaque value is not accepted."
    if tensor is not None:
        elem_type = tensor.integer("elem_type")
        if elem_type and elem_type != STRING and elem_type not in ITEM_BITS:
            yield "port-type", value.at, f"element type {elem_type} is not accepted."
        yield from _shape_faults(tensor, value.at)


def _shape_faults(tensor: Message, at: str) -> Iterator[Fault]:
    shape = _shape(tensor)
    if shape is None:
        return
    if len(shape) > _MAX_RANK or any(isinstance(n, int) and not 0 <= n < _MAX_DIMENSION for n in shape):
        yield (
            "port-shape",
            at,
            "a dimension is negative or too large, or there are too many; name one to leave it open.",
        )


def _shape(tensor: Message) -> tuple[int | str | None, ...] | None:
    shape = tensor.message("shape")
    if shape is None:
        return None
    return tuple(
        dim.integer("dim_value") if dim.has("dim_value") else dim.text("dim_param") or None
        for dim in shape.messages("dim")
    )
