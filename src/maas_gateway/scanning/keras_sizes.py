"""How large a Keras model may say it is: bounds on single numbers, on weights and on growth.

Rules:
    * A number in a config is at most its key's cap: `_CAPS` for sizes with a usual range, none for magnitudes
      (seeds, vocabularies, statistics, thresholds, schedule steps), 65,536 for every other key.
    * A shape has dimensions of at most 2^31 and at most `max_row_elements` elements without the open ones.
    * The weights that the layers declare sum up to at most `max_parameters`. A layer's input width is taken from its
      `build_config` (Keras builds the weights from it); without one, from the widest shape or layer of the model.
    * RepeatVector, UpSampling and transposed convolutions with a factor beyond the usual ones multiply to at most
      `max_growth`.

What this does not bound: the exact activation memory. The confined child measures it, and `tflite_graph` bounds it
in the converted graph.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from maas_gateway.scanning.strict_json import JSON

MAX_DIMENSION: Final = 2**31
SHAPE_KEYS: Final = frozenset(
    ["batch_shape", "shape", "input_shape", "build_input_shape", "target_shape", "newshape", "build_config"]
)
_DEFAULT_CAP: Final = 2**16
_NO_CAP: Final = 2**64
_FREE_KEYS: Final = frozenset(
    [
        "seed",
        "shared_object_id",
        "salt",
        "vocabulary",
        "idf_weights",
        "mean",
        "variance",
        "x_min",
        "x_max",
        "nan",
        "posinf",
        "neginf",
        "initial",
        "default_value",
        "shift",
        "value",
        "bin_boundaries",
        "boundaries",
        "values",
        "offset",
        "scale",
        "mask_value",
        "mask_token",
        "oov_token",
        "oov_value",
        "pad_value",
        "fill_value",
        "max_value",
        "min_value",
        "threshold",
        "value_range",
        "decay_steps",
        "first_decay_steps",
        "warmup_steps",
        "warmup_target",
        "initial_scale",
        "dynamic_growth_steps",
        "initial_accumulator_value",
    ]
)
_CAPS: Final[Mapping[str, int]] = {
    "n": 2**14,
    "strides": 2**12,
    "size": 2**13,
    "output_size": 2**12,
    "sampling_rate": 2**20,
    "max_freq": 2**20,
    "vocabulary_size": 2**24,
    "padding": 2**12,
    "height": 2**13,
    "width": 2**13,
    "kernel_size": 2**12,
    "pool_size": 2**14,
    "filters": 2**16,
    "units": 2**20,
    "num_classes": 2**20,
    "input_dim": 2**26,
    "max_tokens": 2**24,
    "num_tokens": 2**24,
    "num_bins": 2**24,
}
_GATES: Final[Mapping[str, int]] = {"LSTM": 4, "LSTMCell": 4, "GRU": 3, "GRUCell": 3}
_OUTPUT_KEYS: Final = ("units", "filters", "output_dim")
_GROWING: Final[Mapping[str, str]] = {
    "RepeatVector": "n",
    "UpSampling1D": "size",
    "UpSampling2D": "size",
    "UpSampling3D": "size",
    "Conv1DTranspose": "strides",
    "Conv2DTranspose": "strides",
    "Conv3DTranspose": "strides",
}


_USUAL_GROWTH: Final = 16  # four in height and width: decoders stack such layers, after others that shrink as much


@dataclass(frozen=True, slots=True)
class KerasLimits:
    """What one model may declare.

    Attributes:
        max_layers: layers and operations, nested ones included.
        max_parameters: weights, as declared.
        max_row_elements: elements of one declared shape, open dimensions left out.
        max_growth: product of all enlarging factors.
    """

    max_layers: int = 5_000
    max_parameters: int = 2**28
    max_row_elements: int = 2**26
    max_growth: int = 2**18


def cap_of(key: str) -> int:
    """Return the largest magnitude a number under `key` may have."""
    return _NO_CAP if key in _FREE_KEYS else _CAPS.get(key, _DEFAULT_CAP)


def shape_fits(shape: list[JSON], limits: KerasLimits) -> bool:
    """Return whether a list of dimensions (integers, None, or -1 for "what is left") is within the bounds."""
    dimensions = [abs(size) for size in _integers(shape)]
    return all(size <= MAX_DIMENSION for size in dimensions) and (
        math.prod(max(size, 1) for size in dimensions) <= limits.max_row_elements
    )


def growth_of(class_name: str, config: Mapping[str, JSON]) -> int:
    """Return by what factor the layer enlarges its input; 1 for most, and for a factor as decoders usually have."""
    key = _GROWING.get(class_name)
    factors = [max(factor, 1) for factor in _integers(config.get(key))] if key else []
    if class_name == "UpSampling2D" and len(factors) == 1:
        factors *= 2
    factor = math.prod(factors)
    return factor if factor > _USUAL_GROWTH else 1


def width_of(config: Mapping[str, JSON]) -> int:
    """Return the widest row that the layer declares: its input shape's elements or its units."""
    shape = config.get("batch_shape")
    widths = [math.prod(max(size, 1) for size in _integers(shape)[-4:])] if isinstance(shape, list) else [1]
    widths += [size for key in _OUTPUT_KEYS for size in _integers(config.get(key))]
    return max(widths)


def parameters_of(class_name: str, config: Mapping[str, JSON], built: JSON, *, widest: int) -> int:
    """Return about how many weights the layer will make.

    Args:
        class_name: the layer's class.
        config: its config.
        built: its `build_config`, if the file has one.
        widest: input width to assume if `built` does not tell.
    """
    outputs = [size for key in _OUTPUT_KEYS for size in _integers(config.get(key))]
    if "num_heads" in config:
        outputs.append(4 * math.prod(_integers(config.get("num_heads")) + _integers(config.get("key_dim"))))
    if class_name == "EinsumDense":
        outputs.append(math.prod(_integers(config.get("output_shape"))))
    if not outputs:
        return 0
    taps = math.prod(_integers(config.get("kernel_size")) or [1])
    inputs = config.get("input_dim") if class_name.endswith("Embedding") else _input_width(config, built, widest)
    n_inputs = inputs if isinstance(inputs, int) else widest
    n_outputs = math.prod(outputs)
    if class_name.startswith("SeparableConv"):
        n_middle = n_inputs * math.prod(_integers(config.get("depth_multiplier")) or [1])
        return n_middle * (taps + n_outputs)
    groups = config.get("groups")
    if class_name.startswith("Conv") and isinstance(groups, int) and groups > 1:
        n_inputs = -(-n_inputs // groups)  # each filter sees the channels of its group only
    gates = _GATES.get(class_name, 1)
    recurrent = n_outputs if gates > 1 or class_name.startswith(("SimpleRNN", "ConvLSTM")) else 0
    return taps * gates * n_outputs * (n_inputs + recurrent)


def _input_width(config: Mapping[str, JSON], built: JSON, widest: int) -> int:
    """Return the width of the axis that the kernel multiplies."""
    shape = built.get("input_shape") if isinstance(built, dict) else None
    if not isinstance(shape, list) or not shape:
        return widest
    axis = shape[1] if config.get("data_format") == "channels_first" and len(shape) > 1 else shape[-1]
    return axis if isinstance(axis, int) else widest


def _integers(value: JSON) -> list[int]:
    return list(_each_integer(value))


def _each_integer(value: JSON) -> Iterator[int]:
    if isinstance(value, list):
        for item in value:
            yield from _each_integer(item)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value
