"""What sets the sizes of tensors inside an ONNX graph, as far as the file tells.

Rules:
    * Every value has an origin: constants of the file, shapes of other tensors, or what a client sends.
    * An input that sets a size is never of what a client sends: a row of numbers in a request must not decide how
      much memory is taken. Sizes made from shapes pass, since a request has the sizes that it pays for.
    * The constants in a size are bounded: their product (a dimension of a request counting as 1), or for padding and
      windows the largest, and all such sizes together.

What this does not decide: growth by ordinary operators, such as a product of a column and a row. The engine's memory
is bounded for that (`inference.runtimes.onnx`), and a conversion tries the model in a confined child.
"""

import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from maas_gateway.scanning.onnx_operators import SIZE_ATTRIBUTES, SIZE_LARGEST, SIZE_PRODUCTS
from maas_gateway.scanning.onnx_tensors import Fault, few_values
from maas_gateway.scanning.protobuf import Message

Numbers = tuple[int | float, ...]

_HUGE: Final = 1 << 64


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value's numbers come from.

    Attributes:
        is_given: whether what a client sends is in them; its shape alone is not.
        bound: product of the constants in them, each at least 1.
        values: the numbers, where they are few and known.
    """

    is_given: bool = False
    bound: int = _HUGE
    values: Numbers | None = None

    @property
    def largest(self) -> int:
        """Bound on a single number."""
        return self.bound if self.values is None else max((_magnitude(n) for n in self.values), default=1)


GIVEN: Final = Origin(is_given=True)
SHAPE: Final = Origin(bound=1)


def constant(values: Numbers | None) -> Origin:
    """Return the origin of numbers of the file; None for numbers that are many."""
    return Origin() if values is None else Origin(bound=_product(_magnitude(n) for n in values), values=values)


def constant_tensor(tensor: Message) -> Origin:
    """Return the origin of a tensor of the file."""
    return constant(few_values(tensor))


def origin_of(op_type: str, inputs: Sequence[Origin]) -> Origin:
    """Return the origin of what an operator makes.

    Args:
        op_type: an operator of the default domain, other than Constant; "" for any other.
        inputs: origins of what it takes.
    """
    if op_type in ("Shape", "Size"):
        return SHAPE
    is_given = any(each.is_given for each in inputs)
    if not inputs or is_given:
        return GIVEN
    known = [each.values for each in inputs if each.values is not None]
    if op_type in _KEEPS_FIRST:
        return inputs[0]
    if op_type == "Concat" and len(known) == len(inputs):
        return constant(tuple(number for values in known for number in values))
    return Origin(bound=_BOUNDS.get(op_type, _unbounded)(inputs))


class Sizes:
    """Adds up what the constants of one model ask for.

    Args:
        max_one: bound on one size.
        max_all: bound on all together.
    """

    def __init__(self, max_one: int, max_all: int) -> None:
        self._max_one = max_one
        self._max_all = max_all
        self._asked = 0

    def faults(self, op_type: str, at: str, inputs: Sequence[Origin | None]) -> Iterator[Fault]:
        """Check the inputs of one operator of the default domain; None is an input left out."""
        if op_type == "Range":
            yield from self._range_faults(at, [each or GIVEN for each in inputs])
        for positions, measure in ((SIZE_PRODUCTS, _bound), (SIZE_LARGEST, _one)):
            for position in positions.get(op_type, ()):
                origin = inputs[position] if position < len(inputs) else None
                if origin is not None:
                    yield from self._size_faults(op_type, at, origin, measure(origin))

    def attribute_faults(self, name: str, at: str, numbers: Numbers) -> Iterator[Fault]:
        """Check an attribute's numbers, if it is one that sets a size."""
        if name == "pads":
            yield from self._size_faults(name, at, SHAPE, max((_magnitude(n) for n in numbers), default=1))
        elif name in SIZE_ATTRIBUTES:
            yield from self._size_faults(name, at, SHAPE, _product(_magnitude(n) for n in numbers))

    def _range_faults(self, at: str, inputs: Sequence[Origin]) -> Iterator[Fault]:
        values = [each.values[0] if each.values else None for each in inputs[:3]]
        if len(values) != 3 or any(each.is_given for each in inputs):  # noqa: PLR2004  start, limit and step
            yield "size-not-constant", at, "Range takes a start, limit or step that a client sends."
            return
        start, limit, delta = values
        if not delta:
            yield "size-not-constant", at, "Range takes a step that is no constant, or 0."
            return
        if start is None or limit is None:
            reach: int | float = max(inputs[0].largest, inputs[1].largest)
        else:
            reach = abs(limit - start)
        yield from self._size_faults("Range", at, SHAPE, _magnitude(reach / abs(delta)))

    def _size_faults(self, name: str, at: str, origin: Origin, size: int) -> Iterator[Fault]:
        if origin.is_given:
            yield "size-not-constant", at, f"{name} takes a size that a client sends."
        elif size > self._max_one:
            yield "size-too-large", at, f"{name} asks for a size beyond {self._max_one}."
        else:
            within = self._asked <= self._max_all
            self._asked += size
            if within and self._asked > self._max_all:
                yield "size-too-large", at, f"all sizes together are beyond {self._max_all}."


def attribute_numbers(attribute: Message) -> Numbers | None:
    """Return the numbers of an attribute, None if they are many."""
    if attribute.has("i"):
        return (attribute.integer("i"),)
    if attribute.has("f", "floats"):
        bits = [*attribute.values("f"), *attribute.values("floats")]
        single = [bit for bit in bits if isinstance(bit, int)]
        return struct.unpack(f"<{len(single)}f", struct.pack(f"<{len(single)}I", *single)) if bits == single else None
    return attribute.integers("ints")


def _magnitude(number: float) -> int:
    """Return a bound on an absolute number, at least 1; infinities and no numbers are huge."""
    return max(1, math.ceil(abs(number))) if math.isfinite(number) and abs(number) < _HUGE else _HUGE


def _product(numbers: Iterator[int]) -> int:
    product = 1
    for number in numbers:
        product = min(product * number, _HUGE)
    return product


def _bound(origin: Origin) -> int:
    return origin.bound


def _one(origin: Origin) -> int:
    return origin.largest


def _multiplied(inputs: Sequence[Origin]) -> int:
    return _product(each.bound for each in inputs)


def _added(inputs: Sequence[Origin]) -> int:
    return min(sum(each.bound for each in inputs), _HUGE)


def _largest(inputs: Sequence[Origin]) -> int:
    return max(each.bound for each in inputs)


def _first(inputs: Sequence[Origin]) -> int:
    return inputs[0].bound


def _divided(inputs: Sequence[Origin]) -> int:
    """Return a bound on a quotient; a divisor that is a shape is at least 1."""
    divisors = inputs[-1].values
    is_enlarging = divisors is not None and any(abs(number) < 1 for number in divisors)
    return _HUGE if is_enlarging else inputs[0].bound


_KEEPS_FIRST: Final = frozenset({"Identity", "Cast", "CastLike", "Unsqueeze", "Squeeze", "Reshape", "Flatten"})
_BOUNDS: Final[Mapping[str, Callable[[Sequence[Origin]], int]]] = MappingProxyType(
    {
        **dict.fromkeys(("Concat", "Mul"), _multiplied),
        **dict.fromkeys(("Add", "Sub", "Sum"), _added),
        **dict.fromkeys(("Where", "Max", "Min", "ScatterElements", "ScatterND"), _largest),
        **dict.fromkeys(
            ("Gather", "GatherND", "GatherElements", "Slice", "Split", "Transpose", "Mod", "Floor", "Ceil", "Round"),
            _first,
        ),
        **dict.fromkeys(("Abs", "Neg", "Sqrt", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Expand"), _first),
        **dict.fromkeys(("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "And", "Or", "Not"), lambda _: 1),
        "Div": _divided,
    }
)
"""How large the numbers of an operator's output may be; those of any other are taken for huge."""


def _unbounded(_: Sequence[Origin]) -> int:
    return _HUGE
