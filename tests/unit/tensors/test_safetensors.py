"""Flat files: what is laid out is read again, and a file has one reading only."""

import json

import pytest

from maas_gateway.tensors.safetensors import (
    PREFIX_BYTES,
    Flat,
    Layout,
    SafetensorsRejected,
    header_bytes,
    lay_out,
    read_layout,
)

TENSORS = {"dense/kernel": Flat("F32", (3, 4)), "dense/bias": Flat("BF16", (4,)), "none": Flat("I64", (0, 7))}
METADATA = {"config": '{"größe": 1}'}
DATA_BYTES = 48 + 8


def _read(header: bytes, *, data_bytes: int = DATA_BYTES) -> Layout:
    return read_layout(header, size_bytes=PREFIX_BYTES + len(header) + data_bytes)


def test_what_is_laid_out_is_read_again() -> None:
    layout, head = lay_out(TENSORS, METADATA)
    n_bytes = header_bytes(head[:PREFIX_BYTES])
    assert n_bytes == len(head) - PREFIX_BYTES
    assert len(head) % 8 == 0
    assert _read(head[PREFIX_BYTES:]) == layout
    assert layout.metadata == METADATA
    assert [flat.offset for flat in layout.tensors.values()] == [0, 48, 56]
    assert layout.size_bytes == len(head) + DATA_BYTES


def _entry(dtype: str = "F32", shape: object = (3, 4), offsets: object = (0, 48)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


REFUSED = {
    "no JSON": b"{",
    "no object": b"[1, 2]",
    "a list too deep to read": b"[" * 100_000,
    "a key twice": b'{"a":1,"a":1}',
    "metadata that are no texts": {"__metadata__": {"a": 1}},
    "a tensor that is no object": {"a": 48},
    "a tensor with another key": {"a": {**_entry(), "stride": 1}},
    "an unknown type": {"a": _entry("F8_E4M3")},
    "a type that is no text": {"a": {**_entry(), "dtype": ["F32"]}},
    "a negative dimension": {"a": _entry(shape=[-3, -4])},
    "a dimension that is true": {"a": _entry(shape=[True, 12])},
    "a fractional dimension": {"a": _entry(shape=[3.0, 4])},
    "more dimensions than are read": {"a": _entry(shape=[1] * 33, offsets=[0, 4])},
    "a gap before the first": {"a": _entry(offsets=[8, 56])},
    "two at one place": {"a": _entry(), "b": _entry()},
    "another size than its shape": {"a": _entry(offsets=[0, 56])},
    "bytes that belong to no tensor": {"a": _entry()},
    "more bytes than the file has": {"a": _entry(shape=[2**20, 2**20], offsets=[0, 2**42])},
}


@pytest.mark.parametrize("header", REFUSED.values(), ids=REFUSED)
def test_file_with_another_reading_is_refused(header: object) -> None:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    with pytest.raises(SafetensorsRejected):
        _read(raw)


@pytest.mark.parametrize("prefix", [b"", bytes(8), b"\x01" + bytes(7), b"\xff" * 8, bytes(7)])
def test_length_of_no_header_is_refused(prefix: bytes) -> None:
    with pytest.raises(SafetensorsRejected):
        header_bytes(prefix)
