"""Random inputs for a model of which only the signature is known, and its answers to them.

Rules: floats are standard normal, and larger where an output stays tiny (`comparison`); integers are small, and smaller
still where the model accepts none of those (an index into a table of unknown size); texts are a few words; bools are even. The seed is fixed: the same model meets the same inputs.
A row's answer is the same whichever rows stand beside it: the gateway puts requests together, and a model that mixes
rows would tell one caller about another.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from maas_gateway.inference.conversion.comparison import TINY, Difference, Engine, Reference
from maas_gateway.inference.conversion.lowering import FREE, Port
from maas_gateway.inference.conversion.refusal import NotConvertible, raise_if_out_of_memory, sentence
from maas_gateway.inference.conversion.samples import Array

_BATCHES: Final = (1, 2, 7, 1)
# Sizes to try where a dimension is free: a model may ask for a least one, or for a multiple.
_FREE_SIZES: Final = (5, 12, 32, 64, 96, 224)
_N_FREE_SIZES: Final = 2
_INTEGER_BOUNDS: Final = (16, 2, 1)
_SCALES: Final = (1.0, 8.0, 64.0)
_WORDS: Final = (b"a", b"b", b"red", b"some words", b"", b"12", b"unheard-of")
_SEED: Final = 20240229
_ROWS_TOLERANCE: Final = 1e-4
"""How far a row's answer may depend on the size of its batch: other kernels add up in another order."""


class SignatureSamples:
    """A source of random inputs for one signature.

    Args:
        inputs: of the signature.
    """

    def __init__(self, inputs: Sequence[Port]) -> None:
        self._rng = np.random.default_rng(_SEED)
        self._inputs = inputs
        self._words = np.asarray(_WORDS, np.object_)
        self.has_free_sizes = any(FREE in port.shape[1:] for port in inputs)

    def draw(self, n_rows: int, *, free_size: int, bound: int, scale: float) -> list[Array]:
        """Return one array for each input.

        Args:
            n_rows: size of the batch.
            free_size: size of every other free dimension.
            bound: what integers are below.
            scale: times as large floats as usual.
        """
        drawn = []
        for port in self._inputs:
            shape = (n_rows, *(free_size if n == FREE else n for n in port.shape[1:]))
            drawn.append(self._draw(port, shape, bound, scale))
        return drawn

    def _draw(self, port: Port, shape: tuple[int, ...], bound: int, scale: float) -> Array:
        if port.datatype == "BYTES":
            return np.asarray(self._rng.choice(self._words, shape), np.object_)
        if port.datatype == "BOOL":
            return self._rng.integers(0, 2, shape).astype(np.bool_)
        if port.datatype.startswith("FP"):
            return np.asarray(self._rng.standard_normal(shape) * scale).astype(port.dtype)
        return self._rng.integers(0, bound, shape).astype(port.dtype)


def signature_references(engine: Engine, samples: SignatureSamples, outputs: Sequence[Port]) -> list[Reference]:
    """Return random batches and a model's answers, for the first sizes that it accepts.

    Raises:
        NotConvertible: the model does not run, or not row by row.
    """
    bound, sizes = _accepted(engine, samples)
    found: list[Reference] = []
    settled = (False,) * len(outputs)
    for scale in _SCALES:
        for size in sizes:
            for n_rows in _BATCHES:
                arrays = samples.draw(n_rows, free_size=size, bound=bound, scale=scale)
                found.append(Reference(arrays, _answers(engine, arrays, n_rows, outputs), settled))
        settled = tuple(_is_settled(given) for given in zip(*(reference.outputs for reference in found), strict=True))
        if all(settled):
            break
    _check_rows(engine, found[: len(_BATCHES)], outputs)
    return found


def _accepted(engine: Engine, samples: SignatureSamples) -> tuple[int, list[int]]:
    """Return which integers and which sizes of free dimensions the model accepts."""
    reason = ""
    for bound in _INTEGER_BOUNDS:
        sizes: list[int] = []
        for size in _FREE_SIZES if samples.has_free_sizes else _FREE_SIZES[:1]:
            try:
                engine(samples.draw(2, free_size=size, bound=bound, scale=1.0))
            except Exception as fault:  # noqa: BLE001  whatever TensorFlow raises
                raise_if_out_of_memory(fault)
                reason = reason or sentence(str(fault))
                continue
            sizes.append(size)
            if len(sizes) == _N_FREE_SIZES:
                break
        if sizes:
            return bound, sizes
    raise NotConvertible(f"TensorFlow cannot run the model on any input drawn from its signature: {reason}")


def _answers(engine: Engine, arrays: Sequence[Array], n_rows: int, outputs: Sequence[Port]) -> list[Array]:
    try:
        answers = engine(arrays)
    except Exception as fault:
        raise_if_out_of_memory(fault)
        raise NotConvertible(f"TensorFlow cannot run the model on {n_rows} rows: {sentence(str(fault))}") from fault
    for port, answer in zip(outputs, answers, strict=True):
        if answer.shape[:1] != (n_rows,):
            raise NotConvertible(f"output '{port.name}' does not have one row for each row of the inputs")
    return answers


def _is_settled(outputs: Sequence[Array]) -> bool:
    """Return whether larger inputs would tell nothing new: no numbers, or some that are not tiny."""
    if outputs[0].dtype.kind != "f":
        return True
    return any(np.max(np.abs(output), initial=0.0, where=np.isfinite(output)) > TINY for output in outputs)


def _check_rows(engine: Engine, references: Sequence[Reference], outputs: Sequence[Port]) -> None:
    """Refuse a model that answers a row otherwise when other rows stand beside it."""
    differences = [Difference(port.name, tolerance=_ROWS_TOLERANCE) for port in outputs]
    for reference in references:
        n_rows = len(reference.inputs[0])
        alone = [engine([array[row : row + 1] for array in reference.inputs]) for row in range(n_rows)]
        for place, difference in enumerate(differences):
            try:
                difference.add(reference.outputs[place], np.concatenate([answers[place] for answers in alone]))
            except (NotConvertible, ValueError):
                raise _mixes_rows(outputs[place]) from None
    for port, difference in zip(outputs, differences, strict=True):
        try:
            difference.relative()
        except NotConvertible:
            raise _mixes_rows(port) from None


def _mixes_rows(port: Port) -> NotConvertible:
    return NotConvertible(
        f"output '{port.name}' answers a row otherwise when other rows stand beside it, and this gateway puts requests "
        f"together: export a model that computes row by row"
    )
