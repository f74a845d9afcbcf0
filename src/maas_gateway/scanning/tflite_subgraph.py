"""One subgraph of a TensorFlow Lite model: its tensors, and how data flows through its operators.

Rules:
    * Tensors: plain numeric types, no variables, at most 8 dimensions; bounded elements each and in sum; a constant has
      exactly the bytes that shape and type ask for.
    * Data flows forward: an operator reads constants, inputs or what an earlier one wrote, and each tensor is written
      once. So no kernel reads memory that nobody wrote in this request.
    * What sets a size at run time is a small constant.
"""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from maas_gateway.scanning.flatbuffer import FlatBuffer, Span, Table
from maas_gateway.scanning.tflite_operators import OPERATORS, SIZE_INPUTS

Fault = tuple[str, str, str]
"""Rule, place, sentence."""

_MAX_RANK: Final = 8
_MAX_SIZES: Final = 64
_INT32: Final = 2
_INT64: Final = 4
_ITEM_BITS: Final = {
    0: 32,
    1: 16,
    _INT32: 32,
    3: 8,
    _INT64: 64,
    6: 8,
    7: 16,
    9: 8,
    10: 64,
    12: 64,
    15: 32,
    16: 16,
    17: 4,
}
"""Bits of an element by tensor type: no strings, complex numbers, resources or variants."""


@dataclass(frozen=True, slots=True)
class TFLiteLimits:
    """What one graph may declare.

    Attributes:
        max_bytes: the file.
        max_tensors: tensors, and operators as well.
        max_tensor_elements: elements of one tensor.
        max_total_elements: elements of all tensors that are no constants.
        max_size_argument: value of a constant that sets a size, and product of such values.
    """

    max_bytes: int = 1024 * 1024 * 1024
    max_tensors: int = 50_000
    max_tensor_elements: int = 2**28
    max_total_elements: int = 2**30
    max_size_argument: int = 2**20


class Subgraph:
    """The rules on one subgraph.

    Args:
        file: where constants lie.
        model: the model that it belongs to.
        graph: the subgraph's own table.
        limits: what it may declare.
    """

    def __init__(self, file: FlatBuffer, model: Table, graph: Table, limits: TFLiteLimits) -> None:
        self._file = file
        self._limits = limits
        self._buffers = model.tables("buffers")
        self._codes = model.tables("operator_codes")
        self._tensors = graph.tables("tensors")
        self.graph = graph
        self.n_elements = 0

    @property
    def n_tensors(self) -> int:
        """How many tensors it has."""
        return len(self._tensors)

    def type_of(self, index: int) -> int | None:
        """Return a tensor's type, None if there is no such tensor."""
        return self._tensors[index].integer("type") if 0 <= index < len(self._tensors) else None

    def faults(self) -> Iterator[Fault]:
        """Yield what is wrong with it; `n_elements` counts those of tensors that are no constants."""
        n_operators = len(self.graph.tables("operators"))
        if max(len(self._tensors), n_operators) > self._limits.max_tensors:
            yield "too-many-tensors", self.graph.at, f"more than {self._limits.max_tensors} tensors or operators."
            return
        yield from self._tensor_faults()
        if all(self._is_sound(operator) for operator in self.graph.tables("operators")):
            yield from self._flow_faults(self.graph)
        else:
            yield from self._index_faults(self.graph)

    def _tensor_faults(self) -> Iterator[Fault]:
        for tensor in self._tensors:
            shape, bits = tensor.numbers("shape"), _ITEM_BITS.get(tensor.integer("type"))
            signature = tensor.numbers("shape_signature")
            n_elements = math.prod(shape) if len(shape) <= _MAX_RANK else 0
            if bits is None:
                yield "tensor-type", tensor.at, f"tensor type {tensor.integer('type')} is not accepted."
                continue
            if len(shape) > _MAX_RANK or min((*shape, 0)) < 0 or n_elements > self._limits.max_tensor_elements:
                yield "tensor-shape", tensor.at, "the shape has too many dimensions or elements, or a negative one."
                continue
            if signature and (len(signature) != len(shape) or min(signature) < -1):
                yield "tensor-shape", tensor.at, "shape and shape signature do not fit."
            if tensor.integer("is_variable"):
                yield "variable", tensor.at, "a variable would keep what one request left for the next."
            if tensor.integer("buffer") >= len(self._buffers):
                yield "index", f"{tensor.at}.buffer", "there is no such buffer."
            elif self._is_constant(tensor):
                if self._n_bytes(tensor.integer("buffer")) != (n_elements * bits + 7) // 8:
                    yield "constant-size", tensor.at, "the constant's bytes do not fit its shape and type."
            else:
                self.n_elements += n_elements
            yield from _quantization_faults(tensor, shape)

    def _is_sound(self, operator: Table) -> bool:
        """Return whether all indices of an operator are in range; -1 stands for an input left out."""
        n_tensors = len(self._tensors)
        return (
            operator.integer("opcode_index") < len(self._codes)
            and all(-1 <= index < n_tensors for index in operator.numbers("inputs"))
            and all(0 <= index < n_tensors for index in operator.numbers("outputs"))
            and all(index == -1 for index in operator.numbers("intermediates"))
            and not any(operator.numbers("mutating_variable_inputs"))
            and not operator.integer("large_custom_options_offset")
            and not operator.integer("large_custom_options_size")
        )

    def _index_faults(self, graph: Table) -> Iterator[Fault]:
        for operator in graph.tables("operators"):
            if not self._is_sound(operator):
                yield "index", operator.at, "it names an operator code or a tensor that is not there, or foreign data."

    def _flow_faults(self, graph: Table) -> Iterator[Fault]:
        """Follow the data; all operators are sound."""
        n_tensors = len(self._tensors)
        ends = graph.numbers("inputs") + graph.numbers("outputs")
        if not graph.numbers("outputs") or any(not 0 <= index < n_tensors for index in ends):
            yield "index", graph.at, "an input or output names a tensor that is not there, or there is no output."
            return
        if any(self._is_constant(self._tensors[index]) for index in graph.numbers("inputs")):
            yield "dataflow", f"{graph.at}.inputs", "an input is a constant."
        written = set(graph.numbers("inputs"))
        for operator in graph.tables("operators"):
            inputs, outputs = operator.numbers("inputs"), operator.numbers("outputs")
            if any(index not in written and not self._is_constant_at(index) for index in inputs if index >= 0):
                yield "dataflow", operator.at, "it reads a tensor that nothing wrote before."
            if any(index in written or self._is_constant_at(index) for index in outputs) or not outputs:
                yield "dataflow", operator.at, "it writes nothing, a constant, an input, or a tensor that was written."
            if len(set(outputs)) != len(outputs):
                yield "dataflow", operator.at, "it writes one tensor twice."
            written.update(outputs)
            yield from self._size_faults(operator)
        if any(index not in written and not self._is_constant_at(index) for index in graph.numbers("outputs")):
            yield "dataflow", f"{graph.at}.outputs", "an output is a tensor that nothing wrote."

    def _size_faults(self, operator: Table) -> Iterator[Fault]:
        """Check the inputs that set a size: constants, and small."""
        code = self._codes[operator.integer("opcode_index")]
        name, inputs = OPERATORS.get(builtin_of(code), ""), operator.numbers("inputs")
        for position in SIZE_INPUTS.get(name, ()):
            sizes = self._constants(inputs[position]) if position < len(inputs) else None
            if sizes is None:
                yield "size-not-constant", operator.at, f"{name} takes a size that is no constant."
            elif len(sizes) > _MAX_SIZES or math.prod(max(abs(n), 1) for n in sizes) > self._limits.max_size_argument:
                yield "size-too-large", operator.at, f"{name} asks for a size beyond {self._limits.max_size_argument}."

    def _constants(self, index: int) -> tuple[int, ...] | None:
        """Return a constant tensor's integers, None if it is no constant of integers."""
        if not self._is_constant_at(index):
            return None
        tensor = self._tensors[index]
        letter = {_INT32: "i", _INT64: "q"}.get(tensor.integer("type"))
        span = self._buffers[tensor.integer("buffer")].span("data")
        if letter is None or span is None or span.n_bytes % struct.calcsize(f"<{letter}"):
            return None
        item_bytes = struct.calcsize(f"<{letter}")
        n_items = min(span.n_bytes // item_bytes, _MAX_SIZES + 1)
        return struct.unpack(f"<{n_items}{letter}", self._file.bytes_at(Span(span.offset, n_items * item_bytes)))

    def _is_constant_at(self, index: int) -> bool:
        return 0 <= index < len(self._tensors) and self._is_constant(self._tensors[index])

    def _is_constant(self, tensor: Table) -> bool:
        """Return whether the tensor's bytes are in the file; a constant without elements has an empty vector there."""
        index = tensor.integer("buffer")
        if index >= len(self._buffers):
            return False
        is_empty = 0 in tensor.numbers("shape")
        return self._n_bytes(index) > 0 or (is_empty and self._buffers[index].span("data") is not None)

    def _n_bytes(self, index: int) -> int:
        span = self._buffers[index].span("data") if 0 <= index < len(self._buffers) else None
        return span.n_bytes if span is not None else 0


def builtin_of(code: Table) -> int:
    """Return the operator's number: the larger of the old int8 field and the new one, as the interpreter takes it."""
    return max(code.integer("deprecated_builtin_code"), code.integer("builtin_code"))


def _quantization_faults(tensor: Table, shape: tuple[int, ...]) -> Iterator[Fault]:
    """Check that scales belong to an axis that is there."""
    quantization = tensor.table("quantization")
    if quantization is None:
        return
    scales, zeros = quantization.fields.get("scale"), quantization.numbers("zero_point")
    n_scales = len(scales) if isinstance(scales, tuple) else 0
    axis = quantization.integer("quantized_dimension")
    if n_scales > 1 and not (0 <= axis < len(shape) and shape[axis] == n_scales):
        yield "quantization", tensor.at, "there are several scales, and not one for each slice of an axis."
    if n_scales and len(zeros) not in (1, n_scales):
        yield "quantization", tensor.at, "scales and zero points are not equally many."
    if quantization.integer("details_type"):
        yield "quantization", tensor.at, "custom quantization is not accepted."
