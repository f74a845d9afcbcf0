"""Run a form of a model beside the model as it was uploaded, on random inputs, and measure how far they differ.

Rules: batches of 1, 2 and 7 rows, with two sizes for free dimensions, all on one engine; every output has the model's
shape; floating-point outputs differ by at most a tolerance of that output's largest absolute value over all batches,
others not at all; two values of a row are in another order only if they are as close as that; an output that is tiny
throughout is looked at on larger inputs too, for nothing can be said of a sum whose terms cancel out.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from maas_gateway.inference.conversion.answer import TOLERANCE
from maas_gateway.inference.conversion.lowering import FREE, Port
from maas_gateway.inference.conversion.refusal import (
    NotConvertible,
    keras_reason,
    raise_if_out_of_memory,
    sentence,
)
from maas_gateway.inference.conversion.sample import note, read_sample
from maas_gateway.inference.conversion.samples import Array, Samples
from maas_gateway.tensors.datatypes import Datatype, datatype_of
from maas_gateway.tensors.signature import TensorSpec

if TYPE_CHECKING:
    import keras

Engine = Callable[[Sequence[Array]], list[Array]]
"""Takes a batch for each input of the signature, and returns one for each output."""

TINY: Final = 0.1
"""An output that is nowhere larger than this says little about relative differences."""

_BATCHES: Final = (1, 2, 7, 1)
# Sizes to try where a dimension is free: a model may ask for a least one, or for a multiple.
_FREE_SIZES: Final = (5, 12, 32, 64, 96, 224)
_N_FREE_SIZES: Final = 2
_N_LARGER: Final = 2
_LARGER: Final = (8.0, 64.0)  # times as large inputs, for outputs that are tiny
_TIMED_RUNS: Final = 15
_TIMED_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Reference:
    """One batch, and the uploaded model's answers to it.

    Attributes:
        inputs: an array for each input.
        outputs: an array for each output.
        is_settled: for each output, whether it was large enough on smaller inputs, and counts there only.
    """

    inputs: Sequence[Array]
    outputs: Sequence[Array]
    is_settled: tuple[bool, ...]


class Difference:
    """How far one output has differed so far, over all batches."""

    def __init__(self, name: str, *, tolerance: float = TOLERANCE) -> None:
        self._name = name
        self._tolerance = tolerance
        self._largest_value = 0.0
        self._largest_difference = 0.0
        self._largest_inversion = 0.0
        self.n_compared = 0

    def add(self, want: Array, got: Array) -> None:
        """Take in one batch.

        Args:
            want: the uploaded model's answer.
            got: the other form's answer.

        Raises:
            NotConvertible: shape or datatype differ, or values differ that are not floating-point
                or not finite.
        """
        if want.shape != got.shape or want.dtype != got.dtype:
            raise NotConvertible(f"output '{self._name}' changes its shape or datatype when converted")
        if want.dtype.kind != "f":
            if not np.array_equal(want, got):
                raise NotConvertible(f"output '{self._name}' differs from the uploaded model's on random inputs")
            self.n_compared += want.size
            return
        exact, converted = want.astype(np.float64), got.astype(np.float64)
        is_finite = np.isfinite(exact)
        if not (
            np.array_equal(is_finite, np.isfinite(converted))
            and np.array_equal(exact[~is_finite], converted[~is_finite], equal_nan=True)
        ):
            raise NotConvertible(f"output '{self._name}' is infinite or no number where the uploaded model's is not so")
        if is_finite.all():
            self._largest_inversion = max(self._largest_inversion, _inversion(exact, converted))
        exact, converted = exact[is_finite], converted[is_finite]
        self._largest_value = max(self._largest_value, float(np.max(np.abs(exact), initial=0.0)))
        self._largest_difference = max(self._largest_difference, float(np.max(np.abs(exact - converted), initial=0.0)))
        self.n_compared += exact.size

    def relative(self) -> float:
        """Return the largest difference by the largest absolute value wanted.

        Raises:
            NotConvertible: it is larger than the tolerance, values are in another order, or nothing was there to
                compare.
        """
        if not self.n_compared:
            raise NotConvertible(f"output '{self._name}' has no finite value on any of the random inputs tried")
        largest = self._largest_value or 1.0
        relative = self._largest_difference / largest
        if relative > self._tolerance:
            raise NotConvertible(
                f"output '{self._name}' differs from the uploaded model's by {relative:.1e} of its largest value, "
                f"more than {self._tolerance:.0e}"
            )
        if self._largest_inversion / largest > self._tolerance:
            raise NotConvertible(f"output '{self._name}' ranks its values in another order than the uploaded model")
        return relative


def compare(
    engine: Engine, references: Sequence[Reference], outputs: Sequence[Port], *, tolerance: float
) -> tuple[float, int]:
    """Return the largest relative difference over all outputs, and how many elements were compared.

    Args:
        engine: runs the form that is compared.
        references: batches and what is wanted for them.
        outputs: of the signature.
        tolerance: the largest difference that passes.

    Raises:
        NotConvertible: they differ by more, or it does not run.
    """
    differences = [Difference(port.name, tolerance=tolerance) for port in outputs]
    for reference in references:
        try:
            given = engine(reference.inputs)
        except (RuntimeError, ValueError) as fault:
            raise_if_out_of_memory(fault)
            raise NotConvertible(f"the converted model does not run: {sentence(str(fault))}") from fault
        cases = zip(differences, reference.outputs, given, reference.is_settled, strict=True)
        for difference, want, got, is_settled in cases:
            if not is_settled:
                difference.add(want, got)
    worst = max(difference.relative() for difference in differences)
    return worst, sum(difference.n_compared for difference in differences)


def took_us(engine: Engine, references: Sequence[Reference]) -> int:
    """Return the median of the microseconds that one row takes, once the engine has computed before."""
    row = next((reference.inputs for reference in references if len(reference.inputs[0]) == 1), references[0].inputs)
    engine(row)
    times: list[float] = []
    while len(times) < _TIMED_RUNS and sum(times) < _TIMED_S:
        began = time.perf_counter()
        engine(row)
        times.append(time.perf_counter() - began)
    return round(statistics.median(times) * 1e6)


def references_of(model: "keras.Model", inputs: Sequence[Port]) -> list[Reference]:
    """Return random batches and a model's answers, for the first sizes that it accepts.

    Raises:
        NotConvertible: the model does not run.
    """
    samples = Samples(model, inputs)
    answered = _Answered(engine_of(model), samples, inputs)
    found = answered.first()
    for times in _LARGER:
        settled = tuple(_is_settled(outputs) for outputs in zip(*(r.outputs for r in found), strict=True))
        if all(settled):
            break
        samples.scale = times
        found += islice(answered.each(settled), _N_LARGER)
    return found


def sampled(engine: Engine, sample: bytes, inputs: Sequence[Port]) -> tuple[list[Reference], list[str]]:
    """Return the publisher's batch with the uploaded model's answers, and a note; nothing of either where there is none.

    Raises:
        NotConvertible: it does not fit the model, or the model does not run on it.
    """
    if not sample:
        return [], []
    arrays, n_rows = read_sample(sample, [TensorSpec.from_json(port.to_json()) for port in inputs])
    try:
        answers = engine(arrays)
    except Exception as objection:
        raise_if_out_of_memory(objection)
        raise NotConvertible(f"the model does not run on the sample: {keras_reason(str(objection))}") from objection
    return [Reference(arrays, answers, (False,) * len(answers))], [note(n_rows)]


def observed(outputs: Sequence[Port], references: Sequence[Reference]) -> list[Port]:
    """Return outputs with the datatypes that they have: Keras declares that of some lookups wrongly.

    Raises:
        NotConvertible: an answer is of a kind that is not served, or not of the shape that is declared.
    """
    ports = []
    for place, port in enumerate(outputs):
        answers = [reference.outputs[place] for reference in references]
        if any(not _fits(port, answer.shape) for answer in answers):
            raise NotConvertible(f"output '{port.name}' does not have the shape that the model declares")
        try:
            datatype = datatype_of(answers[0].dtype)
        except KeyError:
            raise NotConvertible(f"output '{port.name}' is of a kind that is not served: {answers[0].dtype}") from None
        dtype = "string" if datatype is Datatype.BYTES else answers[0].dtype.name
        ports.append(replace(port, datatype=datatype.value, dtype=dtype))
    return ports


def _fits(port: Port, shape: tuple[int, ...]) -> bool:
    return len(shape) == len(port.shape) and all(
        want in (FREE, got) for want, got in zip(port.shape, shape, strict=True)
    )


def engine_of(model: "keras.Model") -> Engine:
    """Return a Keras model as an engine: layer by layer, as a caller in Python has it."""
    # imported where it runs: Keras is loaded in the confined child only
    import tensorflow as tf
    from keras import tree

    structure = getattr(model, "_inputs_struct", None)

    def run(arrays: Sequence[Array]) -> list[Array]:
        tensors = [tf.constant(array) for array in arrays]
        packed = tensors[0] if structure is None else tree.pack_sequence_as(structure, tensors)
        return [np.asarray(answer) for answer in tree.flatten(model(packed, training=False))]

    return run


def _inversion(exact: Array, converted: Array) -> float:
    """Return by how much values of one row stand in another order than they should, at most."""
    if exact.ndim < 2 or not exact.size:  # noqa: PLR2004  a batch of single values ranks nothing
        return 0.0
    ordered = np.take_along_axis(exact, np.argsort(converted, axis=-1, kind="stable"), axis=-1)
    return float(np.max(np.maximum.accumulate(ordered, axis=-1) - ordered))


def _is_settled(outputs: Sequence[Array]) -> bool:
    """Return whether larger inputs would tell nothing new: no numbers, or some that are not tiny."""
    if outputs[0].dtype.kind != "f":
        return True
    return any(np.max(np.abs(output), initial=0.0, where=np.isfinite(output)) > TINY for output in outputs)


class _Answered:
    """Batches that a model has answered."""

    def __init__(self, engine: Engine, samples: Samples, inputs: Sequence[Port]) -> None:
        self._engine = engine
        self._samples = samples
        self._has_free = any(FREE in port.shape[1:] for port in inputs)
        self._objection: Exception | None = None

    def first(self) -> list[Reference]:
        """Return some, with integers that the model accepts: they may be places in something small.

        Raises:
            NotConvertible: the model accepts nothing that was tried.
        """
        usual = self._samples.bound
        for bound in (usual, *(bound for bound in (2, 1) if bound < usual)):
            self._samples.bound = bound
            found = list(islice(self.each(()), len(_BATCHES) * _N_FREE_SIZES))
            if found:
                return found
        raise NotConvertible(f"Keras cannot run the model: {keras_reason(str(self._objection))}") from self._objection

    def each(self, settled: tuple[bool, ...]) -> Iterator[Reference]:
        """Yield batches and answers, for every size that the model accepts."""
        for size in _FREE_SIZES if self._has_free else (0,):
            for n_rows in _BATCHES:
                arrays = self._samples.draw(n_rows, size)
                try:
                    answers = self._engine(arrays)
                except Exception as objection:  # noqa: BLE001  whatever a model raises is about what it was given
                    raise_if_out_of_memory(objection)
                    self._objection = self._objection or objection
                    break  # too small for this model, or too large: try the next size
                yield Reference(arrays, answers, settled or (False,) * len(answers))
