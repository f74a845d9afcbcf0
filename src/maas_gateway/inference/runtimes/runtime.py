"""What computes the answers of one model in memory.

Rules for every form:

* `run` may block and is not thread-safe: one call at a time, from any thread;
* what `run` returns is the caller's own and stays valid after the next `run` and after `close`;
* nothing of one call is left that a later call could see, the model's own variables included;
* no plaintext of the model is written to a disk.
"""

from typing import Protocol

import numpy as np

from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import FREE, ModelSignature


class Runtime(Protocol):
    """One model, ready to compute."""

    @property
    def signature(self) -> ModelSignature:
        """What it takes and gives."""
        ...

    def run(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Compute the outputs of some rows.

        Args:
            inputs: one array for each input of the signature, in its order, of its datatype and
                shape, C-contiguous; any common number of rows if the model has a batch dimension.

        Returns:
            One array for each output of the signature, in its order and of its datatype.

        Raises:
            InvalidRequest: the engine cannot compute this input, for example an index out of range.
            ModelNotReady: the runtime is closed.
        """
        ...

    def close(self) -> None:
        """Give the model's memory back, at the end of the running call if there is one; twice is fine."""
        ...


def warm(runtime: Runtime) -> None:
    """Have a runtime compute the smallest input that its signature allows, so that no caller waits for its first call.

    Raises:
        InvalidRequest: it cannot compute that.
    """
    runtime.run(
        tuple(
            np.full(shape, b"" if spec.datatype is Datatype.BYTES else 0, dtype=spec.datatype.numpy)
            for spec in runtime.signature.inputs
            for shape in [[1 if n == FREE else n for n in spec.shape]]
        )
    )
