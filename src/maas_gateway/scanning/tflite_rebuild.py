"""A TensorFlow Lite file with nothing in it but the model: the form in which an upload is sealed and served.

Rules: every byte of the model stays where it is, since a FlatBuffer is read by offsets. Metadata is cut off: its two
vectors become empty, and what they pointed to belongs to nothing. What belongs to nothing, and the content of buffers
that no tensor names, becomes zero; what lies behind the last byte of the model (an archive of label files) is left out.

The source must have passed `TFLiteScanner`; scan the result again: a file whose vectors overlap would come out broken,
and is refused there.
"""

from collections.abc import Iterator
from typing import Final

from maas_gateway.errors import ArtifactRefused
from maas_gateway.scanning.flatbuffer import FlatBuffer, Span, Table
from maas_gateway.scanning.scanner import Refusal, Source
from maas_gateway.scanning.tflite_schema import OPTIONS, TABLES

_STEP_BYTES: Final = 1024 * 1024
_CUT_OFF: Final = frozenset({"metadata", "metadata_buffer"})


def rebuild(source: Source) -> Iterator[bytes]:
    """Yield the file anew, in pieces of at most 1 MiB.

    Args:
        source: what `TFLiteScanner` accepted.

    Raises:
        ArtifactRefused: it was not accepted, or changed since.
    """
    try:
        cut = _cut_vectors(source)
        file = FlatBuffer(_Cut(source, cut), TABLES, OPTIONS)
        model = file.root("Model")
    except Refusal as refusal:
        raise ArtifactRefused(f"The model was refused: {refusal.finding.where}: {refusal.finding.message}") from refusal
    cleared = [*cut, *file.unclaimed(), *_idle_buffers(model)]
    yield from _pieces(source, sorted(cleared, key=lambda span: span.offset))


def _cut_vectors(source: Source) -> list[Span]:
    """Return where the lengths of the vectors stand that are cut off."""
    file = FlatBuffer(source, TABLES, OPTIONS)
    file.root("Model")
    return [span for name, span in file.lengths.items() if name in _CUT_OFF]


def _idle_buffers(model: Table) -> list[Span]:
    named = {tensor.integer("buffer") for graph in model.tables("subgraphs") for tensor in graph.tables("tensors")}
    contents = [buffer.span("data") for index, buffer in enumerate(model.tables("buffers")) if index not in named]
    return [span for span in contents if span is not None]


def _pieces(source: Source, cleared: list[Span]) -> Iterator[bytes]:
    """Yield the source with some spans, in order, cleared; nothing of one that reaches its end."""
    position = 0
    for span in [*cleared, Span(source.size_bytes, 0)]:
        for start in range(position, span.offset, _STEP_BYTES):
            yield source.read_at(start, min(_STEP_BYTES, span.offset - start))
        end = span.offset + span.n_bytes
        if end >= source.size_bytes:
            return
        for start in range(max(position, span.offset), end, _STEP_BYTES):
            yield bytes(min(_STEP_BYTES, end - start))
        position = max(position, end)


class _Cut:
    """A source some of whose vectors are empty."""

    def __init__(self, source: Source, lengths: list[Span]) -> None:
        self._source = source
        self._lengths = lengths
        self.size_bytes = source.size_bytes

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        raw = self._source.read_at(offset, n_bytes)
        for span in self._lengths:
            if span.offset < offset + len(raw) and span.offset + span.n_bytes > offset:
                start, end = max(span.offset - offset, 0), min(span.offset + span.n_bytes - offset, len(raw))
                raw = raw[:start] + bytes(end - start) + raw[end:]
        return raw
