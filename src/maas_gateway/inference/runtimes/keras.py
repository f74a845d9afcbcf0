"""Keras itself, with TensorFlow behind it: the engine of models that convert to nothing else.

Rules:

* it runs in a confined process only (`inference.process_child`): it computes by the code of a framework that was made to
  run programs, and takes 0.6 GiB and five seconds to start;
* the model was rebuilt in memory from its flat file (`conversion.rebuilt`, as `inference.confined` has it done);
* the model is traced once into one graph, by `stateless_call`: what layers would write into their variables (the state of
  a recurrent layer, of a generator of random numbers) is returned by the graph and dropped, so that every call begins
  with what was uploaded;
* that graph is looked at before it is used: a stateful operator of any other kind than those that only read is refused.
  So no call leaves anything that a later one could see, unless TensorFlow's own kernels have a fault;
* a caller's strings come and go as `bytes`.

Source: keras 3.15.1, keras/src/models/model.py, `Layer.stateless_call`; tensorflow 2.21, op_def.proto, `is_stateful`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from maas_gateway.errors import ArtifactRefused, InvalidRequest, ModelNotReady
from maas_gateway.tensors.signature import FREE, ModelSignature, TensorSpec

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    from tensorflow.types.experimental import ConcreteFunction

READING: Final = frozenset(
    (
        "Assert",
        "Case",
        "If",
        "LookupTableFindV2",
        "LookupTableSizeV2",
        "PartitionedCall",
        "Placeholder",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "StatefulPartitionedCall",
        "VarIsInitializedOp",
        "VariableShape",
        "While",
    )
)
"""Operators that TensorFlow counts as stateful and that leave nothing behind."""


class KerasRuntime:
    """One rebuilt Keras model in memory.

    Protects against what one call would leave for the next. Not against a model that was made to harm: it must have
    passed `scanning`, and runs where it can reach nothing.
    """

    def __init__(
        self,
        model: "keras.Model",
        function: "ConcreteFunction",
        *,
        signature: ModelSignature,
        output_order: Sequence[int],
    ) -> None:
        """Take a traced model; use `of`.

        Args:
            model: holds the variables that the graph reads.
            function: takes the inputs in the signature's order and gives outputs in the model's.
            signature: what it takes and gives.
            output_order: for each output of the signature its place among the model's.
        """
        self._model: keras.Model | None = model
        self._function: ConcreteFunction | None = function
        self._signature = signature
        self._output_order = tuple(output_order)

    @classmethod
    def of(
        cls,
        model: "keras.Model",
        *,
        signature: ModelSignature,
        input_order: tuple[int, ...],
        output_order: tuple[int, ...],
    ) -> "KerasRuntime":
        """Make a runtime of a rebuilt model, which computes with as many threads as its process's environment says.

        Args:
            model: used by nobody else.
            signature: what it was published with.
            input_order: for each input of the signature its place among the model's inputs.
            output_order: the same for outputs.

        Raises:
            ArtifactRefused: it does not fit its signature, or keeps something between calls.
        """
        function = _trace(model, signature, input_order)
        _check_outputs(function, signature, output_order)
        check_leaves_nothing(function)
        return cls(model, function, signature=signature, output_order=output_order)

    @property
    def signature(self) -> ModelSignature:
        """What it takes and gives."""
        return self._signature

    def run(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Compute the outputs of some rows; see `Runtime.run`.

        Raises:
            InvalidRequest: the model cannot compute this input.
            ModelNotReady: the runtime is closed.
            MemoryError: it needs more memory than there is.
        """
        # imported where it runs: TensorFlow is loaded in confined processes only
        import tensorflow as tf

        function = self._function
        if function is None:
            raise ModelNotReady("this model version is not loaded any more")
        try:
            outputs = function(*[tf.constant(array) for array in inputs])
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError from error
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise InvalidRequest("the model cannot compute this input") from error
        return tuple([_array(outputs[place]) for place in self._output_order])

    def close(self) -> None:
        """Give the model's memory back; twice is fine."""
        self._function = None
        self._model = None


def check_leaves_nothing(function: "ConcreteFunction") -> None:
    """Refuse a graph with an operator that could leave something for a later call, in whatever function it stands.

    Raises:
        ArtifactRefused: it has one, which is named.
    """
    # imported where it runs: TensorFlow is loaded in confined processes only
    from tensorflow.python.framework import op_def_registry

    graph = function.graph.as_graph_def()
    operators = {node.op for node in graph.node}
    functions = {each.signature.name for each in graph.library.function}
    for each in graph.library.function:
        operators |= {node.op for node in each.node_def}
    for name in sorted(operators - READING - functions):
        definition = op_def_registry.get(name)
        if definition is None or definition.is_stateful:
            raise ArtifactRefused(f"the model keeps something between calls, or may: its graph holds {name}")


def _trace(model: "keras.Model", signature: ModelSignature, input_order: Sequence[int]) -> "ConcreteFunction":
    """Return the model as one graph that writes no variable.

    Raises:
        ArtifactRefused: the model does not run on tensors of its signature.
    """
    # imported where it runs: TensorFlow is loaded in confined processes only
    import tensorflow as tf
    from keras import tree

    if sorted(input_order) != list(range(len(model.inputs))) or len(input_order) != len(signature.inputs):
        raise ArtifactRefused("the Keras model does not have its signature's inputs")
    structure = getattr(model, "_inputs_struct", None)

    def answer(*tensors: "tf.Tensor") -> list["tf.Tensor"]:
        placed: list[Any] = [None] * len(tensors)
        for place, tensor in zip(input_order, tensors, strict=True):
            placed[place] = tensor
        packed = placed[0] if structure is None else tree.pack_sequence_as(structure, placed)
        trained = [variable.value for variable in model.trainable_variables]
        others = [variable.value for variable in model.non_trainable_variables]
        given, _ = model.stateless_call(trained, others, packed, training=False)
        return [tf.identity(tensor) for tensor in tree.flatten(given)]

    specs = [_spec(spec, f"input_{number}") for number, spec in enumerate(signature.inputs)]
    try:
        return tf.function(answer, autograph=False).get_concrete_function(*specs)
    except (MemoryError, tf.errors.ResourceExhaustedError) as error:
        raise MemoryError from error
    except Exception as objection:
        raise ArtifactRefused("the Keras model does not run on what its signature says") from objection


def _spec(spec: TensorSpec, name: str) -> "tf.TensorSpec":
    # imported where it runs: TensorFlow is loaded in confined processes only
    import tensorflow as tf

    dtype = tf.dtypes.as_dtype(spec.datatype.numpy if spec.datatype.numpy != np.object_ else "string")
    return tf.TensorSpec([None if n == FREE else n for n in spec.shape], dtype, name=name)


def _check_outputs(function: "ConcreteFunction", signature: ModelSignature, output_order: Sequence[int]) -> None:
    found = function.structured_outputs
    if sorted(output_order) != list(range(len(found))) or len(output_order) != len(signature.outputs):
        raise ArtifactRefused("the Keras model does not have its signature's outputs")
    for spec, place in zip(signature.outputs, output_order, strict=True):
        has_kind = np.dtype(found[place].dtype.as_numpy_dtype) == spec.datatype.numpy  # that of texts is no NumPy type
        if not has_kind or found[place].shape.rank != len(spec.shape):
            raise ArtifactRefused(f"output '{spec.name}' of the Keras model is not of its signature's kind")


def _array(tensor: "tf.Tensor") -> np.ndarray:
    """Return a tensor as an array of the caller's own."""
    return np.array(tensor.numpy())
