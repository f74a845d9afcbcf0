"""Keras's special forms in a config: which are harmless and needed, and what they must look like.

Rules:
    * `__keras_tensor__` (an edge of a functional graph): a shape, a dtype and the place it comes from.
    * `__tensor__`, `__numpy__` (a constant beside a tensor): nested lists of numbers under a numeric dtype.
    * `__slice__`, `__ellipsis__` (indexing): integers or null.
    * Every other form is refused: `__lambda__` is code, `__typespec__` looks a class up by name, `__bytes__` is not
      needed by any allowed layer.

Source: keras 3.15.1, keras/src/saving/serialization_lib.py, `serialize_keras_object` and its inverse.
"""

from collections.abc import Mapping
from typing import Final

from maas_gateway.scanning.keras_names import DTYPES
from maas_gateway.scanning.keras_sizes import KerasLimits, shape_fits
from maas_gateway.scanning.strict_json import JSON

_MAX_NAME_CHARS: Final = 256


def form_fault(form: str, node: Mapping[str, JSON], limits: KerasLimits) -> tuple[str, str] | None:
    """Return rule and sentence of what is wrong with a special form, None if nothing is."""
    config = node.get("config")
    if form == "__lambda__":
        return "lambda", "Python code inside a model is never run: replace it by layers of Keras."
    keys = _FORM_KEYS.get(form)
    if keys is None:
        return "form-not-allowed", f"the special form {form[:32]!a} is not accepted."
    if set(node) != {"class_name", "config"} or not isinstance(config, dict) or set(config) != keys:
        return "form-malformed", f"the special form {form} has other keys than Keras writes."
    is_sound = {
        "__keras_tensor__": _is_edge,
        "__tensor__": _is_constant,
        "__numpy__": _is_constant,
        "__slice__": _is_slice,
        "__ellipsis__": _is_slice,
    }[form](config, limits)
    return None if is_sound else ("form-malformed", f"the special form {form} does not hold what Keras writes.")


_FORM_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "__keras_tensor__": frozenset(["shape", "dtype", "keras_history"]),
    "__tensor__": frozenset(["value", "dtype"]),
    "__numpy__": frozenset(["value", "dtype"]),
    "__slice__": frozenset(["start", "stop", "step"]),
    "__ellipsis__": frozenset(),
}


def _is_edge(config: Mapping[str, JSON], limits: KerasLimits) -> bool:
    shape, history = config["shape"], config["keras_history"]
    return (
        isinstance(shape, list)
        and all(size is None or _is_integer(size) for size in shape)
        and shape_fits(shape, limits)
        and _is_dtype(config["dtype"])
        and isinstance(history, list)
        and [type(item) for item in history] == [str, int, int]
        and len(str(history[0])) <= _MAX_NAME_CHARS
    )


def _is_constant(config: Mapping[str, JSON], _limits: KerasLimits) -> bool:
    return _is_dtype(config["dtype"]) and config["dtype"] != "string" and _is_numeric(config["value"])


def _is_slice(config: Mapping[str, JSON], _limits: KerasLimits) -> bool:
    return all(item is None or _is_integer(item) for item in config.values())


def _is_dtype(value: JSON) -> bool:
    return isinstance(value, str) and value in DTYPES


def _is_numeric(value: JSON) -> bool:
    if isinstance(value, list):
        return all(_is_numeric(item) for item in value)
    return isinstance(value, int | float)


def _is_integer(value: JSON) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
