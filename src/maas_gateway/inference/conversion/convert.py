"""The gateway's side of a conversion: send the archive to a confined child, believe nothing it says.

Rules: whatever goes wrong with the child once it runs is the archive's fault and refuses it; a
child that does not come to run is ours. The child has parsed hostile bytes: its answer is read
strictly (`answer`), and a refusal's sentence is cut and cleaned here again.
"""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

from maas_gateway.confinement.child import run_child
from maas_gateway.confinement.conversation import ChildAnswer, ChildEvent
from maas_gateway.confinement.failure import ChildFailed
from maas_gateway.confinement.limits import Limits
from maas_gateway.errors import ArtifactRefused, Unavailable
from maas_gateway.inference.conversion.answer import AnswerRejected, Conversion, read_answer
from maas_gateway.inference.conversion.refusal import sentence

DEFAULT_LIMITS: Final = Limits()
"""4 GiB of address space, enough for an archive of 98 MiB (measured), and 120 s of processor time."""

DEFAULT_DEADLINE_S: Final = 120.0

_CHILD: Final = "maas_gateway.inference.conversion.keras_child"
# A plan holds the weights once, and the graph.
_MAX_PLAN_FACTOR: Final = 2
_MAX_PLAN_EXTRA_BYTES: Final = 16 << 20
# Measured on dense layers: peak residence is 0.7 GiB and 16 times the archive; 190 MiB convert within
# 5 GiB of address space, 395 MiB within 10 and not within 8; 0.2 s of processor time a MiB.
_MEMORY_FACTOR: Final = 18
_MEMORY_FLOOR_BYTES: Final = 3 << 30
_CPU_S_PER_MIB: Final = 0.5


def limits_for(size_bytes: int) -> Limits:
    """Return limits under which an archive of dense layers of that size converts, with room to spare.

    Args:
        size_bytes: of the archive.

    Returns:
        at least `DEFAULT_LIMITS`. The host must have that much memory for each conversion that runs.
    """
    return replace(
        DEFAULT_LIMITS,
        memory_bytes=max(DEFAULT_LIMITS.memory_bytes, _MEMORY_FLOOR_BYTES + _MEMORY_FACTOR * size_bytes),
        cpu_s=max(DEFAULT_LIMITS.cpu_s, int(_CPU_S_PER_MIB * size_bytes) >> 20),
    )


async def convert_keras(
    archive: AsyncIterator[bytes],
    *,
    size_bytes: int,
    limits: Limits = DEFAULT_LIMITS,
    deadline_s: float = DEFAULT_DEADLINE_S,
    on_progress: Callable[[ChildEvent], None] | None = None,
) -> Conversion:
    """Convert a `.keras` archive to LiteRT and compare the two, in a confined child.

    Args:
        archive: its plaintext, in pieces of any size; it passes through memory and a pipe only.
        size_bytes: how many bytes it has.
        limits: of the child. Each conversion may take that much memory: the caller bounds how many run.
        deadline_s: seconds from now.
        on_progress: called with `{"step": "checked" | "loaded" | "converted"}`, unchecked.

    Returns:
        the conversion. Its plan is still to be verified and scanned.

    Raises:
        ArtifactRefused: it cannot be converted faithfully, with the reason.
        Unavailable: the child could not be started.
    """
    began = time.monotonic()
    try:
        answer = await run_child(
            _CHILD,
            request=archive,
            limits=limits,
            deadline_s=deadline_s,
            arguments={"size_bytes": size_bytes},
            on_progress=on_progress,
            max_answer_bytes=_MAX_PLAN_FACTOR * size_bytes + _MAX_PLAN_EXTRA_BYTES,
        )
    except ChildFailed as failure:
        if not failure.has_started:
            raise Unavailable("the process that converts models cannot be started") from failure
        raise ArtifactRefused(f"conversion: {failure.detail}") from failure
    return _read(answer, took_ms=(time.monotonic() - began) * 1e3)


def _read(answer: ChildAnswer, *, took_ms: float) -> Conversion:
    refused = answer.header.get("refused")
    if isinstance(refused, str):
        raise ArtifactRefused(f"conversion: {sentence(refused)}")
    try:
        return read_answer(answer.header, answer.payload, took_ms=took_ms)
    except AnswerRejected as rejected:
        raise ArtifactRefused(f"conversion: {rejected}") from rejected
