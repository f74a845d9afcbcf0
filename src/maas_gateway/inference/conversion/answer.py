"""What a conversion yields, and how the child's word for it is read: field by field, every number checked.

Rules: names are unique, short and printable; datatypes are the protocol's; an order is a
permutation (of positions in the flatbuffer); the error is within `TOLERANCE`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

TOLERANCE: Final = 1e-5
"""Largest difference from Keras's answer that is served, relative to the largest absolute output."""

_MAX_PORTS: Final = 1000
_MAX_RANK: Final = 32
_MAX_DIMENSION: Final = 1 << 31
_MAX_NAME_CHARACTERS: Final = 256
_DATATYPES: Final = frozenset(
    ("BOOL", "FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
)


class AnswerRejected(ValueError):
    """The child's answer is not of the form it must have."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A model that the gateway can run by itself.

    The plan comes from a process that parsed hostile bytes: verify and scan it before it is used.

    Attributes:
        signature: `{"inputs": [{"name", "datatype", "shape"}], "outputs": […]}`, datatypes of the
            Open Inference Protocol, -1 for a dimension that the request chooses.
        plan: the LiteRT flatbuffer.
        input_order: for each input of the signature, its position among the flatbuffer's inputs.
        output_order: the same for outputs.
        max_relative_error: largest difference from Keras's answers on random inputs, relative to
            the largest absolute value of the output.
        n_compared: output elements compared.
        took_ms: from the start of the child to its answer.
    """

    signature: dict[str, object]
    plan: bytes
    input_order: tuple[int, ...]
    output_order: tuple[int, ...]
    max_relative_error: float
    n_compared: int
    took_ms: float


def read_answer(header: Mapping[str, object], plan: bytes, *, took_ms: float) -> Conversion:
    """Return the conversion that the child describes.

    Raises:
        AnswerRejected: a rule above is broken.
    """
    signature = header.get("signature")
    if not isinstance(signature, dict) or signature.keys() != {"inputs", "outputs"} or not plan:
        raise AnswerRejected("the answer holds no signature or no plan")
    inputs, outputs = _read_ports(signature["inputs"]), _read_ports(signature["outputs"])
    return Conversion(
        signature={"inputs": inputs, "outputs": outputs},
        plan=plan,
        input_order=_read_order(header.get("input_order"), len(inputs)),
        output_order=_read_order(header.get("output_order"), len(outputs)),
        max_relative_error=_read_error(header.get("max_relative_error")),
        n_compared=_read_count(header.get("n_compared")),
        took_ms=took_ms,
    )


def _read_ports(value: object) -> list[dict[str, object]]:
    if not isinstance(value, list) or not 1 <= len(value) <= _MAX_PORTS:
        raise AnswerRejected("the signature's inputs or outputs are no list of a usable length")
    ports = [_read_port(port) for port in value]
    if len({port["name"] for port in ports}) != len(ports):
        raise AnswerRejected("the signature's names are not unique")
    return ports


def _read_port(value: object) -> dict[str, object]:
    if not isinstance(value, dict) or value.keys() != {"name", "datatype", "shape"}:
        raise AnswerRejected("the signature holds something else than name, datatype and shape")
    name, datatype, shape = value["name"], value["datatype"], value["shape"]
    if not isinstance(name, str) or not 1 <= len(name) <= _MAX_NAME_CHARACTERS or not name.isprintable():
        raise AnswerRejected("the signature holds a name that cannot be used")
    if not isinstance(datatype, str) or datatype not in _DATATYPES:
        raise AnswerRejected("the signature holds an unknown datatype")
    if not isinstance(shape, list) or len(shape) > _MAX_RANK or not all(_is_dimension(n) for n in shape):
        raise AnswerRejected("the signature holds a shape that cannot be used")
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def _is_dimension(value: object) -> bool:
    return type(value) is int and -1 <= value <= _MAX_DIMENSION


def _read_order(value: object, length: int) -> tuple[int, ...]:
    if not _is_permutation(value, length):
        raise AnswerRejected("an order is no permutation")
    assert isinstance(value, Sequence)
    return tuple(value)


def _is_permutation(value: object, length: int) -> bool:
    return (
        isinstance(value, list) and all(type(place) is int for place in value) and sorted(value) == list(range(length))
    )


def _read_error(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= TOLERANCE:
        raise AnswerRejected("the difference from Keras is no number within the tolerance")
    return float(value)


def _read_count(value: object) -> int:
    if type(value) is not int or value < 1:
        raise AnswerRejected("nothing was compared")
    return value
