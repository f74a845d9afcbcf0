"""A model computed in a confined process of its own, behind the same `Runtime` as those on this process's threads.

Rules:

* the plan goes from memory through a pipe into the process, never into a file, and is not kept here;
* what the process says is checked against the signature to the byte (`parcels`); the sentence of a refusal is ours;
* a call ends within a bound; once nobody waits for it (`interrupt`) it may go on for one second more, because to end
  the process costs the next caller more than that; then the process is killed with all that it started;
* a process fails once: it is killed, and this runtime is no more. Its owner, whom `ended_fd` tells, loads another: the
  call that ran fails, those that follow are not ready, so that whoever conducts them waits for the other one.

Between calls the process keeps what its engine keeps: no variable is written (`runtimes.keras`), and who may call a
model may share a process with everybody else who may.

Measured on the reference machine (2 cores, shared with other work), the seed network, medians; what a call takes beyond
the engine's own time is the way there and back:

    runtime  a row on a thread  in a process  to start  resident  address space
    litert   5 µs               200 µs        0.14 s    40 MiB    121 MiB
    keras    260 µs             580 µs        4.9 s     617 MiB   1.6 GiB

Where other programs keep both cores busy, a process that stands back waits for them: 10 ms and more in 1 of 100 calls,
and some 25 s to start Keras.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from maas_gateway.confinement.failure import ChildFailed, FailureKind
from maas_gateway.confinement.resident import Reply, ResidentChild
from maas_gateway.errors import (
    ArtifactRefused,
    DeadlineExceeded,
    GatewayError,
    InvalidRequest,
    ModelNotReady,
    Unavailable,
)
from maas_gateway.inference.conversion.refusal import sentence
from maas_gateway.inference.parcels import ParcelRejected, pack, size_of, unpack
from maas_gateway.tensors.signature import ModelSignature

MODULE: Final = "maas_gateway.inference.process_child"
"""What runs in the process."""

_GRACE_S: Final = 1.0
_MAX_ANSWER_BYTES: Final = 256 << 20  # of outputs whose size the signature does not tell
_RETRY_S: Final = 5.0
_CANNOT: Final = "the model cannot compute this input"


class End(StrEnum):
    """Why a process ended."""

    CRASHED = "crashed"
    TIMED_OUT = "timed-out"
    OUT_OF_MEMORY = "out-of-memory"
    PROTOCOL = "protocol"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a process is to load.

    Attributes:
        runtime: a name of `confined`.
        signature: what the model was published with.
        input_order: for each input of the signature, its place in the plan's own order.
        output_order: the same for outputs.
    """

    runtime: str
    signature: ModelSignature
    input_order: tuple[int, ...]
    output_order: tuple[int, ...]

    def arguments(self, *, size_bytes: int, n_threads: int) -> dict[str, object]:
        """Return what the process is told: how large the plan is, and how many threads compute."""
        return {
            "runtime": self.runtime,
            "signature": self.signature.to_json(),
            "input_order": list(self.input_order),
            "output_order": list(self.output_order),
            "size_bytes": size_bytes,
            "n_threads": n_threads,
        }


class ProcessRuntime:
    """One model in a process of its own.

    Protects the gateway and other models against a model that never ends, eats memory, crashes or takes its process
    over. Not a model's callers against each other where it was taken over.
    """

    def __init__(self, child: ResidentChild, signature: ModelSignature, *, call_s: float) -> None:
        """Take a process that has loaded its plan; use `load`.

        Args:
            child: used by nobody else.
            signature: what the model takes and gives.
            call_s: seconds that one call may take at most.
        """
        self._child = child
        self._signature = signature
        self._call_s = call_s
        self._is_closed = False

    @classmethod
    def load(
        cls,
        child: ResidentChild,
        content: memoryview,
        signature: ModelSignature,
        *,
        load_s: float,
        call_s: float,
    ) -> "ProcessRuntime":
        """Have a process that was started for `Plan.arguments` load the plan and compute once; it is closed if it does not.

        Args:
            child: just started.
            content: the plan; not looked at afterwards.
            signature: what the model was published with.
            load_s: seconds after which it is given up.
            call_s: seconds that one call may take at most.

        Raises:
            ArtifactRefused: the engine cannot load it, or it does not fit its signature.
            Unavailable: the process took too long, crashed or ran out of memory, or none runs here.
        """
        try:
            reply = child.begin([content], within_s=load_s)
            _raise_refusal(reply)
        except ChildFailed as failure:
            child.close()
            raise _not_loaded(failure) from failure
        except BaseException:
            child.close()
            raise
        return cls(child, signature, call_s=call_s)

    @property
    def signature(self) -> ModelSignature:
        """What it takes and gives."""
        return self._signature

    @property
    def pid(self) -> int:
        """The process."""
        return self._child.pid

    @property
    def ended_fd(self) -> int:
        """A descriptor that is readable once the process has ended, until the runtime is closed."""
        return self._child.ended_fd

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended, and with it this runtime."""
        return self._child.has_ended

    @property
    def end(self) -> End:
        """Why it ended, as far as is known: a process that nobody was calling crashed."""
        failure = self._child.failure
        return End.CRASHED if failure is None else End(failure.kind.value)

    @property
    def in_force(self) -> tuple[str, ...]:
        """The limits that the process reported as applied."""
        return self._child.in_force

    def run(self, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        """Compute the outputs of some rows; see `Runtime.run`.

        Raises:
            InvalidRequest: the engine cannot compute this input.
            ModelNotReady: the runtime is closed, or its process had ended before; nothing was computed.
            DeadlineExceeded: it took longer than a call may; the process is ended.
            Unavailable: the process ended during the call.
        """
        if self._is_closed or self._child.has_ended:
            raise ModelNotReady("the process that computes this model is started anew", retry_after_s=_RETRY_S)
        try:
            header, parts = pack(inputs, self._signature.inputs)
        except ParcelRejected as rejected:
            raise InvalidRequest(_CANNOT) from rejected
        n_rows = inputs[0].shape[0] if inputs and inputs[0].ndim else 1
        bound = size_of(self._signature.outputs, n_rows)
        try:
            reply = self._child.call(
                header,
                parts,
                within_s=self._call_s,
                max_answer_bytes=_MAX_ANSWER_BYTES if bound is None else bound,
            )
            if "refused" in reply.header:
                raise InvalidRequest(_CANNOT)
            return unpack(reply.header, reply.payload, self._signature.outputs)
        except ParcelRejected as rejected:
            raise self._failed(self._child.reject(str(rejected))) from rejected
        except ChildFailed as failure:
            raise self._failed(failure) from failure

    def interrupt(self) -> None:
        """Say that nobody waits for the call that runs now, if one does; from any thread, returns at once."""
        self._child.hurry(_GRACE_S)

    def close(self) -> None:
        """End the process; a call that runs fails. Twice is fine."""
        self._is_closed = True
        self._child.close()

    def _failed(self, failure: ChildFailed) -> GatewayError:
        if self._is_closed:
            return ModelNotReady("this model version is not loaded any more")
        if failure.kind is FailureKind.TIMED_OUT:
            return DeadlineExceeded(f"the model computed for longer than it may; a call has {self._call_s:g} s at most")
        if failure.kind is FailureKind.OUT_OF_MEMORY:
            sentence_of_it = "the model needs more memory to compute this than its process may use, and was ended"
        else:
            sentence_of_it = "the process that computes this model ended before it answered"
        return Unavailable(f"{sentence_of_it}; it is started anew", retry_after_s=_RETRY_S)


def _raise_refusal(reply: Reply) -> None:
    refused = reply.header.get("refused")
    if refused is not None:
        raise ArtifactRefused(sentence(str(refused)))


def _not_loaded(failure: ChildFailed) -> GatewayError:
    if not failure.has_started:
        return Unavailable("no confined process runs on this machine; maas-gateway doctor says why")
    if failure.kind is FailureKind.OUT_OF_MEMORY:
        return Unavailable("it needs more memory than its process may use (processes.memory_bytes)")
    if failure.kind is FailureKind.TIMED_OUT:
        return Unavailable("it took its process longer to load it than it may (processes.load_s)")
    return Unavailable("its process ended while it loaded it")
