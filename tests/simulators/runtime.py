"""A runtime that tests steer: it records what it is given, waits when told to, and fails when told to."""

import threading
from collections.abc import Callable

import numpy as np

from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec

WIDTH = 3
"""Numbers in a row of the default signature."""

ROWS = ModelSignature(
    (TensorSpec("x", Datatype.FP32, (-1, WIDTH)),),
    (TensorSpec("double", Datatype.FP32, (-1, WIDTH)), TensorSpec("sum", Datatype.FP32, (-1,))),
)

WAIT_S = 20.0
"""How long a test waits for an event before it fails."""


def double_and_sum(inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Compute what `ROWS` declares."""
    (x,) = inputs
    return (x * np.float32(2), x.sum(axis=1, dtype=np.float32))


class SimulatedRuntime:
    """Computes on one thread at a time and fails the test's expectations loudly if asked otherwise."""

    def __init__(
        self,
        signature: ModelSignature = ROWS,
        compute: Callable[[tuple[np.ndarray, ...]], tuple[np.ndarray, ...]] = double_and_sum,
    ) -> None:
        self._signature = signature
        self._compute = compute
        self._gate = threading.Event()
        self._gate.set()
        self._began = threading.Semaphore(0)
        self._is_running = threading.Lock()
        self.calls: list[tuple[np.ndarray, ...]] = []
        self.overlapped = False
        self.is_closed = False

    @property
    def signature(self) -> ModelSignature:
        return self._signature

    def run(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        if not self._is_running.acquire(blocking=False):
            self.overlapped = True
            raise AssertionError("two calls at once")
        try:
            self.calls.append(tuple(array.copy() for array in inputs))
            self._began.release()
            assert self._gate.wait(WAIT_S), "the gate was never opened"
            return self._compute(inputs)
        finally:
            self._is_running.release()

    def close(self) -> None:
        self.is_closed = True

    def hold(self) -> None:
        """Let calls begin and not end."""
        self._gate.clear()

    def let_go(self) -> None:
        """Let calls end."""
        self._gate.set()

    def wait_until_begun(self) -> None:
        """Block until one more call has begun than was waited for so far."""
        assert self._began.acquire(timeout=WAIT_S), "no call began"
