"""What a conversion yields, and how the child's word for it is read: field by field, every number checked.

The header is `{"signature": {"inputs", "outputs"}, "plans": [{"runtime", "n_bytes", "input_order", "output_order",
"max_relative_error", "tolerance", "took_us"}], "n_compared", "notes": [sentence]}` (notes may be left out), or `{"refused": sentence}`; the
plans' contents follow one after another in that order.

Rules: names are unique, short and printable; datatypes are the protocol's; an order is a permutation (of positions in
the plan); a plan is one that its format may have, and there is at most one of each; it brings its content, except where
the upload itself is the plan, which then brings none; an error is within the plan's tolerance, and that within ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import MappingProxyType
from typing import Final

from maas_gateway.inference.conversion.refusal import sentence

REBUILT_TOLERANCE: Final = 1e-6
"""Largest difference of a rebuilt model from the uploaded one, relative to the largest absolute output."""

TOLERANCE: Final = 1e-5
"""The same for a model that was converted to another runtime's form."""

PLANS: Final[Mapping[str, Mapping[str, float]]] = MappingProxyType(
    {
        "keras": MappingProxyType({"keras": REBUILT_TOLERANCE, "litert": TOLERANCE}),
        "savedmodel": MappingProxyType({"tensorflow": REBUILT_TOLERANCE, "litert": TOLERANCE}),
        "onnx": MappingProxyType({"onnx": TOLERANCE, "openvino": TOLERANCE}),
        "tflite": MappingProxyType({"litert": TOLERANCE}),
    }
)
"""By format: the runtimes that may serve it, and how far each may differ."""

UPLOADED: Final = frozenset({("onnx", "onnx"), ("onnx", "openvino"), ("tflite", "litert")})
"""Format and runtime where the upload, as the gateway rebuilt it, is the plan."""

_MAX_PORTS: Final = 1000
_MAX_RANK: Final = 32
_MAX_DIMENSION: Final = 1 << 31
_MAX_NAME_CHARACTERS: Final = 256
_MAX_TOOK_US: Final = 3_600_000_000
_MAX_NOTES: Final = 10
_PLAN_FIELDS: Final = frozenset(
    ("runtime", "n_bytes", "input_order", "output_order", "max_relative_error", "tolerance", "took_us")
)
_DATATYPES: Final = frozenset(
    (
        *("BOOL", "BYTES", "FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64"),
        *("UINT8", "UINT16", "UINT32", "UINT64"),
    )
)


class AnswerRejected(ValueError):
    """The child's answer is not of the form it must have."""


@dataclass(frozen=True, slots=True)
class ConvertedPlan:
    """One form in which a model can be served.

    Attributes:
        runtime: which runtime loads it.
        offset: of its first byte in what the child sent.
        n_bytes: its size there; 0 where the upload itself is the plan.
        input_order: for each input of the signature, its position among the plan's inputs.
        output_order: the same for outputs.
        max_relative_error: largest difference from the uploaded model's answers on random inputs, relative to the
            largest absolute value of the output.
        tolerance: up to which difference it was taken.
        took_us: microseconds that one row took.
    """

    runtime: str
    offset: int
    n_bytes: int
    input_order: tuple[int, ...]
    output_order: tuple[int, ...]
    max_relative_error: float
    tolerance: float
    took_us: int


@dataclass(frozen=True, slots=True)
class Conversion:
    """The forms in which the gateway can serve a model.

    The plans come from a process that parsed hostile bytes: scan each before it is used.

    Attributes:
        signature: `{"inputs": [{"name", "datatype", "shape"}], "outputs": […]}`, datatypes of the
            Open Inference Protocol, -1 for a dimension that the request chooses.
        plans: at least one, in the order in which their contents were sent.
        notes: sentences for the publisher, for example why a form was not possible.
        n_compared: output elements compared.
        took_ms: from the start of the child to its answer.
    """

    signature: dict[str, object]
    plans: tuple[ConvertedPlan, ...]
    notes: tuple[str, ...]
    n_compared: int
    took_ms: float


def read_answer(form: str, header: Mapping[str, object], *, n_bytes: int, took_ms: float) -> Conversion:
    """Return the conversion that the child describes.

    Args:
        form: what was uploaded, a key of `PLANS`.
        header: what the child said.
        n_bytes: how much it sent after that.
        took_ms: how long it took.

    Raises:
        AnswerRejected: a rule above is broken.
    """
    signature, plans = header.get("signature"), header.get("plans")
    if not isinstance(signature, dict) or signature.keys() != {"inputs", "outputs"}:
        raise AnswerRejected("the answer holds no signature")
    inputs, outputs = _read_ports(signature["inputs"]), _read_ports(signature["outputs"])
    return Conversion(
        signature={"inputs": inputs, "outputs": outputs},
        plans=_read_plans(form, plans, (len(inputs), len(outputs)), n_bytes=n_bytes),
        notes=_read_notes(header.get("notes", [])),
        n_compared=_read_count(header.get("n_compared")),
        took_ms=took_ms,
    )


def _read_plans(form: str, value: object, n_ports: tuple[int, int], *, n_bytes: int) -> tuple[ConvertedPlan, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= len(PLANS[form]):
        raise AnswerRejected("the answer's plans are no list of a usable length")
    sizes = [_read_size(plan) for plan in value]
    if sum(sizes) != n_bytes:
        raise AnswerRejected("the plans are not of the sizes that were told")
    offsets = accumulate(sizes, initial=0)
    plans = tuple(_read_plan(form, plan, n_ports, offset) for plan, offset in zip(value, offsets, strict=False))
    if len({plan.runtime for plan in plans}) != len(plans):
        raise AnswerRejected("two plans are for one runtime")
    return plans


def _read_size(plan: object) -> int:
    n_bytes = plan.get("n_bytes") if isinstance(plan, dict) else None
    if type(n_bytes) is not int or n_bytes < 0:
        raise AnswerRejected("a plan has no size")
    return n_bytes


def _read_plan(form: str, plan: dict[str, object], n_ports: tuple[int, int], offset: int) -> ConvertedPlan:
    runtime, n_bytes = plan["runtime"] if plan.keys() == _PLAN_FIELDS else None, _read_size(plan)
    if not isinstance(runtime, str) or runtime not in PLANS[form]:
        raise AnswerRejected("a plan is none that this format can have")
    if bool(n_bytes) is ((form, runtime) in UPLOADED):
        raise AnswerRejected("a plan brings no content, or content in the place of what was uploaded")
    tolerance = _read_number(plan["tolerance"], PLANS[form][runtime], "tolerance")
    return ConvertedPlan(
        runtime=runtime,
        offset=offset,
        n_bytes=n_bytes,
        input_order=_read_order(plan["input_order"], n_ports[0]),
        output_order=_read_order(plan["output_order"], n_ports[1]),
        max_relative_error=_read_number(plan["max_relative_error"], tolerance, "difference from the uploaded model"),
        tolerance=tolerance,
        took_us=_read_time(plan["took_us"]),
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


def _read_number(value: object, largest: float, what: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= largest:
        raise AnswerRejected(f"the {what} is no number within what is accepted")
    return float(value)


def _read_time(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MAX_TOOK_US:
        raise AnswerRejected("the time that a row takes is no number that can be")
    return value


def _read_notes(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MAX_NOTES or not all(isinstance(note, str) for note in value):
        raise AnswerRejected("the notes are no list of a few sentences")
    return tuple(sentence(note) for note in value)


def _read_count(value: object) -> int:
    if type(value) is not int or value < 1:
        raise AnswerRejected("nothing was compared")
    return value
