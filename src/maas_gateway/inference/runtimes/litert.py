"""LiteRT, the engine of converted models: TensorFlow Lite flatbuffers, computed with XNNPACK.

Rules:

* the flatbuffer is mapped from its memory file by the path `/proc/self/fd/N`: it is never on a disk
  and not copied. The engine keeps a descriptor of its own until `close`, which it opens so that
  executed children would inherit it: `load` takes that away;
* one interpreter a model, resized when a call's shapes differ from the last call's;
* outputs are copies (`get_tensor`), never views (`tensor()`), which would die with the interpreter;
* `close` during a call only drops a reference: memory goes when the call ends.

Measured on the reference machine (ai-edge-litert 2.3.0, one thread), a model of 96 MiB:

    what lies in memory                        MiB  locked               dumped, inherited  wiped
    the memory file (`registry.memory`)         96  as the limit allows  no                 yes
    the engine's mapping: the same pages         0  with them            no                 with them
    XNNPACK's packed copy, one an interpreter   96  no                   yes                no
    tensors of a call with 32 rows               1  no                   yes                no

So of what the engine keeps for itself only that there are no core dumps and no swap takes care. With
`model_content=bytes` there would be another copy of 96 MiB (views of memory are not accepted). The
mapping is made in 0.3 ms and the weights are packed in 20 ms (75 where a virtual machine has to ask its
host for the memory); `close` takes as long.

Another number of rows (resize and allocate): 3.6 µs on the seed network (`run`: 5 µs for one row, 14 µs for 32),
below the noise on 4 MB of dense layers and on a small convolutional network. Interpreters kept for
batch sizes 1, 2, 4, … would save those 3.6 µs, hold the weights once more each (96 MiB more), and
compute padding (8 rows in place of 5: up to twice the time). So there is one.
"""

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from maas_gateway.errors import ArtifactRefused, InvalidRequest, ModelNotReady
from maas_gateway.tensors.signature import FREE, ModelSignature, TensorSpec


class LiteRTRuntime:
    """One converted model in memory.

    Protects against plaintext on a disk or in a child, and against reading freed memory. Not against a
    hostile flatbuffer: the engine trusts its bytes, and one with variables adds up what its callers
    send (`reset_all_variables` does not reach resource variables, as measured), so it must have passed
    `scanning` and have been authenticated since. Not against swapping: packed weights are ordinary memory.
    """

    def __init__(
        self, interpreter: Any, *, signature: ModelSignature, inputs: tuple[int, ...], outputs: tuple[int, ...]
    ) -> None:
        """Take an interpreter; use `load`.

        Args:
            interpreter: of `ai_edge_litert`, used by nobody else.
            signature: what it takes and gives.
            inputs: the interpreter's tensor index of each input, in the signature's order.
            outputs: the same for outputs.
        """
        self._interpreter: Any = interpreter
        self._signature = signature
        self._inputs = inputs
        self._outputs = outputs
        self._shapes: list[tuple[int, ...]] | None = None
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
    ) -> "LiteRTRuntime":
        """Make a runtime of a flatbuffer in a memory file; takes time in proportion to the weights.

        Args:
            memory_fd: a memory file with nothing but the flatbuffer; its content stays as it is until
                the runtime is closed and no call runs; the descriptor may be closed before.
            size_bytes: the flatbuffer's size.
            signature: what the model was published with.
            input_order: for each input of the signature its place among the interpreter's inputs.
            output_order: the same for outputs.
            n_threads: threads of one call, at least 1.

        Raises:
            ArtifactRefused: the engine cannot load it, or it does not fit its signature.
        """
        if os.fstat(memory_fd).st_size != size_bytes:
            raise ArtifactRefused("the converted model does not have its size")
        try:
            source = {"model_path": f"/proc/self/fd/{memory_fd}"}
            return cls._of(source, signature, orders=(input_order, output_order), n_threads=n_threads)
        finally:
            _keep_from_children(memory_fd)

    @classmethod
    def load_content(
        cls,
        content: bytes,
        *,
        signature: ModelSignature,
        input_order: tuple[int, ...],
        output_order: tuple[int, ...],
        n_threads: int = 1,
    ) -> "LiteRTRuntime":
        """Make a runtime of a flatbuffer in memory, which the engine copies: for a process that may fill no file.

        Args:
            content: the flatbuffer.
            signature: see `load`, as the other arguments.
            input_order: see `load`.
            output_order: see `load`.
            n_threads: see `load`.

        Raises:
            ArtifactRefused: the engine cannot load it, or it does not fit its signature.
        """
        source = {"model_content": content}
        return cls._of(source, signature, orders=(input_order, output_order), n_threads=n_threads)

    @classmethod
    def _of(
        cls,
        source: dict[str, Any],
        signature: ModelSignature,
        *,
        orders: tuple[tuple[int, ...], tuple[int, ...]],
        n_threads: int,
    ) -> "LiteRTRuntime":
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415  40 MB that only a serving process needs

        try:
            interpreter = Interpreter(**source, num_threads=n_threads)
            inputs = _indices(interpreter.get_input_details(), signature.inputs, orders[0])
            outputs = _indices(interpreter.get_output_details(), signature.outputs, orders[1])
            if not any(FREE in spec.shape[1:] for spec in signature.inputs):
                interpreter.allocate_tensors()  # packs the weights; with free dimensions the first call does
        except (RuntimeError, ValueError) as error:
            raise ArtifactRefused("the engine cannot load the converted model") from error
        return cls(interpreter, signature=signature, inputs=inputs, outputs=outputs)

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
        interpreter = self._interpreter
        if interpreter is None:
            raise ModelNotReady("this model version is not loaded any more")
        if not self._is_used.acquire(blocking=False):
            raise RuntimeError("a runtime computes one call at a time")
        try:
            self._resize(interpreter, [array.shape for array in inputs])
            for index, array in zip(self._inputs, inputs, strict=True):
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            return tuple([np.asarray(interpreter.get_tensor(index)) for index in self._outputs])  # a scalar is no array
        except (RuntimeError, ValueError) as error:
            raise InvalidRequest("the model cannot compute this input") from error
        finally:
            self._is_used.release()

    def close(self) -> None:
        """Give the model's memory back, at the end of the running call if there is one; twice is fine."""
        self._interpreter = None

    def _resize(self, interpreter: Any, shapes: list[tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = None
        for index, shape in zip(self._inputs, shapes, strict=True):
            interpreter.resize_tensor_input(index, shape, strict=True)
        interpreter.allocate_tensors()
        self._shapes = shapes


def _keep_from_children(memory_fd: int) -> None:
    """Close every descriptor of this memory file in executed children."""
    file = os.fstat(memory_fd)
    for link in Path("/proc/self/fd").iterdir():
        fd = int(link.name)
        with suppress(OSError):  # closed meanwhile by its owner
            if os.path.samestat(file, os.fstat(fd)):
                os.set_inheritable(fd, False)


def _indices(details: Sequence[Any], specs: tuple[TensorSpec, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    """Return the tensor index of each spec, once it is known to be the same tensor.

    Raises:
        ArtifactRefused: number, datatype or shape differ.
    """
    if sorted(order) != list(range(len(details))) or len(order) != len(specs):
        raise ArtifactRefused("the converted model does not have its signature's tensors")
    for spec, place in zip(specs, order, strict=True):
        found = details[place]
        shape = tuple(int(size) for size in found["shape_signature"])
        if np.dtype(found["dtype"]) != spec.datatype.numpy or len(shape) != len(spec.shape):
            raise ArtifactRefused(f"tensor '{spec.name}' of the converted model is not of its signature's kind")
        if any(FREE not in (want, got) and want != got for want, got in zip(spec.shape, shape, strict=True)):
            raise ArtifactRefused(f"tensor '{spec.name}' of the converted model does not have its signature's shape")
    return tuple([int(details[place]["index"]) for place in order])
