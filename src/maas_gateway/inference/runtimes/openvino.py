"""OpenVINO, one more engine of ONNX models, on the CPU; an optional extra of that name.

Rules:

* it runs in a confined process only (`inference.process_child`): it bounds neither its memory nor the places that a
  caller's numbers point to. `Gather` gives zeros for an index out of range, and takes 2**40 for 0: where ONNX Runtime
  refuses a request, it may answer it;
* the model is read from memory, in the form that the scanner saw, and computed in the precision that it declares;
* texts are not taken: an engine of numbers;
* nothing is cached on a disk, no library of operators is loaded, and nothing is told to anybody: the package's own
  telemetry, and the converters that it belongs to, cannot be imported;
* outputs are copies: the engine's own are overwritten by the next call.

Measured on the reference machine (openvino 2026.4.1, one thread), beside ONNX Runtime: a call costs 67 µs on a network
of two small matrices (7), and as long where there is much to compute (0.92 ms of six convolutions, 0.86).

Source: OpenVINO documentation, "Integrate OpenVINO with Your Application", "CPU Device".
"""

import io
import sys
import threading
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from maas_gateway.errors import ArtifactRefused, InvalidRequest, ModelNotReady
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import FREE, ModelSignature, TensorSpec

DATATYPES: Final = MappingProxyType(
    {
        "boolean": Datatype.BOOL,
        "u8": Datatype.UINT8,
        "u16": Datatype.UINT16,
        "u32": Datatype.UINT32,
        "u64": Datatype.UINT64,
        "i8": Datatype.INT8,
        "i16": Datatype.INT16,
        "i32": Datatype.INT32,
        "i64": Datatype.INT64,
        "f16": Datatype.FP16,
        "f32": Datatype.FP32,
        "f64": Datatype.FP64,
    }
)
"""By the engine's name of a type."""

_OUT_OF_MEMORY: Final = ("bad_alloc", "Failed to allocate", "Cannot allocate")
_UNWANTED: Final = ("openvino.tools.ovc", "openvino_telemetry")


class OpenVINORuntime:
    """One ONNX model in memory, computed by OpenVINO.

    Protects against plaintext on a disk and against reading what the next call overwrites. Not against a model or an
    input that was made to harm the engine: it runs where it can reach nothing.
    """

    def __init__(
        self, request: Any, *, signature: ModelSignature, inputs: tuple[int, ...], outputs: tuple[int, ...]
    ) -> None:
        """Take a compiled model's request; use `load_content`.

        Args:
            request: of `openvino`, used by nobody else.
            signature: what it takes and gives.
            inputs: the engine's place of each input, in the signature's order.
            outputs: the same for outputs.
        """
        self._request: Any = request
        self._signature = signature
        self._inputs = inputs
        self._outputs = outputs
        self._is_used = threading.Lock()

    @classmethod
    def load_content(
        cls,
        content: bytes,
        *,
        signature: ModelSignature,
        input_order: tuple[int, ...],
        output_order: tuple[int, ...],
        n_threads: int = 1,
    ) -> "OpenVINORuntime":
        """Make a runtime of a model in memory; takes time in proportion to the graph and the weights.

        Args:
            content: the ONNX model.
            signature: what it was published with.
            input_order: for each input of the signature its place among the engine's inputs.
            output_order: the same for outputs.
            n_threads: threads of one call, at least 1.

        Raises:
            ArtifactRefused: the engine is not installed, cannot load the model, or it does not fit its signature.
        """
        if not is_installed():
            raise ArtifactRefused("this gateway has no OpenVINO; install it with the extra 'openvino'")
        try:
            compiled = compile_model(content, n_threads=n_threads)
        except engine_errors() as error:
            raise ArtifactRefused("the engine cannot load the ONNX model") from error
        _check(compiled.inputs, signature.inputs, input_order)
        _check(compiled.outputs, signature.outputs, output_order)
        return cls(compiled.create_infer_request(), signature=signature, inputs=input_order, outputs=output_order)

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
            MemoryError: it needs more memory than there is.
        """
        request = self._request
        if request is None:
            raise ModelNotReady("this model version is not loaded any more")
        if not self._is_used.acquire(blocking=False):
            raise RuntimeError("a runtime computes one call at a time")
        try:
            answers = compute(request, dict(zip(self._inputs, inputs, strict=True)))
        except engine_errors() as error:
            if isinstance(error, MemoryError) or any(mark in str(error) for mark in _OUT_OF_MEMORY):
                raise MemoryError from error
            raise InvalidRequest("the model cannot compute this input") from error
        finally:
            self._is_used.release()
        return tuple([answers[place] for place in self._outputs])

    def close(self) -> None:
        """Give the model's memory back, at the end of the running call if there is one; twice is fine."""
        self._request = None


def is_installed() -> bool:
    """Return whether the extra is there; imports nothing."""
    return find_spec("openvino") is not None


def compile_model(content: bytes, *, n_threads: int = 1) -> Any:
    """Return an ONNX model made ready to compute.

    Args:
        content: the model; not kept.
        n_threads: threads of one call, at least 1.

    Raises:
        Exception: one of `engine_errors`: the engine refuses the model.
    """
    core = _core()
    settings = {
        "INFERENCE_NUM_THREADS": n_threads,
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",  # on some processors it would compute in bfloat16
        "EXECUTION_MODE_HINT": "ACCURACY",
        "ENABLE_CPU_PINNING": False,
    }
    return core.compile_model(core.read_model(io.BytesIO(content)), "CPU", settings)


def compute(request: Any, inputs: dict[int, np.ndarray]) -> list[np.ndarray]:
    """Return one's own copy of every output, in the engine's order.

    Args:
        request: of a compiled model.
        inputs: by place.

    Raises:
        Exception: one of `engine_errors`.
    """
    import openvino  # 180 MB that only a confined process needs

    for place, array in inputs.items():
        request.set_input_tensor(place, openvino.Tensor(array, shared_memory=array.flags.writeable))
    request.infer(share_outputs=True)
    return [np.array(tensor.data) for tensor in request.output_tensors]


def engine_errors() -> tuple[type[Exception], ...]:
    """Return what the engine raises."""
    return (RuntimeError, ValueError, TypeError, MemoryError)


@cache
def _core() -> Any:
    """Return the library, with its CPU only, once a process."""
    for name in _UNWANTED:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own way to say: there is no such module
    import openvino  # as above

    return openvino.Core()


def _check(found: Sequence[Any], specs: tuple[TensorSpec, ...], order: tuple[int, ...]) -> None:
    """Refuse a model whose tensors are not those of its signature.

    Raises:
        ArtifactRefused: number, datatype or shape differ.
    """
    if sorted(order) != list(range(len(found))) or len(order) != len(specs):
        raise ArtifactRefused("the ONNX model does not have its signature's tensors")
    for spec, place in zip(specs, order, strict=True):
        port = found[place]
        if DATATYPES.get(port.get_element_type().get_type_name()) is not spec.datatype:
            raise ArtifactRefused(f"tensor '{spec.name}' of the ONNX model is not of its signature's datatype")
        shape = _shape(port.get_partial_shape())
        if shape is not None and (
            len(shape) != len(spec.shape)
            or any(FREE not in (want, got) and want != got for want, got in zip(spec.shape, shape, strict=True))
        ):
            raise ArtifactRefused(f"tensor '{spec.name}' of the ONNX model does not have its signature's shape")


def _shape(found: Any) -> list[int] | None:
    """Return a shape, None where not even the rank is known."""
    if found.rank.is_dynamic:
        return None
    return [FREE if size.is_dynamic else size.get_length() for size in found]
