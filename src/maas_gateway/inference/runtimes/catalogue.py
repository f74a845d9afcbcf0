"""Which runtime computes which plan on this process's threads; a form is added here and nowhere else."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from maas_gateway.inference.runtimes.litert import LiteRTRuntime
from maas_gateway.inference.runtimes.onnx import ONNXRuntime
from maas_gateway.inference.runtimes.runtime import Runtime
from maas_gateway.tensors.signature import ModelSignature


class Loader(Protocol):
    """Makes a runtime of a model in a memory file; blocks."""

    def __call__(
        self,
        memory_fd: int,
        size_bytes: int,
        *,
        signature: ModelSignature,
        input_order: tuple[int, ...],
        output_order: tuple[int, ...],
        n_threads: int = 1,
    ) -> Runtime:
        """Load it.

        Args:
            memory_fd: the plaintext, in memory; it stays as it is until the runtime is closed.
            size_bytes: its size.
            signature: what the model was published with.
            input_order: for each input of the signature its place among the engine's inputs.
            output_order: the same for outputs.
            n_threads: threads of one call, at least 1.

        Raises:
            ArtifactRefused: the engine cannot load it, or it does not fit its signature.
        """
        ...


LOADERS: Final[Mapping[str, Loader]] = MappingProxyType({"litert": LiteRTRuntime.load, "onnx": ONNXRuntime.load})
"""By the name of the plan that a version's manifest carries; what needs a process of its own is in `inference.confined`."""
