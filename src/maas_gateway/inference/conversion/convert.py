"""The gateway's side of a conversion: send the upload to a confined child, believe nothing it says.

Rules: whatever goes wrong with the child once it runs is the upload's fault and refuses it; a child that does not come
to run is ours. The child has parsed hostile bytes: its answer is read strictly (`answer`), and a refusal's sentence is
cut and cleaned here again. The upload goes to the child, and the plans come from it, in pieces: this side never holds
either of them whole.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from types import MappingProxyType
from typing import Final

from maas_gateway.confinement.child import run_child
from maas_gateway.confinement.conversation import ChildAnswer, ChildEvent, Sink
from maas_gateway.confinement.failure import ChildFailed
from maas_gateway.confinement.limits import Limits
from maas_gateway.errors import ArtifactRefused, Unavailable
from maas_gateway.inference.conversion.answer import AnswerRejected, Conversion, read_answer
from maas_gateway.inference.conversion.refusal import sentence

DEFAULT_DEADLINE_S: Final = 120.0

MAX_MEMORY_BYTES: Final = 10 << 30
"""What a conversion may need unless the deployment says otherwise."""

CHILDREN: Final[Mapping[str, str]] = MappingProxyType(
    {
        form: f"maas_gateway.inference.conversion.{name}_child"
        for form, name in {"keras": "keras", "savedmodel": "saved_model", "onnx": "onnx", "tflite": "tflite"}.items()
    }
)
"""By format: the module that a confined child converts it with."""

# A plan holds the weights once, and the graph; an upload may be packed, and there are at most two plans.
_MAX_PLANS_FACTOR: Final = 4
_MAX_PLANS_EXTRA_BYTES: Final = 64 << 20
# Measured on dense layers: peak residence is 0.7 GiB and 16 times the archive, 0.2 s of processor time a MiB.
_MEMORY_FACTOR: Final = 20
_MEMORY_FLOOR_BYTES: Final = 1 << 30
_CPU_S: Final = 120
_CPU_S_PER_MIB: Final = 0.5
# TensorFlow and a converter map this much that they never write; the limit counts what is mapped.
_MAPPED_BYTES: Final = 3 << 30


def limits_for(size_bytes: int, *, max_memory_bytes: int = MAX_MEMORY_BYTES) -> Limits:
    """Return the limits under which an upload of that size is converted.

    Args:
        size_bytes: of the upload.
        max_memory_bytes: what a conversion may need. The host must have that much for each that runs.

    Returns:
        1 GiB and 20 times the upload, besides what TensorFlow maps without writing to it; processor time in proportion.

    Raises:
        ArtifactRefused: it needs more than it may.
    """
    needed = _MEMORY_FLOOR_BYTES + _MEMORY_FACTOR * size_bytes
    if needed > max_memory_bytes:
        raise ArtifactRefused(
            f"conversion: a model of {size_bytes} bytes needs {needed} bytes of memory to be converted (1 GiB and 20 "
            f"times its size), more than the {max_memory_bytes} that this gateway gives to a conversion"
        )
    return Limits(memory_bytes=_MAPPED_BYTES + needed, cpu_s=max(_CPU_S, int(_CPU_S_PER_MIB * size_bytes) >> 20))


async def convert(
    form: str,
    upload: AsyncIterator[bytes],
    *,
    size_bytes: int,
    sink: Sink,
    limits: Limits | None = None,
    deadline_s: float = DEFAULT_DEADLINE_S,
    on_progress: Callable[[ChildEvent], None] | None = None,
    sample: bytes = b"",
) -> Conversion:
    """Make the plans of an upload, and compare each with it, in a confined child.

    Args:
        form: what the upload is, a key of `CHILDREN`.
        upload: its plaintext, in pieces of any size; it passes through memory and a pipe only.
        size_bytes: how many bytes it has.
        sink: takes the plans' contents, one after another, in pieces of at most 1 MiB.
        limits: of the child; None for those that its size asks for. Each conversion may take that much memory: the
            caller bounds how many run.
        deadline_s: seconds from now.
        on_progress: called with `{"step": …}`, unchecked.
        sample: the publisher's own inputs, compared on besides random ones, see `sample`; empty for none.

    Returns:
        the conversion. Its plans are still to be scanned.

    Raises:
        ArtifactRefused: it cannot be served faithfully, with the reason.
        Unavailable: the child could not be started.
    """
    began = time.monotonic()
    counted = _Counted(sink)
    try:
        answer = await run_child(
            CHILDREN[form],
            request=_behind(sample, upload),
            limits=limits or limits_for(size_bytes),
            deadline_s=deadline_s,
            arguments={"sample_bytes": len(sample), "size_bytes": size_bytes},
            on_progress=on_progress,
            max_answer_bytes=_MAX_PLANS_FACTOR * size_bytes + _MAX_PLANS_EXTRA_BYTES,
            sink=counted.take,
        )
    except ChildFailed as failure:
        if not failure.has_started:
            raise Unavailable("the process that converts models cannot be started") from failure
        raise ArtifactRefused(f"conversion: {failure.detail}") from failure
    return _read(form, answer, n_bytes=counted.n_bytes, took_ms=(time.monotonic() - began) * 1e3)


class Conversions:
    """Converts within what a deployment gives to one conversion.

    Args:
        max_memory_bytes: what a conversion may need.
        deadline_s: seconds after which one is given up.
    """

    def __init__(self, *, max_memory_bytes: int, deadline_s: float) -> None:
        self._max_memory_bytes = max_memory_bytes
        self._deadline_s = deadline_s

    async def __call__(
        self, form: str, upload: AsyncIterator[bytes], *, size_bytes: int, sink: Sink, sample: bytes = b""
    ) -> Conversion:
        """Convert; see `convert`."""
        limits = limits_for(size_bytes, max_memory_bytes=self._max_memory_bytes)
        return await convert(
            form,
            upload,
            size_bytes=size_bytes,
            sink=sink,
            limits=limits,
            deadline_s=self._deadline_s,
            sample=sample,
        )


async def _behind(sample: bytes, upload: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if sample:
        yield sample
    async for piece in upload:
        yield piece


class _Counted:
    """A sink that counts."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.n_bytes = 0

    async def take(self, piece: bytes) -> None:
        self.n_bytes += len(piece)
        await self._sink(piece)


def _read(form: str, answer: ChildAnswer, *, n_bytes: int, took_ms: float) -> Conversion:
    refused = answer.header.get("refused")
    if isinstance(refused, str):
        raise ArtifactRefused(f"conversion: {sentence(refused)}")
    try:
        return read_answer(form, answer.header, n_bytes=n_bytes, took_ms=took_ms)
    except AnswerRejected as rejected:
        raise ArtifactRefused(f"conversion: {rejected}") from rejected
