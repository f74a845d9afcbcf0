"""Flat tensors in one file, in the public safetensors layout: a header that says where each lies, then their bytes.

Layout: u64 LE bytes of the header; the header, a JSON object: a tensor's name to `dtype`, `shape` and `data_offsets`
(begin and end, counted from the end of the header), and `__metadata__`, an object of strings; then the data.

Rules, stricter than the format's own: the header is at most 64 MiB of JSON without a duplicate key; tensors lie in the
header's order without gap or overlap, and end where the file ends; an element's type is one of `DTYPES`; a tensor's
bytes are what shape and type ask for. So a file has one reading, and nothing of it belongs to no tensor.

Source: huggingface/safetensors, README, section "Format".
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

DTYPES: Final = MappingProxyType(
    {
        "BOOL": 1,
        "U8": 1,
        "I8": 1,
        "U16": 2,
        "I16": 2,
        "F16": 2,
        "BF16": 2,
        "U32": 4,
        "I32": 4,
        "F32": 4,
        "U64": 8,
        "I64": 8,
        "F64": 8,
    }
)
"""Bytes of an element by type."""

PREFIX_BYTES: Final = 8
MAX_HEADER_BYTES: Final = 64 * 1024 * 1024
_METADATA: Final = "__metadata__"
_MAX_RANK: Final = 32
_MAX_DIMENSION: Final = 1 << 40


class SafetensorsRejected(ValueError):
    """The file is not of this form; the message says where."""


@dataclass(frozen=True, slots=True)
class Flat:
    """One tensor in the file.

    Attributes:
        dtype: a key of `DTYPES`.
        shape: dimensions, outermost first; row-major.
        offset: of its first byte, counted from the end of the header.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int = 0

    @property
    def n_bytes(self) -> int:
        """Its size in bytes."""
        return math.prod(self.shape) * DTYPES[self.dtype]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything lies.

    Attributes:
        tensors: by name, in the order in which they lie.
        metadata: texts by name.
        data_at: offset of the data in the file.
    """

    tensors: Mapping[str, Flat]
    metadata: Mapping[str, str] = field(default_factory=dict)
    data_at: int = 0

    @property
    def size_bytes(self) -> int:
        """Size of the whole file in bytes."""
        return self.data_at + sum(flat.n_bytes for flat in self.tensors.values())


def header_bytes(prefix: bytes) -> int:
    """Return the length of the header, from the file's first 8 bytes.

    Raises:
        SafetensorsRejected: there are fewer, or the header is longer than is read.
    """
    n_bytes = int.from_bytes(prefix, "little")
    if len(prefix) != PREFIX_BYTES or not 1 < n_bytes <= MAX_HEADER_BYTES:
        raise SafetensorsRejected("the file does not begin with the length of a header")
    return n_bytes


def read_layout(header: bytes, *, size_bytes: int) -> Layout:
    """Return the layout that a header describes.

    Args:
        header: without the 8 bytes before it.
        size_bytes: of the whole file.

    Raises:
        SafetensorsRejected: a rule of this module is broken.
    """
    try:
        entries = json.loads(header, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as cause:
        raise SafetensorsRejected("the header is not JSON with unique keys") from cause
    if not isinstance(entries, dict):
        raise SafetensorsRejected("the header is no JSON object")
    metadata = entries.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise SafetensorsRejected(f"{_METADATA} is no object of texts")
    tensors: dict[str, Flat] = {}
    at = 0
    for name, entry in entries.items():
        tensors[name] = _read_flat(name, entry, at)
        at += tensors[name].n_bytes
    layout = Layout(tensors, metadata, PREFIX_BYTES + len(header))
    if layout.size_bytes != size_bytes:
        raise SafetensorsRejected(f"the tensors end at byte {layout.size_bytes} and the file at {size_bytes}")
    return layout


def lay_out(tensors: Mapping[str, Flat], metadata: Mapping[str, str]) -> tuple[Layout, bytes]:
    """Return where tensors lie in a new file, and the bytes that go before their data.

    Args:
        tensors: in the order in which they are to lie; their offsets are not looked at.
        metadata: texts by name.

    Raises:
        SafetensorsRejected: the header would be larger than is read.
    """
    placed: dict[str, Flat] = {}
    entries: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    at = 0
    for name, flat in tensors.items():
        placed[name] = Flat(flat.dtype, flat.shape, at)
        end = at + flat.n_bytes
        entries[name] = {"dtype": flat.dtype, "shape": list(flat.shape), "data_offsets": [at, end]}
        at = end
    header = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > MAX_HEADER_BYTES:
        raise SafetensorsRejected("the header would be larger than 64 MiB")
    return Layout(placed, metadata, PREFIX_BYTES + len(header)), len(header).to_bytes(8, "little") + header


def _read_flat(name: str, entry: object, at: int) -> Flat:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise SafetensorsRejected(f"tensor {name[:64]!a} is not described by dtype, shape and data_offsets")
    dtype, shape = entry["dtype"], entry["shape"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise SafetensorsRejected(f"tensor {name[:64]!a} is of a type that is not accepted")
    if not isinstance(shape, list) or len(shape) > _MAX_RANK or not all(_is_dimension(n) for n in shape):
        raise SafetensorsRejected(f"tensor {name[:64]!a} has a shape that is not accepted")
    flat = Flat(dtype, tuple(shape), at)
    if entry["data_offsets"] != [at, at + flat.n_bytes]:
        raise SafetensorsRejected(f"tensor {name[:64]!a} does not lie where the one before it ends, or not as long")
    return flat


def _is_dimension(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_DIMENSION


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice")
    return value
