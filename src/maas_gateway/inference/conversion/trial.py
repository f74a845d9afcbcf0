"""Try an engine on a model that is served as it was uploaded: what it takes and gives, and whether it answers alike.

Rules:
    * Inputs are drawn from what the model declares, with a fixed seed: floats standard normal, integers small, bools
      even, texts of a few letters. Dimensions of one name have one size. Where a size or an integer does not suit the
      model, others are tried.
    * Batches of 1, 2 and 7 rows, with two sizes of other free dimensions. The second engine's answers are the
      reference: floating-point outputs differ by at most `TOLERANCE` of the output's largest value, others not at
      all. The first engine is asked twice, and answers alike to the last bit.
    * An output's shape is what was observed: a dimension is free if it is declared so or was seen to vary. Where a
      model takes rows, an output that has a free number of rows has as many.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from maas_gateway.inference.conversion.refusal import NotConvertible
from maas_gateway.inference.conversion.sample import note, read_sample
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import FREE, TensorSpec

Array = NDArray[np.generic]
Run = Callable[[tuple[Array, ...]], tuple[Array, ...]]
Dimension = int | str | None
Shape = tuple[Dimension, ...]

TOLERANCE: Final = 1e-5
"""Largest difference from the reference that is served, relative to the largest absolute output."""

_BATCHES: Final = (1, 2, 7, 1)
_FREE_SIZES: Final = (5, 12, 32, 64, 96, 224)
_N_FREE_SIZES: Final = 2
_INTEGER_BOUNDS: Final = (16, 2, 1)
_TEXTS: Final = (b"a", b"b", b"red", b"x1", b"")
_SEED: Final = 20240229
_N_TIMED: Final = 9


class CannotCompute(Exception):
    """The engine refuses an input; the message says why, in its own words."""


@dataclass(frozen=True, slots=True)
class Declared:
    """An input or output as the file declares it.

    Attributes:
        name: unique among the inputs or among the outputs.
        datatype: of the protocol.
        shape: a number, or a name or None where the request chooses; None as a whole if it is not declared.
    """

    name: str
    datatype: Datatype
    shape: Shape | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial showed.

    Attributes:
        inputs: `{"name", "datatype", "shape"}` of each, for the signature.
        outputs: the same for outputs.
        max_relative_error: largest difference from the reference by the largest absolute value.
        n_compared: output elements compared.
        took_us: microseconds that one row took, the median of some calls.
        notes: sentences for the publisher.
        others: what `plan` says of further engines, which were held against the same reference.
    """

    inputs: list[dict[str, object]]
    outputs: list[dict[str, object]]
    max_relative_error: float
    n_compared: int
    took_us: int
    notes: list[str]
    others: list[Mapping[str, object]] = field(default_factory=list)

    def header(self, runtime: str) -> dict[str, object]:
        """Return the child's answer: the upload as rebuilt is the plan, in its own order."""
        signature = {"inputs": self.inputs, "outputs": self.outputs}
        plans = [self.plan(runtime), *self.others]
        return {"signature": signature, "plans": plans, "n_compared": self.n_compared, "notes": self.notes}

    def plan(self, runtime: str) -> dict[str, object]:
        """Return what the answer says of the upload as rebuilt as a plan."""
        return {
            "runtime": runtime,
            "n_bytes": 0,
            "input_order": list(range(len(self.inputs))),
            "output_order": list(range(len(self.outputs))),
            "max_relative_error": self.max_relative_error,
            "tolerance": TOLERANCE,
            "took_us": self.took_us,
        }


def try_out(
    inputs: Sequence[Declared], outputs: Sequence[Declared], engine: Run, reference: Run, *, sample: bytes = b""
) -> Outcome:
    """Return what the engine does with inputs drawn from the declarations.

    Args:
        inputs: what the model takes, in the engine's order.
        outputs: what it gives, in the engine's order.
        engine: computes as it will be served; raises `CannotCompute`.
        reference: computes the same in the plainest way; raises the same.
        sample: the publisher's, see `sample`; empty for none.

    Raises:
        NotConvertible: nothing that was tried can be computed, the sample does not fit, or the answers differ.
    """
    if not inputs or not outputs:
        raise NotConvertible("the model takes nothing or gives nothing")
    for declared in inputs:
        if declared.shape is None:
            raise NotConvertible(f"input '{declared.name}' does not declare its shape")
    samples = _Samples(inputs)
    differences = [_Difference(declared) for declared in outputs]

    def compare(arrays: tuple[Array, ...], n_rows: int) -> None:
        answers, again, wanted = engine(arrays), engine(arrays), reference(arrays)
        for difference, *compared in zip(differences, answers, again, wanted, strict=True):
            difference.add(*compared, n_rows=n_rows if samples.has_rows else None)

    for free_size in samples.sizes_that(engine, reference):
        for n_rows in _BATCHES:
            compare(samples.draw(n_rows, free_size), n_rows)
    notes = []
    if sample:
        own, n_rows = read_sample(sample, [_spec(declared) for declared in inputs])
        try:
            compare(tuple(own), n_rows)
        except CannotCompute as cannot:
            raise NotConvertible(f"the model does not run on the sample: {cannot}") from cannot
        notes.append(note(n_rows))
    return Outcome(
        inputs=[_port(declared, _free(declared.shape or ())) for declared in inputs],
        outputs=[difference.port() for difference in differences],
        max_relative_error=max(difference.relative() for difference in differences),
        n_compared=sum(difference.n_compared for difference in differences),
        took_us=_time_one_row(engine, samples),
        notes=notes,
    )


class _Samples:
    """A source of inputs for one model."""

    def __init__(self, inputs: Sequence[Declared]) -> None:
        self._inputs = inputs
        self._bound = _INTEGER_BOUNDS[0]
        self.free_size = _FREE_SIZES[0]
        self.has_rows = all((declared.shape or (1,))[:1] and not _is_fixed(declared) for declared in inputs)
        inner = [declared.shape[1:] if self.has_rows else declared.shape for declared in inputs if declared.shape]
        self._has_free_sizes = any(not isinstance(size, int) for shape in inner for size in shape)

    def sizes_that(self, *engines: Run) -> list[int]:
        """Return the sizes of free dimensions that suit the model, and settle on integers that do.

        Raises:
            NotConvertible: none does.
        """
        sizes = _FREE_SIZES if self._has_free_sizes else _FREE_SIZES[:1]
        found: list[int] = []
        reason = ""
        for self._bound, size in product(_INTEGER_BOUNDS, sizes):
            try:
                for engine in engines:
                    engine(self.draw(2, size))
            except CannotCompute as cannot:
                reason = reason or str(cannot)
                continue
            found.append(size)
            if len(found) == (_N_FREE_SIZES if self._has_free_sizes else 1):
                break
        if not found:
            raise NotConvertible(f"the engine computes no input drawn from the model's declarations: {reason}")
        self.free_size = found[0]
        return found

    def draw(self, n_rows: int, free_size: int) -> tuple[Array, ...]:
        """Return one array for each input; the same call returns the same."""
        rng = np.random.default_rng((_SEED, n_rows, free_size))
        names: dict[str, int] = {}
        for declared in self._inputs if self.has_rows else ():
            if declared.shape and isinstance(declared.shape[0], str):
                names[declared.shape[0]] = n_rows
        arrays = []
        for declared in self._inputs:
            sizes = [
                size
                if isinstance(size, int)
                else names.get(size or "", n_rows if self.has_rows and not axis else free_size)
                for axis, size in enumerate(declared.shape or ())
            ]
            arrays.append(self._values(rng, declared.datatype, tuple(sizes)))
        return tuple(arrays)

    def _values(self, rng: np.random.Generator, datatype: Datatype, shape: tuple[int, ...]) -> Array:
        if datatype is Datatype.BYTES:
            texts = np.empty(math.prod(shape), dtype=np.object_)
            texts[:] = [_TEXTS[index] for index in rng.integers(0, len(_TEXTS), texts.size)]
            return texts.reshape(shape)
        if datatype is Datatype.BOOL:
            return rng.integers(0, 2, shape).astype(np.bool_)
        if datatype.is_float:
            return np.asarray(rng.standard_normal(shape)).astype(datatype.numpy)
        return np.asarray(rng.integers(0, self._bound, shape)).astype(datatype.numpy)


class _Difference:
    """How far one output has differed so far, and which shapes it had."""

    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self._largest_value = 0.0
        self._largest_difference = 0.0
        self._shapes: set[tuple[int, ...]] = set()
        self.n_compared = 0

    def add(self, got: Array, again: Array, want: Array, *, n_rows: int | None) -> None:
        """Take in one batch; `n_rows` is None where the model takes no rows.

        Raises:
            NotConvertible: the answers differ where they must not, or are not what is declared.
        """
        name = self._declared.name
        if got.dtype != self._declared.datatype.numpy or not self._fits(got.shape):
            raise NotConvertible(f"output '{name}' has another datatype or shape than the model declares")
        if not _same(got, again):
            raise NotConvertible(f"output '{name}' differs from call to call with the same input")
        if want.shape != got.shape or want.dtype != got.dtype:
            raise NotConvertible(f"output '{name}' changes its shape or datatype when the engine optimises the model")
        self._shapes.add(got.shape)
        if n_rows is not None and len(self._first_sizes()) > 1 and got.shape[0] != n_rows:
            raise NotConvertible(f"output '{name}' does not have one row for each row of the inputs")
        if got.dtype.kind == "f":
            self._add_floats(got.astype(np.float64), want.astype(np.float64))
        elif not _same(got, want):
            raise NotConvertible(f"output '{name}' differs when the engine optimises the model")
        self.n_compared += got.size

    def _add_floats(self, got: NDArray[np.float64], want: NDArray[np.float64]) -> None:
        is_finite = np.isfinite(want)
        if not (
            np.array_equal(is_finite, np.isfinite(got))
            and np.array_equal(got[~is_finite], want[~is_finite], equal_nan=True)
        ):
            raise NotConvertible(f"output '{self._declared.name}' is infinite or no number where it must not be")
        got, want = got[is_finite], want[is_finite]
        self._largest_value = max(self._largest_value, float(np.max(np.abs(want), initial=0.0)))
        self._largest_difference = max(self._largest_difference, float(np.max(np.abs(want - got), initial=0.0)))

    def relative(self) -> float:
        """Return the largest difference by the largest absolute value.

        Raises:
            NotConvertible: it is larger than `TOLERANCE`.
        """
        relative = self._largest_difference / (self._largest_value or 1.0)
        if relative > TOLERANCE:
            name = self._declared.name
            raise NotConvertible(
                f"output '{name}' differs by {relative:.1e} of its largest value, more than {TOLERANCE}"
            )
        return relative

    def port(self) -> dict[str, object]:
        """Return what the signature says of this output."""
        declared = _free(self._declared.shape) if self._declared.shape is not None else None
        observed = [set(sizes) for sizes in zip(*self._shapes, strict=True)] if self._shapes else []
        shape = [
            FREE if len(sizes) > 1 or (declared is not None and declared[axis] == FREE) else min(sizes)
            for axis, sizes in enumerate(observed)
        ]
        return _port(self._declared, shape)

    def _first_sizes(self) -> set[int]:
        return {shape[0] for shape in self._shapes if shape}

    def _fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether a shape is of the rank seen before, and what the file declares."""
        if any(len(seen) != len(shape) for seen in self._shapes):
            return False
        declared = self._declared.shape
        return declared is None or (
            len(declared) == len(shape)
            and all(not isinstance(want, int) or want == got for want, got in zip(declared, shape, strict=True))
        )


def _is_fixed(declared: Declared) -> bool:
    return bool(declared.shape) and isinstance((declared.shape or (0,))[0], int)


def _spec(declared: Declared) -> TensorSpec:
    return TensorSpec(declared.name, declared.datatype, tuple(_free(declared.shape or ())))


def _free(shape: Shape) -> list[int]:
    return [size if isinstance(size, int) else FREE for size in shape]


def _port(declared: Declared, shape: list[int]) -> dict[str, object]:
    return {"name": declared.name, "datatype": declared.datatype.value, "shape": shape}


def _same(one: Array, other: Array) -> bool:
    is_float = one.dtype.kind == "f"
    return one.dtype == other.dtype and bool(np.array_equal(one, other, equal_nan=is_float))


def _time_one_row(engine: Run, samples: _Samples) -> int:
    arrays = samples.draw(1, samples.free_size)
    took = []
    for _ in range(_N_TIMED):
        began = time.perf_counter()
        engine(arrays)
        took.append(time.perf_counter() - began)
    return max(1, round(sorted(took)[_N_TIMED // 2] * 1e6))


def unique_names(names: Sequence[str]) -> list[str]:
    """Return names made unique by a suffix `_1`, `_2`, …; an empty one becomes `tensor`."""
    taken = set(names)
    found: list[str] = []
    for name in (name or "tensor" for name in names):
        candidate, n = name, 0
        while candidate in found or (n and candidate in taken):
            n += 1
            candidate = f"{name}_{n}"
        found.append(candidate)
    return found
