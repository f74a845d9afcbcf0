"""From a Keras model to its signature and its LiteRT plan, in memory.

Rules: the model is functional or sequential with declared inputs; every input's first dimension is the batch and is
free; inputs and outputs are of the protocol's datatypes (bfloat16 is none, and may stand inside only); LiteRT gets
its built-in operators only, nothing quantised. Inputs and outputs keep the model's order; their names are Keras's, made
unique by a suffix `_1`, `_2`, ….
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from maas_gateway.inference.conversion.refusal import (
    NotConvertible,
    converter_reason,
    keras_reason,
    raise_if_out_of_memory,
)

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from tensorflow.types.experimental import ConcreteFunction

FREE: Final = -1
"""A dimension that the request chooses."""

_DATATYPES: Final = MappingProxyType(
    {
        "bool": "BOOL",
        "float16": "FP16",
        "float32": "FP32",
        "float64": "FP64",
        "int8": "INT8",
        "int16": "INT16",
        "int32": "INT32",
        "int64": "INT64",
        "uint8": "UINT8",
        "uint16": "UINT16",
        "uint32": "UINT32",
        "uint64": "UINT64",
        "string": "BYTES",
    }
)


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output of a model.

    Attributes:
        name: unique among the inputs or among the outputs.
        datatype: the Open Inference Protocol's name.
        dtype: Keras's name of the same.
        shape: dimensions, -1 where the request chooses.
    """

    name: str
    datatype: str
    dtype: str
    shape: tuple[int, ...]

    def to_json(self) -> dict[str, object]:
        """Return what the signature says of it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def describe(model: "keras.Model") -> tuple[list[Port], list[Port]]:
    """Return the model's inputs and outputs in its own order.

    Raises:
        NotConvertible: they are not declared, or of a kind that is not served.
    """
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs:
        raise NotConvertible("the model does not declare its inputs and outputs: give it Input layers")
    ports = (_ports(inputs, _input_names(inputs)), _ports(outputs, _output_names(model, outputs)))
    for port in ports[0]:
        if port.shape[:1] != (FREE,):
            raise NotConvertible(f"input '{port.name}' fixes its batch size, which must be left open (None)")
    return ports


def trace(model: "keras.Model", inputs: Sequence[Port]) -> "ConcreteFunction":
    """Return the model as one graph for every size of batch, whose inputs are named `input_0`, `input_1`, ….

    Raises:
        NotConvertible: the model does not run on tensors.
    """
    # imported where it runs: TensorFlow is loaded in the confined child only
    import tensorflow as tf
    from keras import tree

    structure = getattr(model, "_inputs_struct", None)

    def answer(*tensors: "tf.Tensor") -> list["tf.Tensor"]:
        packed = tensors[0] if structure is None else tree.pack_sequence_as(structure, list(tensors))
        return [tf.identity(tensor) for tensor in tree.flatten(model(packed, training=False))]

    specs = [
        tf.TensorSpec([None if n == FREE else n for n in port.shape], port.dtype, name=f"input_{index}")
        for index, port in enumerate(inputs)
    ]
    try:
        return tf.function(answer, autograph=False, input_signature=specs).get_concrete_function()
    except Exception as objection:
        raise_if_out_of_memory(objection)
        raise NotConvertible(f"the model cannot be traced: {keras_reason(str(objection))}") from objection


def lower(function: "ConcreteFunction", model: "keras.Model") -> bytes:
    """Return a traced model as a LiteRT flatbuffer whose inputs have the graph's names.

    Nothing is written to a file: the converter's own way through a SavedModel is switched off.

    Raises:
        NotConvertible: LiteRT's built-in operators do not suffice.
    """
    # imported where it runs: TensorFlow is loaded in the confined child only
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.experimental_lower_to_saved_model = False
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    converter.allow_custom_ops = False
    try:
        return bytes(converter.convert())
    except Exception as objection:
        raise_if_out_of_memory(objection)
        raise NotConvertible(f"the converter refuses it: {converter_reason(str(objection))}") from objection


def _ports(tensors: Iterable["keras.KerasTensor"], names: Sequence[str]) -> list[Port]:
    ports = []
    for tensor, name in zip(tensors, _unique(names), strict=True):
        datatype = _DATATYPES.get(str(tensor.dtype))
        if datatype is None or getattr(tensor, "sparse", False) or getattr(tensor, "ragged", False):
            raise NotConvertible(f"tensor '{name}' is of a kind that is not served: {tensor.dtype}")
        shape = tuple(FREE if n is None else int(n) for n in tensor.shape)
        ports.append(Port(name, datatype, str(tensor.dtype), shape))
    return ports


def _input_names(tensors: Iterable["keras.KerasTensor"]) -> list[str]:
    return [tensor._keras_history.operation.name for tensor in tensors]  # noqa: SLF001  Keras has no public way


def _output_names(model: "keras.Model", tensors: Sequence["keras.KerasTensor"]) -> list[str]:
    """Return the keys of a dictionary of outputs, otherwise the names of the layers they come from."""
    structure = getattr(model, "_outputs_struct", None)
    if isinstance(structure, dict) and len(structure) == len(tensors):
        names = {id(tensor): key for key, tensor in structure.items()}
        if all(id(tensor) in names for tensor in tensors):
            return [str(names[id(tensor)]) for tensor in tensors]
    return [tensor._keras_history.operation.name for tensor in tensors]  # noqa: SLF001  Keras has no public way


def _unique(names: Sequence[str]) -> list[str]:
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, n = name, 0
        while candidate in taken or (n and candidate in names):
            n += 1
            candidate = f"{name}_{n}"
        taken.add(candidate)
        unique.append(candidate)
    return unique
