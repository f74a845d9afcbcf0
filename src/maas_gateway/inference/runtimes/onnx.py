"""ONNX Runtime, the engine of ONNX models, on this process's CPU.

Rules:

* the model is read from its memory file by the path `/proc/self/fd/N`: it is never on a disk, and the
  engine keeps neither the path nor a descriptor. No external data and no libraries of operators: the
  scanner lets none pass, and none is registered;
* threads, profiling and logs are off: a call computes on the thread that makes it;
* all sessions of the process share one arena of at most `ARENA_BYTES`, which gives its memory back after
  every call; weights lie outside it. So a model whose intermediate values grow with what a client sends
  ends in a refusal of that request, not of the process;
* texts are UTF-8 on both sides (BYTES of the protocol are `bytes`, the engine's are `str`);
* outputs are copies: the engine's own lie in the arena, and would keep it from being given back.

Measured on the reference machine (onnxruntime 1.32.0, one thread; `smaps_rollup` around each step), a model of one
matrix of 96 MiB:

    what lies in memory                          MiB  locked               dumped, inherited  wiped
    the memory file (`registry.memory`)           96  as the limit allows  no                 yes
    while loading: the parsed message, beyond it  96  no                   yes                no
    the session's weights                         97  no                   yes                no
    tensors of a call with 32 rows, while it runs  4  no                   yes                no

Given as `bytes`, the model would lie there once more for as long as the session lives, since the Python
wrapper keeps them (224 MiB in place of 128 after loading, peak 360 in place of 264). Loading takes 0.5 s;
`close` gives all but some 10 MiB of the library back.

The arena: a product of a column and a row of 10,000 (381 MiB) left 660 MiB with the engine's own arena for
good; with this one nothing, and an input of 17,000 is refused. Weights that the engine packs or folds lie outside
it as well: with an arena of 64 MiB a matrix of 96 MiB loads and runs, transposed too. Giving the arena back costs a
call 4 µs: `run` takes 20 µs for one row of a small network, of which the engine takes 12.
"""

import os
import threading
from collections.abc import Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from maas_gateway.errors import ArtifactRefused, InvalidRequest, ModelNotReady
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import FREE, ModelSignature, TensorSpec

ARENA_BYTES: Final = 1 << 30
"""What the intermediate values of all calls that run at once may take, all models together."""

DATATYPES: Final = MappingProxyType(
    {
        "tensor(bool)": Datatype.BOOL,
        "tensor(uint8)": Datatype.UINT8,
        "tensor(uint16)": Datatype.UINT16,
        "tensor(uint32)": Datatype.UINT32,
        "tensor(uint64)": Datatype.UINT64,
        "tensor(int8)": Datatype.INT8,
        "tensor(int16)": Datatype.INT16,
        "tensor(int32)": Datatype.INT32,
        "tensor(int64)": Datatype.INT64,
        "tensor(float16)": Datatype.FP16,
        "tensor(float)": Datatype.FP32,
        "tensor(double)": Datatype.FP64,
        "tensor(string)": Datatype.BYTES,
    }
)
"""By the engine's name of a type."""

_OUT_OF_MEMORY: Final = ("Available memory of", "bad_alloc", "Failed to allocate memory")
_FATAL_ONLY: Final = 4
_registering = threading.Lock()


class ONNXRuntime:
    """One ONNX model in memory.

    Protects against plaintext on a disk, against reading freed memory, and against a request that makes the
    model's values grow without end. Not against a fault in a kernel of the engine: the model must have passed
    `scanning` and have been authenticated since. Not against swapping: weights are ordinary memory.
    """

    def __init__(self, session: Any, *, signature: ModelSignature, inputs: list[str], outputs: list[str]) -> None:
        """Take a session; use `load`.

        Args:
            session: of `onnxruntime`, used by nobody else.
            signature: what it takes and gives.
            inputs: the session's name of each input, in the signature's order.
            outputs: the same for outputs.
        """
        self._session: Any = session
        self._signature = signature
        self._inputs = inputs
        self._outputs = outputs
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
    ) -> "ONNXRuntime":
        """Make a runtime of a model in a memory file; takes time in proportion to the weights.

        Args:
            memory_fd: a memory file with nothing but the model; needed until this returns.
            size_bytes: the model's size.
            signature: what the model was published with.
            input_order: for each input of the signature its place among the session's inputs.
            output_order: the same for outputs.
            n_threads: threads of one call, at least 1.

        Raises:
            ArtifactRefused: the engine cannot load it, or it does not fit its signature.
        """
        if os.fstat(memory_fd).st_size != size_bytes:
            raise ArtifactRefused("the ONNX model does not have its size")
        source = f"/proc/self/fd/{memory_fd}"
        return cls._of(source, signature, orders=(input_order, output_order), n_threads=n_threads)

    @classmethod
    def load_content(
        cls,
        content: bytes,
        *,
        signature: ModelSignature,
        input_order: tuple[int, ...],
        output_order: tuple[int, ...],
        n_threads: int = 1,
    ) -> "ONNXRuntime":
        """Make a runtime of a model in memory, which is kept: for a process that may fill no file.

        Args:
            content: the model.
            signature: see `load`, as the other arguments.
            input_order: see `load`.
            output_order: see `load`.
            n_threads: see `load`.

        Raises:
            ArtifactRefused: the engine cannot load it, or it does not fit its signature.
        """
        return cls._of(content, signature, orders=(input_order, output_order), n_threads=n_threads)

    @classmethod
    def _of(
        cls,
        source: str | bytes,
        signature: ModelSignature,
        *,
        orders: tuple[tuple[int, ...], tuple[int, ...]],
        n_threads: int,
    ) -> "ONNXRuntime":
        try:
            session = open_session(source, n_threads=n_threads)
        except engine_errors() as error:
            raise ArtifactRefused("the engine cannot load the ONNX model") from error
        inputs = _names(session.get_inputs(), signature.inputs, orders[0])
        outputs = _names(session.get_outputs(), signature.outputs, orders[1])
        return cls(session, signature=signature, inputs=inputs, outputs=outputs)

    @property
    def signature(self) -> ModelSignature:
        """What it takes and gives."""
        return self._signature

    def run(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Compute the outputs of some rows; see `Runtime.run`.

        Raises:
            InvalidRequest: the engine cannot compute this input, or would need too much memory for it.
            ModelNotReady: the runtime is closed.
            RuntimeError: another call is running: the owner's mistake.
        """
        session = self._session
        if session is None:
            raise ModelNotReady("this model version is not loaded any more")
        if not self._is_used.acquire(blocking=False):
            raise RuntimeError("a runtime computes one call at a time")
        try:
            given = {name: to_engine(name, array) for name, array in zip(self._inputs, inputs, strict=True)}
            return tuple([from_engine(array) for array in session.run(self._outputs, given, _giving_back())])
        except engine_errors() as error:
            raise _refusal(error) from error
        finally:
            self._is_used.release()

    def close(self) -> None:
        """Give the model's memory back, at the end of the running call if there is one; twice is fine."""
        self._session = None


def open_session(model: str | bytes, *, n_threads: int = 1, is_optimised: bool = True) -> Any:
    """Return a session of a model.

    Args:
        model: the path of its memory file, needed until this returns, or the model itself, which is kept.
        n_threads: threads of one call, at least 1.
        is_optimised: whether the engine may rewrite the graph; if not, it computes node by node.

    Raises:
        Exception: one of `engine_errors`: the engine refuses the model.
    """
    import onnxruntime  # 60 MB that only a serving process needs

    _share_arena()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    options.enable_profiling = False
    options.enable_mem_pattern = False  # it would remember every shape that ever came
    options.use_deterministic_compute = True
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if is_optimised else levels.ORT_DISABLE_ALL
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=False)
    session.disable_fallback()
    return session


@cache
def engine_errors() -> tuple[type[Exception], ...]:
    """Return what the engine raises: exceptions of its own, which have no common class, and Python's."""
    from onnxruntime.capi import onnxruntime_pybind11_state as engine  # as above

    found = [value for value in vars(engine).values() if isinstance(value, type) and issubclass(value, Exception)]
    return (*found, RuntimeError, ValueError, MemoryError)


def to_engine(name: str, array: np.ndarray) -> np.ndarray:
    """Return the input of that name as the engine takes it: texts as `str`.

    Raises:
        InvalidRequest: a text is not UTF-8.
    """
    if array.dtype != np.object_:
        return array
    texts = np.empty(array.size, dtype=np.object_)
    try:
        texts[:] = [value.decode() for value in array.flat]
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"input '{name}': a text is not UTF-8, which this model needs") from error
    return texts.reshape(array.shape)


def from_engine(array: Any) -> np.ndarray:
    """Return an output of one's own: texts as `bytes`."""
    if array.dtype != np.object_:
        return np.array(array)
    texts = np.empty(array.size, dtype=np.object_)
    texts[:] = [value.encode() for value in array.flat]
    return texts.reshape(array.shape)


@cache
def _giving_back() -> Any:
    """Return options of a call after which the arena gives its memory back."""
    import onnxruntime  # as above

    options = onnxruntime.RunOptions()
    options.log_severity_level = _FATAL_ONLY
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _share_arena() -> None:
    with _registering:
        _register_arena()


@cache
def _register_arena() -> None:
    """Bound the memory of all sessions; once a process."""
    import onnxruntime  # as above

    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    same_as_requested = 1
    bounds = onnxruntime.OrtArenaCfg({"max_mem": ARENA_BYTES, "arena_extend_strategy": same_as_requested})
    onnxruntime.create_and_register_allocator(memory, bounds)


def _refusal(error: Exception) -> InvalidRequest:
    if isinstance(error, InvalidRequest):
        return error
    if isinstance(error, MemoryError) or any(mark in str(error) for mark in _OUT_OF_MEMORY):
        return InvalidRequest("the model needs more memory for this input than a call may take; send fewer rows")
    return InvalidRequest("the model cannot compute this input")


def _names(found: Sequence[Any], specs: tuple[TensorSpec, ...], order: tuple[int, ...]) -> list[str]:
    """Return the session's name of each spec, once it is known to be the same tensor.

    Raises:
        ArtifactRefused: number, datatype or shape differ.
    """
    if sorted(order) != list(range(len(found))) or len(order) != len(specs):
        raise ArtifactRefused("the ONNX model does not have its signature's tensors")
    for spec, place in zip(specs, order, strict=True):
        port = found[place]
        if DATATYPES.get(port.type) is not spec.datatype:
            raise ArtifactRefused(f"tensor '{spec.name}' of the ONNX model is not of its signature's datatype")
        shape = [size if isinstance(size, int) else FREE for size in port.shape or ()]
        is_known = bool(shape) or not spec.shape  # the engine does not tell a scalar from an unknown shape
        if is_known and (
            len(shape) != len(spec.shape)
            or any(FREE not in (want, got) and want != got for want, got in zip(spec.shape, shape, strict=True))
        ):
            raise ArtifactRefused(f"tensor '{spec.name}' of the ONNX model does not have its signature's shape")
    return [found[place].name for place in order]
