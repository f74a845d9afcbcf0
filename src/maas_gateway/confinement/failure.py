"""How a child may fail to answer, and how its end is read.

Rules: SIGXCPU and the parent's deadline are `timed-out`; MemoryError, a failed allocation of C++
and a SIGKILL that the parent did not send (the kernel's out-of-memory killer) are `out-of-memory`;
frames that break the protocol, and a child that ends without an answer and without a fault, are
`protocol`; every other end is `crashed`.
"""

import signal
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

_OUT_OF_MEMORY_MARKS: Final = ("bad_alloc", "MemoryError", "Cannot allocate memory", "failed to map segment")


class FailureKind(StrEnum):
    """How a child came to give no answer."""

    CRASHED = "crashed"
    TIMED_OUT = "timed-out"
    OUT_OF_MEMORY = "out-of-memory"
    PROTOCOL = "protocol"


class ChildFailed(Exception):
    """A child gave no answer.

    Attributes:
        kind: how it failed. A child that was taken over can choose it.
        detail: one sentence of ours about it, with nothing in it that the child sent.
        stderr_tail: the last few kB it printed: for the log of an operator, never for a client.
        has_started: whether it got as far as applying its limits: if not, the fault is this machine's.
    """

    def __init__(self, kind: FailureKind, detail: str, *, stderr_tail: str = "") -> None:
        super().__init__(detail)
        self.has_started = True
        self.kind = kind
        self.detail = detail
        self.stderr_tail = stderr_tail


def timed_out(deadline_s: float, stderr_tail: str) -> ChildFailed:
    """Return the failure of a child that outlived its deadline."""
    detail = f"the child did not answer within {deadline_s:g} s"
    return ChildFailed(FailureKind.TIMED_OUT, detail, stderr_tail=stderr_tail)


def out_of_memory(stderr_tail: str) -> ChildFailed:
    """Return the failure of a child that asked for more memory than it may use."""
    detail = "the work needs more memory than the child may use"
    return ChildFailed(FailureKind.OUT_OF_MEMORY, detail, stderr_tail=stderr_tail)


def reported(fields: Mapping[str, object], stderr_tail: str) -> ChildFailed:
    """Return the failure that a child reported itself; only the memory's end has a name."""
    if fields.get("kind") == FailureKind.OUT_OF_MEMORY.value:
        return out_of_memory(stderr_tail)
    return ChildFailed(FailureKind.CRASHED, "the child reported a failure", stderr_tail=stderr_tail)


def explain(returncode: int | None, stderr_tail: str) -> ChildFailed:
    """Return the failure of a child that ended, or closed its pipe, without an answer.

    Args:
        returncode: as `subprocess` gives it, negative for a signal; None if it still ran.
        stderr_tail: the last of what it printed.
    """
    if returncode == -signal.SIGXCPU:
        detail = "the child used up its processor time"
        return ChildFailed(FailureKind.TIMED_OUT, detail, stderr_tail=stderr_tail)
    if returncode == -signal.SIGKILL or (returncode != 0 and any(mark in stderr_tail for mark in _OUT_OF_MEMORY_MARKS)):
        return out_of_memory(stderr_tail)
    if returncode in {0, None}:
        detail = "the child ended its answer early"
        return ChildFailed(FailureKind.PROTOCOL, detail, stderr_tail=stderr_tail)
    ended = f"by signal {-returncode}" if returncode and returncode < 0 else f"with status {returncode}"
    return ChildFailed(FailureKind.CRASHED, f"the child ended {ended} before it answered", stderr_tail=stderr_tail)
