"""A Keras model as one flat file, and a Keras model out of such a file: no HDF5, no assets, no compile configuration.

The file is of the safetensors layout (`tensors.safetensors`): every variable as one tensor, and as metadata `config`,
the model's configuration as JSON, and `keras`, the version that wrote it.

Rules:
- a variable's name is the place that Keras's own format gives it, and its own name: `layers/lstm/cell/kernel`. It is
  made of classes and positions, never of names that Keras counts up, so both ends of a journey find the same names;
- the file holds every variable of the model once, trained or not, states of random generators included;
- vocabularies and weights by document frequency that were adapted go into the configuration as lists;
- a model is rebuilt in safe mode, and every variable is set exactly once by a tensor of its shape and type: a tensor
  too many, one too few or one of another form is an error.

Source: keras 3.15.1, keras/src/saving/saving_lib.py, `_walk_saveable` and `_save_container_state`.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from maas_gateway.inference.conversion.refusal import NotConvertible, keras_reason, raise_if_out_of_memory
from maas_gateway.tensors.safetensors import (
    PREFIX_BYTES,
    Flat,
    Layout,
    SafetensorsRejected,
    header_bytes,
    lay_out,
    read_layout,
)

if TYPE_CHECKING:
    import keras

CONFIG: Final = "config"
"""Key of the metadata that holds the configuration."""

VERSION: Final = "keras"
"""Key of the metadata that holds the version of Keras that wrote it."""

Array = NDArray[np.generic]

_COUNTED: Final = "variable"
_COUNTED_UP: Final = re.compile(r"variable(_\d+)?")
_PIECE_BYTES: Final = 1 << 20
_SHARED: Final = "shared_object_id"
_DTYPES: Final = MappingProxyType(
    {
        "bool": "BOOL",
        "uint8": "U8",
        "int8": "I8",
        "uint16": "U16",
        "int16": "I16",
        "float16": "F16",
        "bfloat16": "BF16",
        "uint32": "U32",
        "int32": "I32",
        "float32": "F32",
        "uint64": "U64",
        "int64": "I64",
        "float64": "F64",
    }
)
_NAMES: Final = MappingProxyType({flat: name for name, flat in _DTYPES.items()})


@dataclass(frozen=True, slots=True)
class FlatModel:
    """A model laid out as one file whose bytes are still in the model.

    Attributes:
        layout: where every tensor lies, and the metadata.
        head: the bytes before the tensors' data.
        variables: the model's, in the order in which they lie.
    """

    layout: Layout
    head: bytes
    variables: Mapping[str, "keras.Variable"]

    def pieces(self) -> Iterator[bytes]:
        """Yield the whole file in pieces of at most 1 MiB, one tensor after another."""
        for start in range(0, len(self.head), _PIECE_BYTES):
            yield self.head[start : start + _PIECE_BYTES]
        for variable in self.variables.values():
            content = _content(variable)
            for start in range(0, len(content), _PIECE_BYTES):
                yield content[start : start + _PIECE_BYTES].tobytes()

    def read(self, name: str) -> Array:
        """Return one tensor as whoever reads the file finds it."""
        flat = self.layout.tensors[name]
        return as_array(Flat(flat.dtype, flat.shape), _content(self.variables[name]).tobytes())


def flatten(model: "keras.Model") -> FlatModel:
    """Lay a model out as one flat file.

    Args:
        model: functional or sequential, of Keras's own layers. Its lookup layers take the vocabularies that they were
            adapted to for given.

    Raises:
        NotConvertible: it holds a variable that Keras does not save, or one of a type that the file does not have.
    """
    # imported where it runs: Keras is loaded in confined processes only
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope

    _give_vocabularies(model)
    with ObjectSharingScope():
        config = keras.saving.serialize_keras_object(model)
    _tidy(config, {})
    try:
        text = json.dumps(config, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as objection:
        raise NotConvertible("the model's configuration cannot be written down as JSON") from objection
    variables = _variables(model)
    tensors = {name: _flat_of(name, variable) for name, variable in variables.items()}
    try:
        layout, head = lay_out(tensors, {CONFIG: text, VERSION: keras.__version__})
    except SafetensorsRejected as rejected:
        raise NotConvertible("the model has too many variables, or too large vocabularies") from rejected
    return FlatModel(layout, head, variables)


def rebuild(
    config: dict[str, object], read: Callable[[str], Array], *, names: Collection[str] | None = None
) -> "keras.Model":
    """Make a Keras model from a checked configuration and its tensors.

    Args:
        config: what `scanning.keras_rebuilt` found nothing wrong with.
        read: returns the tensor of that name, or raises KeyError.
        names: of all tensors there are; None to leave it unchecked that each is used.

    Raises:
        NotConvertible: Keras refuses the configuration, or tensors and variables are not the same.
    """
    # imported where it runs: Keras is loaded in confined processes only
    import keras
    from keras.src.saving.serialization_lib import ObjectSharingScope

    try:
        with ObjectSharingScope():
            model = keras.saving.deserialize_keras_object(config, safe_mode=True)
    except Exception as objection:
        raise_if_out_of_memory(objection)
        raise NotConvertible(f"Keras cannot rebuild the model: {keras_reason(str(objection))}") from objection
    if not isinstance(model, keras.Model):
        raise NotConvertible("the configuration is not a model's")
    variables = _variables(model)
    if names is not None and set(names) != set(variables):
        raise NotConvertible(f"{len(set(names) ^ set(variables))} tensors and variables are without the other")
    for name, variable in variables.items():
        _set(name, variable, read)
    _finish(model)
    return model


def rebuild_flat(flat: FlatModel) -> "keras.Model":
    """Make a second Keras model from one that was laid out, reading it as it will be read from its file.

    Raises:
        NotConvertible: see `rebuild`.
    """
    return rebuild(json.loads(flat.layout.metadata[CONFIG]), flat.read, names=flat.layout.tensors)


def rebuild_from(content: memoryview | bytes) -> "keras.Model":
    """Make a Keras model from a whole flat file in memory, which was scanned.

    The model's variables are copies: the file's memory may be given back afterwards.

    Raises:
        NotConvertible: it is no such file, or see `rebuild`.
    """
    view = memoryview(content)
    try:
        end = PREFIX_BYTES + header_bytes(bytes(view[:PREFIX_BYTES]))
        layout = read_layout(bytes(view[PREFIX_BYTES:end]), size_bytes=len(view))
        config = json.loads(layout.metadata[CONFIG])
    except (SafetensorsRejected, KeyError, ValueError) as rejected:
        raise NotConvertible("it is no rebuilt Keras model") from rejected
    data = view[layout.data_at :]
    return rebuild(config, lambda name: as_array(layout.tensors[name], data), names=layout.tensors)


def as_array(flat: Flat, data: memoryview | bytes) -> Array:
    """Return a tensor as an array that shares its memory.

    Args:
        flat: where it lies.
        data: all that follows the file's header.
    """
    count = math.prod(flat.shape)
    if not count:
        return np.empty(flat.shape, _numpy_dtype(flat.dtype))
    return np.frombuffer(data, _numpy_dtype(flat.dtype), count, flat.offset).reshape(flat.shape)


def _numpy_dtype(dtype: str) -> np.dtype[Any]:
    if dtype == "BF16":
        # imported where it runs: it comes with Keras, into confined processes only
        import ml_dtypes  # noqa: PLC0415

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(_NAMES[dtype])


def _content(variable: "keras.Variable") -> NDArray[np.uint8]:
    return np.ascontiguousarray(variable).reshape(-1).view(np.uint8)


def _flat_of(name: str, variable: "keras.Variable") -> Flat:
    dtype = _DTYPES.get(str(variable.dtype))
    if dtype is None:
        raise NotConvertible(f"variable '{name}' is of type {variable.dtype}, which is not served")
    return Flat(dtype, tuple(int(size) for size in variable.shape))


def _set(name: str, variable: "keras.Variable", read: Callable[[str], Array]) -> None:
    try:
        value = read(name)
    except KeyError:
        raise NotConvertible(f"there is no tensor for variable '{name}'") from None
    if value.shape != tuple(variable.shape) or str(value.dtype) != str(variable.dtype):
        raise NotConvertible(f"the tensor '{name}' is not of the shape and type of its variable")
    variable.assign(value)


def _variables(model: "keras.Model") -> dict[str, "keras.Variable"]:
    """Return every variable by its name in a file.

    Raises:
        NotConvertible: the model has a variable at no place of its own.
    """
    walk = _Walk()
    walk.visit(model, "")
    found = {id(variable) for variable in walk.variables.values()}
    if found != {id(variable) for variable in model.variables}:
        raise NotConvertible("the model holds a variable that Keras would not save")
    return walk.variables


class _Walk:
    """One visit of all that Keras saves of a model, each once, in the order in which Keras saves it."""

    def __init__(self) -> None:
        self.variables: dict[str, keras.Variable] = {}
        # By identity; held as well, so that no identity is given out again during the visit.
        self._seen: dict[int, object] = {}

    def visit(self, saveable: object, place: str) -> None:
        """Note the variables of a layer or a model and of all below it."""
        # imported where it runs: see `flatten`
        from keras.src.saving import saving_lib

        if id(saveable) in self._seen:
            return
        self._seen[id(saveable)] = saveable
        for variable in _own_variables(saveable):
            if id(variable) not in self._seen:  # a layer and its cell share a generator
                self._seen[id(variable)] = variable
                self.variables[_unique(f"{place}/{_name_of(variable)}".lstrip("/"), self.variables)] = variable
        for name, child in saving_lib._walk_saveable(saveable):  # noqa: SLF001  Keras's own walk decides what is saved
            self._enter(child, f"{place}/{name}".lstrip("/"))

    def _enter(self, child: object, place: str) -> None:
        # imported where it runs: see `flatten`
        from keras.src.saving.keras_saveable import KerasSaveable
        from keras.src.utils.naming import to_snake_case

        if isinstance(child, KerasSaveable):
            self.visit(child, place)
        if not isinstance(child, (list, tuple, dict)) or id(child) in self._seen:
            return
        self._seen[id(child)] = child
        taken: set[str] = set()
        for item in child.values() if isinstance(child, dict) else child:
            if isinstance(item, (KerasSaveable, list, tuple, dict)):
                kind = to_snake_case(type(item).__name__) if isinstance(item, KerasSaveable) else "container"
                name = _unique(kind, taken)
                taken.add(name)
                self._enter(item, f"{place}/{name}")


def _name_of(variable: "keras.Variable") -> str:
    """Return a variable's name; that which Keras gives to one that has none is counted up, and is left out."""
    return _COUNTED if _COUNTED_UP.fullmatch(variable.name) else str(variable.name)


def _own_variables(saveable: object) -> list["keras.Variable"]:
    # imported where it runs: see `flatten`
    import keras

    if isinstance(saveable, keras.Layer):
        # Its own, without those of layers below it; Keras itself does not save the states of generators.
        own = [*saveable._trainable_variables, *saveable._non_trainable_variables]  # noqa: SLF001
        return own + [generator.state for generator in saveable._seed_generators]  # noqa: SLF001
    return []


def _unique(name: str, taken: Collection[str]) -> str:
    candidate, n = name, 0
    while candidate in taken:
        n += 1
        candidate = f"{name}_{n}"
    return candidate


def _tidy(node: object, numbers: dict[object, int]) -> None:
    """Drop how models were compiled; count shared objects up instead of naming them by addresses, as Keras does."""
    if isinstance(node, dict):
        node.pop("compile_config", None)
        if node.get(_SHARED) is not None:
            node[_SHARED] = numbers.setdefault(node[_SHARED], len(numbers))
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for item in node:
            _tidy(item, numbers)


def _give_vocabularies(model: "keras.Model") -> None:
    """Have every lookup layer say in its configuration what it was adapted to."""
    # imported where it runs: see `flatten`
    from keras.src.layers.preprocessing.index_lookup import IndexLookup

    for layer in model._flatten_layers():  # noqa: SLF001  Keras has no public way to nested layers
        if not isinstance(layer, IndexLookup) or layer.input_vocabulary is not None or not layer.lookup_table.size():
            continue
        has_frequencies = layer.output_mode == "tf_idf"
        vocabulary = layer.get_vocabulary(include_special_tokens=has_frequencies)
        layer.input_vocabulary = [item if isinstance(item, str) else int(item) for item in vocabulary]
        if has_frequencies:
            # Those of special tokens are averages over what was seen; so both lists begin with special tokens.
            frequencies = np.asarray(layer.idf_weights_const)[: len(vocabulary)]
            layer.input_idf_weights = [float(weight) for weight in frequencies]


def _finish(model: "keras.Model") -> None:
    """Have layers compute again what they keep besides their variables."""
    # imported where it runs: see `flatten`
    import keras

    for layer in model._flatten_layers():  # noqa: SLF001  Keras has no public way to nested layers
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
