"""Which runtimes a confined process may load, each imported only when its name is asked for, and only there.

Every one of them has a class method `load_content`, which takes the plan as bytes: a confined process can fill no file.
"""

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol, cast

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


_HERE: Final = "maas_gateway.inference.runtimes"

RUNTIMES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "litert": (f"{_HERE}.litert", "LiteRTRuntime"),
        "onnx": (f"{_HERE}.onnx", "ONNXRuntime"),
        "keras": (f"{_HERE}.keras", "KerasRuntime"),
        "tensorflow": (f"{_HERE}.tensorflow", "TensorFlowRuntime"),
    }
)
"""Module and class by the name of the plan that a version's manifest carries."""


def content_loader(name: str) -> ContentLoader:
    """Return what loads plans of that name.

    Raises:
        ArtifactRefused: no runtime here has that name.
    """
    if name not in RUNTIMES:
        raise ArtifactRefused("no runtime of this gateway computes such a plan")
    module, kind = RUNTIMES[name]
    return cast("ContentLoader", getattr(importlib.import_module(module), kind).load_content)
