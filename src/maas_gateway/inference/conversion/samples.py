"""Random inputs that a model may be tried on, drawn from its signature.

Rules: floats are standard normal; where the model itself begins by standardising or rescaling an
input, they are so after that step (a network fed with values a hundred standard deviations off
amplifies the last bit of every sum, and would differ from itself on another processor); integers
are below the smallest table of the model; bools are even. The seed is fixed: the same archive
meets the same inputs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from maas_gateway.inference.conversion.lowering import FREE, Port

if TYPE_CHECKING:
    import keras

Array = NDArray[np.generic]

_INTEGER_BOUND: Final = 16  # for integers that no layer bounds
_LARGEST_INT8: Final = 127
_SEED: Final = 20240229


@dataclass(frozen=True, slots=True)
class _Spread:
    """Where an input's values lie: mean and standard deviation, of shapes that broadcast to a row's."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


class Samples:
    """A source of random inputs for one model."""

    def __init__(self, model: "keras.Model", inputs: Sequence[Port]) -> None:
        self._rng = np.random.default_rng(_SEED)
        self._inputs = inputs
        self._bound = _integer_bound(model)
        self._spreads = [_spread(tensor) for tensor in model.inputs]

    def draw(self, n_rows: int, free_size: int) -> list[Array]:
        """Return one array for each input.

        Args:
            n_rows: size of the batch.
            free_size: size of every other free dimension.
        """
        return [
            self._draw(port, spread, (n_rows, *(free_size if n == FREE else n for n in port.shape[1:])))
            for port, spread in zip(self._inputs, self._spreads, strict=True)
        ]

    def _draw(self, port: Port, spread: _Spread | None, shape: tuple[int, ...]) -> Array:
        if port.dtype == "bool":
            return self._rng.integers(0, 2, shape).astype(np.bool_)
        if not port.dtype.startswith("float"):
            return self._rng.integers(0, min(self._bound, _LARGEST_INT8), shape).astype(port.dtype)
        values = self._rng.standard_normal(shape)
        if spread is not None:
            values = values * spread.deviation + spread.mean
        return values.astype(port.dtype)


def _spread(tensor: "keras.KerasTensor") -> _Spread | None:
    """Return what the first layer after an input says of its values, if it says anything."""
    # imported where it runs: Keras is loaded in the confined child only
    import keras

    for node in tensor._keras_history.operation._outbound_nodes:  # noqa: SLF001  Keras has no public graph
        layer = node.operation
        if isinstance(layer, keras.layers.Normalization) and not layer.invert and layer.mean is not None:
            return _Spread(_floats(layer.mean), np.sqrt(_floats(layer.variance)))
        if isinstance(layer, keras.layers.BatchNormalization) and layer.axis in {-1, len(tensor.shape) - 1}:
            return _Spread(_floats(layer.moving_mean), np.sqrt(_floats(layer.moving_variance)))
        if isinstance(layer, keras.layers.Rescaling) and np.all(_floats(layer.scale)):
            scale = _floats(layer.scale)
            return _Spread(-_floats(layer.offset) / scale, 1 / np.abs(scale))
    return None


def _floats(values: object) -> NDArray[np.float64]:
    return np.asarray(values).astype(np.float64)


def _integer_bound(model: "keras.Model") -> int:
    """Return the number of integers that every table of the model can look up."""
    tables = [
        size
        for layer in model._flatten_layers()  # noqa: SLF001  Keras has no public way to nested layers
        for size in (getattr(layer, "input_dim", None), getattr(layer, "num_tokens", None))
        if isinstance(size, int) and size > 0
    ]
    return min(tables, default=_INTEGER_BOUND)
