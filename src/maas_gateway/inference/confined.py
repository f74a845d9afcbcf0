"""Which runtimes a confined process may load, each imported only when its name is asked for, and only there.

Each is loaded from the plan's bytes: a confined process can fill no file.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, Protocol

from maas_gateway.errors import ArtifactRefused
from maas_gateway.inference.runtimes.runtime import Runtime
from maas_gateway.tensors.signature import ModelSignature


class ContentLoader(Protocol):
    """Makes a runtime of a plan in memory; blocks."""

    def __call__(
        self,
        content: bytes,
        *,
        signature: ModelSignature,
        input_order: tuple[int, ...],
        output_order: tuple[int, ...],
        n_threads: int = 1,
    ) -> Runtime:
        """Load it; as `catalogue.Loader`, with the plan's bytes in place of a memory file.

        Raises:
            ArtifactRefused: the engine cannot load it, or it does not fit its signature.
        """
        ...


def content_loader(name: str) -> ContentLoader:
    """Return what loads plans of that name.

    Raises:
        ArtifactRefused: no runtime here has that name.
    """
    if name not in _LOADERS:
        raise ArtifactRefused("no runtime of this gateway computes such a plan")
    return _LOADERS[name]()


def _litert() -> ContentLoader:
    from maas_gateway.inference.runtimes.litert import LiteRTRuntime  # noqa: PLC0415  its engine is for where it runs

    return LiteRTRuntime.load_content


def _onnx() -> ContentLoader:
    from maas_gateway.inference.runtimes.onnx import ONNXRuntime  # noqa: PLC0415  its engine is for where it runs

    return ONNXRuntime.load_content


def _openvino() -> ContentLoader:
    from maas_gateway.inference.runtimes.openvino import OpenVINORuntime  # noqa: PLC0415  its engine is for where it runs

    return OpenVINORuntime.load_content


def _tensorflow() -> ContentLoader:
    from maas_gateway.inference.runtimes.tensorflow import TensorFlowRuntime  # noqa: PLC0415  its engine is for where it runs

    return TensorFlowRuntime.load_content


def _keras() -> ContentLoader:
    from maas_gateway.inference.conversion.rebuilt import rebuild_from  # noqa: PLC0415  its engine is for where it runs
    from maas_gateway.inference.conversion.refusal import NotConvertible  # noqa: PLC0415  its engine is for where it runs
    from maas_gateway.inference.runtimes.keras import KerasRuntime  # noqa: PLC0415  its engine is for where it runs

    def load(
        content: bytes,
        *,
        signature: ModelSignature,
        input_order: tuple[int, ...],
        output_order: tuple[int, ...],
        n_threads: int = 1,
    ) -> Runtime:
        del n_threads  # TensorFlow was told by the process's environment before it began
        try:
            model = rebuild_from(content)
        except NotConvertible as objection:
            raise ArtifactRefused(f"the Keras model cannot be loaded: {objection}") from objection
        return KerasRuntime.of(model, signature=signature, input_order=input_order, output_order=output_order)

    return load


_LOADERS: Final[Mapping[str, Callable[[], ContentLoader]]] = MappingProxyType(
    {"litert": _litert, "onnx": _onnx, "openvino": _openvino, "keras": _keras, "tensorflow": _tensorflow}
)
"""By the name of the plan that a version's manifest carries."""
