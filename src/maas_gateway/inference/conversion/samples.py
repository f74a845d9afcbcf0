"""Random inputs that a model may be tried on, drawn from its signature.

Rules: floats are standard normal; where the model itself begins by standardising or rescaling an input, they are so
after that step (a network fed with values a hundred standard deviations off amplifies the last bit of every sum, and
would differ from itself on another processor); integers are below the smallest table of the model, or of a vocabulary
that is looked up first; texts are a few words of such a vocabulary, one in eight of them of no vocabulary where that is
allowed; bools are even. The seed is fixed: the same archive meets the same inputs.
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
_MAX_TOKENS: Final = 10_000
_MAX_WORDS: Final = 9
_ONE_IN: Final = 8
_SEED: Final = 20240229


@dataclass(frozen=True, slots=True)
class _Spread:
    """Where an input's values lie: mean and standard deviation, of shapes that broadcast to a row's."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Vocabulary:
    """What an input's values may be.

    Attributes:
        tokens: words or integers, at least one.
        is_text: whether a value is several words.
        takes_others: whether a word of no vocabulary is accepted.
    """

    tokens: tuple[str | int, ...]
    is_text: bool
    takes_others: bool


_NO_VOCABULARY: Final = _Vocabulary(
    ("some", "words", "Of", "no-vocabulary", "12", "né"), is_text=True, takes_others=True
)


class Samples:
    """A source of random inputs for one model.

    Attributes:
        scale: times as large floats as usual.
        bound: integers that no vocabulary gives are below it.
    """

    def __init__(self, model: "keras.Model", inputs: Sequence[Port]) -> None:
        self._rng = np.random.default_rng(_SEED)
        self._inputs = inputs
        self.bound = min(_integer_bound(model), _LARGEST_INT8)
        self._spreads = [_spread(tensor) for tensor in model.inputs]
        self._vocabularies = [_vocabulary(tensor) for tensor in model.inputs]
        self.scale = 1.0

    def draw(self, n_rows: int, free_size: int) -> list[Array]:
        """Return one array for each input.

        Args:
            n_rows: size of the batch.
            free_size: size of every other free dimension.
        """
        shapes = [(n_rows, *(free_size if n == FREE else n for n in port.shape[1:])) for port in self._inputs]
        return [self._draw(place, shape) for place, shape in enumerate(shapes)]

    def _draw(self, place: int, shape: tuple[int, ...]) -> Array:
        port, vocabulary = self._inputs[place], self._vocabularies[place]
        if port.dtype == "string":
            return self._texts(vocabulary or _NO_VOCABULARY, shape)
        if port.dtype == "bool":
            return self._rng.integers(0, 2, shape).astype(np.bool_)
        if not port.dtype.startswith("float"):
            if vocabulary is not None:
                return self._rng.choice(np.asarray(vocabulary.tokens, np.int64), shape).astype(port.dtype)
            return self._rng.integers(0, self.bound, shape).astype(port.dtype)
        values = self._rng.standard_normal(shape) * self.scale
        spread = self._spreads[place]
        if spread is not None:
            values = values * spread.deviation + spread.mean
        return values.astype(port.dtype)

    def _texts(self, vocabulary: _Vocabulary, shape: tuple[int, ...]) -> Array:
        texts = np.empty(shape, np.object_)
        for place in np.ndindex(shape):
            n_words = int(self._rng.integers(1, _MAX_WORDS)) if vocabulary.is_text else 1
            words = [str(word) for word in self._rng.choice(np.asarray(vocabulary.tokens, np.object_), n_words)]
            if vocabulary.takes_others and self._rng.integers(0, _ONE_IN) == 0:
                words[0] = "unheard-of"
            texts[place] = " ".join(words).encode()
        return texts


def _vocabulary(tensor: "keras.KerasTensor") -> _Vocabulary | None:
    """Return what the first lookup after an input knows."""
    # imported where it runs: Keras is loaded in the confined child only
    import keras
    from keras.src.layers.preprocessing.index_lookup import IndexLookup

    for node in tensor._keras_history.operation._outbound_nodes:  # noqa: SLF001  Keras has no public graph
        layer = node.operation
        is_text = isinstance(layer, keras.layers.TextVectorization)
        lookup = layer._lookup_layer if is_text else layer  # noqa: SLF001  see above
        if isinstance(lookup, IndexLookup) and not lookup.invert:
            tokens = lookup.get_vocabulary(include_special_tokens=False)[:_MAX_TOKENS]
            if tokens:
                return _Vocabulary(tuple(tokens), is_text=is_text, takes_others=lookup.num_oov_indices > 0)
    return None


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
