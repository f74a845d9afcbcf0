"""Run a plan beside the Keras model it was made from, on random inputs, and measure how far they differ.

Rules: batches of 1, 2 and 7 rows, with two sizes for free dimensions, all on one interpreter that
is resized in between; every output has the model's shape; floating-point outputs differ by at most
`TOLERANCE` of that output's largest absolute value over all batches, others not at all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from maas_gateway.inference.conversion.answer import TOLERANCE
from maas_gateway.inference.conversion.lowering import FREE, Port
from maas_gateway.inference.conversion.refusal import NotConvertible, raise_if_out_of_memory, sentence
from maas_gateway.inference.conversion.samples import Array, Samples

if TYPE_CHECKING:
    import keras

_BATCHES: Final = (1, 2, 7, 1)
# Sizes to try where a dimension is free: a model may ask for a least one, or for a multiple.
_FREE_SIZES: Final = (5, 12, 32, 64, 96, 224)
_N_FREE_SIZES: Final = 2


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a plan and its model agree.

    Attributes:
        max_relative_error: largest difference by the largest absolute value, over all outputs.
        n_compared: output elements compared.
        input_order: for each input of the signature, its position among the flatbuffer's inputs.
        output_order: the same for outputs.
    """

    max_relative_error: float
    n_compared: int
    input_order: tuple[int, ...]
    output_order: tuple[int, ...]


class Plan:
    """A LiteRT flatbuffer in an interpreter, called with arrays in the signature's order."""

    def __init__(self, flatbuffer: bytes, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        # imported where it runs: the interpreter belongs into the confined child here
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

        self._interpreter = Interpreter(model_content=flatbuffer)
        positions = {str(tensor["name"]): n for n, tensor in enumerate(self._interpreter.get_input_details())}
        try:
            self.input_order = tuple(positions[f"input_{n}"] for n in range(len(inputs)))
        except KeyError:
            raise NotConvertible("the converter drops an input that no output depends on") from None
        # The converter keeps the order of a list of outputs; that each has its name is what the comparison proves.
        self.output_order = tuple(range(len(self._interpreter.get_output_details())))
        if len(self.input_order) != len(positions) or len(self.output_order) != len(outputs):
            raise NotConvertible("the converter changes the number of inputs or outputs")

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the outputs, each a copy."""
        details = self._interpreter.get_input_details()
        indices = [int(details[position]["index"]) for position in self.input_order]
        for index, array in zip(indices, arrays, strict=True):
            self._interpreter.resize_tensor_input(index, array.shape)
        self._interpreter.allocate_tensors()
        for index, array in zip(indices, arrays, strict=True):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        outputs = self._interpreter.get_output_details()
        return [np.array(self._interpreter.get_tensor(outputs[position]["index"])) for position in self.output_order]


class Difference:
    """How far one output has differed so far, over all batches."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._largest_value = 0.0
        self._largest_difference = 0.0
        self.n_compared = 0

    def add(self, want: Array, got: Array) -> None:
        """Take in one batch.

        Args:
            want: Keras's answer.
            got: the plan's answer.

        Raises:
            NotConvertible: shape or datatype differ, or values differ that are not floating-point
                or not finite.
        """
        if want.shape != got.shape or want.dtype != got.dtype:
            raise NotConvertible(f"output '{self._name}' changes its shape or datatype when converted")
        if want.dtype.kind != "f" and not np.array_equal(want, got):
            raise NotConvertible(f"output '{self._name}' differs from Keras's on random inputs")
        exact, converted = want.astype(np.float64), got.astype(np.float64)
        is_finite = np.isfinite(exact)
        if not (
            np.array_equal(is_finite, np.isfinite(converted))
            and np.array_equal(exact[~is_finite], converted[~is_finite], equal_nan=True)
        ):
            raise NotConvertible(f"output '{self._name}' is infinite or no number where Keras's is not so")
        exact, converted = exact[is_finite], converted[is_finite]
        self._largest_value = max(self._largest_value, float(np.max(np.abs(exact), initial=0.0)))
        self._largest_difference = max(self._largest_difference, float(np.max(np.abs(exact - converted), initial=0.0)))
        self.n_compared += exact.size

    def relative(self) -> float:
        """Return the largest difference by the largest absolute value wanted.

        Raises:
            NotConvertible: it is larger than `TOLERANCE`, or nothing was there to compare.
        """
        if not self.n_compared:
            raise NotConvertible(f"output '{self._name}' has no finite value on any of the random inputs tried")
        relative = self._largest_difference / (self._largest_value or 1.0)
        if relative > TOLERANCE:
            raise NotConvertible(
                f"output '{self._name}' differs from Keras's by {relative:.1e} of its largest value, "
                f"more than {TOLERANCE:.0e}"
            )
        return relative


def compare(model: "keras.Model", flatbuffer: bytes, inputs: Sequence[Port], outputs: Sequence[Port]) -> Agreement:
    """Return how well they agree.

    Raises:
        NotConvertible: they do not, or one of them does not run.
    """
    plan = Plan(flatbuffer, inputs, outputs)
    differences = [Difference(port.name) for port in outputs]
    for arrays, expected in islice(_references(model, inputs), len(_BATCHES) * _N_FREE_SIZES):
        try:
            given = plan.run(arrays)
        except (RuntimeError, ValueError) as fault:
            raise NotConvertible(f"the converted model does not run: {sentence(str(fault))}") from fault
        for difference, want, got in zip(differences, expected, given, strict=True):
            difference.add(want, got)
    worst = max(difference.relative() for difference in differences)
    n_compared = sum(difference.n_compared for difference in differences)
    return Agreement(worst, n_compared, plan.input_order, plan.output_order)


def _references(model: "keras.Model", inputs: Sequence[Port]) -> Iterator[tuple[list[Array], list[Array]]]:
    """Yield random inputs and Keras's answers, for every size that the model accepts."""
    # imported where it runs: Keras is loaded in the confined child only
    from keras import tree

    samples = Samples(model, inputs)
    structure = getattr(model, "_inputs_struct", None)
    has_free = any(FREE in port.shape[1:] for port in inputs)
    for size in _FREE_SIZES if has_free else (0,) * _N_FREE_SIZES:
        for n_rows in _BATCHES:
            arrays = samples.draw(n_rows, size)
            packed = arrays[0] if structure is None else tree.pack_sequence_as(structure, arrays)
            try:
                answers = tree.flatten(model(packed, training=False))
            except Exception as fault:
                raise_if_out_of_memory(fault)
                if has_free:
                    break  # too small for this model: try the next size
                raise NotConvertible(f"Keras cannot run the model: {sentence(str(fault))}") from fault
            yield arrays, [np.asarray(answer) for answer in answers]
