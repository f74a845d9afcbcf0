"""An ONNX model written anew from what was read of it: the form in which it is sealed and served.

Rules:
    * Only fields of `onnx_schema`, in the order of their numbers, each number in its shortest form; long rows of
      numbers stay packed or not, as they came.
    * Left out: texts for people (doc strings, metadata, the producer, names of nodes and of the graph), what an engine
      infers by itself (types of inner values), quantisation notes, and opsets of domains that nothing uses.
    * An initializer is a constant: where the file also lists it among the inputs (IR version 3), it no longer does,
      and the IR version becomes 4.
    * Nothing is held but the structure: the content of tensors goes through in steps of 1 MiB, each byte once.

The source must have passed `ONNXScanner`; the result passes it again, and is the same when it is rebuilt once more.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from maas_gateway.errors import ArtifactRefused
from maas_gateway.scanning.onnx_nodes import domain_of
from maas_gateway.scanning.onnx_operators import OPSETS
from maas_gateway.scanning.onnx_schema import SCHEMA
from maas_gateway.scanning.protobuf import Message, Run, Span, Wire, to_varint
from maas_gateway.scanning.scanner import Refusal, Source

_STEP_BYTES: Final = 1024 * 1024
_INLINE_BYTES: Final = 256
_CONSTANT_INITIALIZERS: Final = 4  # the IR version from which on initializers need not be inputs
_LENGTH: Final = 2
_WIRE_TYPES: Final = {"int": 0, "fixed64": 1, "fixed32": 5}
_LEFT_OUT: Final = {
    "ModelProto": frozenset({"producer_name", "producer_version", "domain", "model_version"}),
    "GraphProto": frozenset({"name", "value_info", "quantization_annotation"}),
    "NodeProto": frozenset({"name"}),
    "TypeProto": frozenset({"denotation"}),
    "TensorShapeProto.Dimension": frozenset({"denotation"}),
}
_ALWAYS_LEFT_OUT: Final = frozenset({"doc_string", "metadata_props"})
_GRAPH_NAME: Final = b"graph"

Piece = bytes | Span


@dataclass(slots=True)
class _Rope:
    """Bytes in pieces, some of them still in the source."""

    pieces: list[Piece]
    n_bytes: int = 0

    def add(self, piece: Piece) -> None:
        """Append a piece; short ones that follow each other become one."""
        self.n_bytes += len(piece) if isinstance(piece, bytes) else piece.n_bytes
        last = self.pieces[-1] if self.pieces else None
        if isinstance(piece, bytes) and isinstance(last, bytes) and len(last) < _INLINE_BYTES:
            self.pieces[-1] = last + piece
        else:
            self.pieces.append(piece)

    def extend(self, other: "_Rope") -> None:
        """Append another rope."""
        for piece in other.pieces:
            self.add(piece)


def rebuild(source: Source) -> Iterator[bytes]:
    """Yield the model anew, in pieces of at most some 1 MiB.

    Args:
        source: what `ONNXScanner` accepted.

    Raises:
        ArtifactRefused: it was not accepted, or changed since.
    """
    try:
        wire = Wire(source, SCHEMA)
        rope = _Writer(wire).model()
    except Refusal as refusal:
        raise ArtifactRefused(f"The model was refused: {refusal.finding.where}: {refusal.finding.message}") from refusal
    for piece in rope.pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        for start in range(piece.offset, piece.offset + piece.n_bytes, _STEP_BYTES):
            yield source.read_at(start, min(_STEP_BYTES, piece.offset + piece.n_bytes - start))


class _Writer:
    """Writes the messages of one model."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def model(self) -> _Rope:
        """Return the whole model."""
        return self._message("ModelProto", self._wire.root("ModelProto"))

    def _message(self, name: str, message: Message) -> _Rope:
        rope = _Rope([])
        left_out = _LEFT_OUT.get(name, frozenset()) | _ALWAYS_LEFT_OUT
        for number, (field, kind) in sorted(SCHEMA[name].items()):
            if name == "GraphProto" and field == "name":
                _put(rope, number, _GRAPH_NAME)
            if field in left_out or (field == "domain" and domain_of(message) == ""):
                continue
            if name == "ModelProto" and field == "ir_version":
                _put(rope, number, max(message.integer(field), _CONSTANT_INITIALIZERS))
            elif kind.rstrip("*") in SCHEMA:
                for inner in _kept(name, field, message):
                    _put_rope(rope, number, self._message(kind.rstrip("*"), inner))
            else:
                self._values(rope, number, kind, message.values(field))
        return rope

    def _values(self, rope: _Rope, number: int, kind: str, values: tuple[int | str | Span, ...]) -> None:
        for value in values:
            if isinstance(value, Run):
                rope.add(value)
            elif isinstance(value, Span):
                inner = _Rope([])
                inner.add(self._wire.bytes_at(value) if value.n_bytes <= _INLINE_BYTES else value)
                _put_rope(rope, number, inner)
            elif isinstance(value, str):
                if value or kind.endswith("*"):
                    _put(rope, number, value.encode())
            elif kind.startswith("fixed"):
                form = "<I" if kind.startswith("fixed32") else "<Q"
                rope.add(to_varint(number << 3 | _WIRE_TYPES[kind.rstrip("*")]) + struct.pack(form, value))
            else:
                _put(rope, number, value)


def _kept(name: str, field: str, message: Message) -> Iterator[Message]:
    """Yield the messages of a field that stay."""
    initializers: frozenset[str] = frozenset()
    if name == "GraphProto" and field == "input":
        initializers = frozenset(tensor.text("name") for tensor in message.messages("initializer"))
    domains = dict.fromkeys(OPSETS, True)
    for inner in message.messages(field):
        if field == "opset_import":
            if domains.pop(domain_of(inner), False):  # exporters import one domain twice
                yield inner
        elif inner.text("name") not in initializers:
            yield inner


def _put(rope: _Rope, number: int, value: int | bytes) -> None:
    if isinstance(value, bytes):
        rope.add(to_varint(number << 3 | _LENGTH) + to_varint(len(value)) + value)
    else:
        rope.add(to_varint(number << 3) + to_varint(value))


def _put_rope(rope: _Rope, number: int, inner: _Rope) -> None:
    rope.add(to_varint(number << 3 | _LENGTH) + to_varint(inner.n_bytes))
    rope.extend(inner)
