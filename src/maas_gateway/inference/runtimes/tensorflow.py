"""TensorFlow itself, the engine of graphs that nothing else computes: frozen GraphDefs, run as one function.

Rules:

* it belongs into a worker process of one tenant, never into the gateway: a kernel cannot be stopped, and neither can a
  loop that does not end;
* the graph is parsed from memory; the memory file is read once and not needed afterwards;
* the graph has passed `scanning.frozen_graph`: no variables, no resources, no random numbers, so a call leaves nothing
  that a later one could see. The function is made once, for all shapes; a call makes no new one;
* inputs are the nodes `input_0`, `input_1`, …, outputs `output_0`, `output_1`, …, and an order's places are these numbers.

Texts (BYTES) go in and come out as arrays of `bytes` objects.
"""

import itertools
import mmap
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from maas_gateway.errors import ArtifactRefused, InvalidRequest, ModelNotReady
from maas_gateway.tensors.signature import FREE, ModelSignature, TensorSpec

if TYPE_CHECKING:
    from tensorflow.types.experimental import ConcreteFunction


_N_IMPORTED: Final = itertools.count()


class TensorFlowRuntime:
    """One frozen graph in memory.

    Protects against plaintext on a disk. Not against a hostile graph: what it computes takes as much time and memory as it
    likes, and kernels trust their inputs; the process around it bounds that.
    """

    def __init__(
        self,
        function: "ConcreteFunction",
        *,
        signature: ModelSignature,
        input_order: tuple[int, ...],
        output_order: tuple[int, ...],
    ) -> None:
        """Take a function; use `load`."""
        self._function: Callable[..., Sequence[Any]] | None = function
        self._signature = signature
        self._input_order = input_order
        self._output_order = output_order
        self._is_used = threading.Lock()

    @classmethod
    def load(
        cls,
        memory_fd: int,
        size_bytes: int,
        *,
        signature: ModelSignature,
        input_order: tuple[int, ...],
        output_order: tuple[int, ...],
        n_threads: int = 1,
    ) -> "TensorFlowRuntime":
        """Make a runtime of a frozen GraphDef in a memory file.

        Args:
            memory_fd: a memory file with nothing but the GraphDef; it may be closed afterwards.
            size_bytes: the GraphDef's size.
            signature: what the model was published with.
            input_order: for each input of the signature the number in its node's name.
            output_order: the same for outputs.
            n_threads: threads of one call, at least 1; what the process's first runtime asks for holds for all.

        Raises:
            ArtifactRefused: the engine cannot load it, or it does not fit its signature.
        """
        if os.fstat(memory_fd).st_size != size_bytes or not size_bytes:
            raise ArtifactRefused("the frozen graph does not have its size")
        with mmap.mmap(memory_fd, size_bytes, access=mmap.ACCESS_READ) as content:
            return cls.load_content(
                content[:],
                signature=signature,
                input_order=input_order,
                output_order=output_order,
                n_threads=n_threads,
            )

    @classmethod
    def load_content(
        cls,
        content: bytes,
        *,
        signature: ModelSignature,
        input_order: tuple[int, ...],
        output_order: tuple[int, ...],
        n_threads: int = 1,
    ) -> "TensorFlowRuntime":
        """Make a runtime of a frozen GraphDef in memory: for a process that may fill no file.

        Args:
            content: the GraphDef.
            signature: see `load`, as the other arguments.
            input_order: see `load`.
            output_order: see `load`.
            n_threads: see `load`.

        Raises:
            ArtifactRefused: the engine cannot load it, or it does not fit its signature.
        """
        _limit_threads(n_threads)
        function = import_graph(content, n_inputs=len(input_order), n_outputs=len(output_order))
        _check(function.inputs, signature.inputs, input_order)
        _check(function.outputs, signature.outputs, output_order)
        return cls(function, signature=signature, input_order=input_order, output_order=output_order)

    @property
    def signature(self) -> ModelSignature:
        """What it takes and gives."""
        return self._signature

    def run(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Compute the outputs of some rows; see `Runtime.run`.

        Raises:
            InvalidRequest: the engine cannot compute this input.
            ModelNotReady: the runtime is closed.
            RuntimeError: another call is running: the owner's mistake.
        """
        # imported where it runs: hundreds of megabytes that only a worker process needs
        import tensorflow as tf

        function = self._function
        if function is None:
            raise ModelNotReady("this model version is not loaded any more")
        if not self._is_used.acquire(blocking=False):
            raise RuntimeError("a runtime computes one call at a time")
        try:
            placed = dict(zip(self._input_order, inputs, strict=True))
            answers = function(*(tf.constant(placed[number]) for number in range(len(placed))))
            return tuple([np.array(answers[number].numpy()) for number in self._output_order])
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise InvalidRequest("the model cannot compute this input") from error
        finally:
            self._is_used.release()

    def close(self) -> None:
        """Give the model's memory back, at the end of the running call if there is one; twice is fine."""
        self._function = None


def import_graph(content: bytes, *, n_inputs: int, n_outputs: int) -> "ConcreteFunction":
    """Return a frozen graph as a function of its inputs, in the order of their numbers, that returns its outputs.

    Raises:
        ArtifactRefused: it is no such graph.
    """
    # imported where it runs: see above
    import tensorflow as tf
    from google.protobuf.message import DecodeError  # noqa: PLC0415  comes with TensorFlow

    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(content)
        _rename_functions(graph_def, f"model_{next(_N_IMPORTED)}_")
        whole = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(graph_def, name=""), [])
        return whole.prune(
            [f"input_{number}:0" for number in range(n_inputs)], [f"output_{number}:0" for number in range(n_outputs)]
        )
    except (DecodeError, KeyError, TypeError, ValueError, tf.errors.OpError) as error:
        raise ArtifactRefused("the engine cannot load the frozen graph") from error


def _rename_functions(graph_def: Any, prefix: str) -> None:
    """Give a graph's functions names of their own: the engine keeps those of all graphs of a process in one place."""
    library = graph_def.library.function
    for function in library:
        function.signature.name = prefix + function.signature.name
    for node in (*graph_def.node, *(node for function in library for node in function.node_def)):
        for value in node.attr.values():
            for called in [value.func] if value.HasField("func") else value.list.func:
                called.name = prefix + called.name


def _limit_threads(n_threads: int) -> None:
    """Set how many threads compute, which counts only before the first graph is loaded."""
    # imported where it runs: see above
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(n_threads)
        tf.config.threading.set_inter_op_parallelism_threads(n_threads)
    except RuntimeError:
        return  # the engine runs already


def _check(tensors: Sequence[Any], specs: tuple[TensorSpec, ...], order: tuple[int, ...]) -> None:
    """Refuse a graph that is not its signature's.

    Raises:
        ArtifactRefused: number, datatype or shape differ.
    """
    if sorted(order) != list(range(len(specs))) or len(tensors) != len(specs):
        raise ArtifactRefused("the frozen graph does not have its signature's tensors")
    for spec, place in zip(specs, order, strict=True):
        found = tensors[place]
        if np.dtype(found.dtype.as_numpy_dtype) != spec.datatype.numpy:
            raise ArtifactRefused(f"tensor '{spec.name}' of the frozen graph is not of its signature's kind")
        if found.shape.rank is None:
            continue
        shape = tuple(FREE if size is None else int(size) for size in found.shape)
        is_same = len(shape) == len(spec.shape) and all(
            FREE in pair or pair[0] == pair[1] for pair in zip(spec.shape, shape, strict=True)
        )
        if not is_same:
            raise ArtifactRefused(f"tensor '{spec.name}' of the frozen graph does not have its signature's shape")
