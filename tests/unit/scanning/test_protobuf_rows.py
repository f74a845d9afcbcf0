"""The wire format, read strictly: what protobuf itself wrote, and what a hostile writer may."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto

from builders.onnx_models import Bytes
from maas_gateway.scanning.protobuf import Message, Run, Schema, Wire, to_varint
from maas_gateway.scanning.scanner import Refusal

_SCHEMA: Schema = {
    "AttributeProto": {
        1: ("name", "text"),
        2: ("f", "fixed32"),
        3: ("i", "int"),
        4: ("s", "bytes"),
        6: ("inner", "AttributeProto"),
        7: ("floats", "fixed32*"),
        8: ("ints", "int*"),
        9: ("strings", "bytes*"),
        20: ("type", "int"),
    }
}


def _read(raw: bytes, **limits: int) -> Message:
    return Wire(Bytes(raw), _SCHEMA, **limits).root("AttributeProto")


def _written(**fields: Any) -> Message:
    return _read(AttributeProto(**fields).SerializeToString())


def test_fields_are_read_as_protobuf_writes_them() -> None:
    message = _written(name="ä", i=-5, s=b"xyz", ints=[1, -2, 1 << 40])
    assert (message.text("name"), message.integer("i")) == ("ä", -5)
    assert message.integers("ints") == (1, -2, 1 << 40)
    assert message.raw("s", max_bytes=3) == b"xyz"
    assert not message.has("floats")
    with pytest.raises(Refusal, match="3 bytes"):
        message.raw("s", max_bytes=2)


@pytest.mark.parametrize("n_values", [0, 1, 15, 16, 17, 1000, 30_000])
def test_long_rows_are_counted_and_left_where_they_are(n_values: int) -> None:
    fields: dict[str, Any] = {
        "ints": [index * 7919 - 1000 for index in range(n_values)],
        "floats": [float(index) for index in range(n_values)],
        "strings": [b"x" * (index % 40) for index in range(n_values)],
    }
    for name, values in fields.items():
        message = _written(**{name: values})
        assert message.n_values(name) == n_values
        runs = [value for value in message.values(name) if isinstance(value, Run)]
        assert bool(runs) == (n_values > 16)
        assert len(message.values(name)) < max(20, n_values)


def test_short_rows_are_read_and_long_ones_are_no_indices() -> None:
    assert _written(ints=list(range(16))).integers("ints") == tuple(range(16))
    assert _written(ints=list(range(100))).integers("ints") is None


@pytest.mark.parametrize("n_values", [3, 50_000])
def test_packed_rows_are_counted(n_values: int) -> None:
    ints = b"".join(to_varint(index - 2) for index in range(n_values))
    floats = struct.pack(f"<{n_values}f", *range(n_values))
    raw = b"\x42" + to_varint(len(ints)) + ints + b"\x3a" + to_varint(len(floats)) + floats
    message = _read(raw)
    assert (message.n_values("ints"), message.n_values("floats")) == (n_values, n_values)


def test_packed_row_that_is_none_is_refused() -> None:
    broken = bytes([0x81]) * 70_000
    message = _read(b"\x42" + to_varint(len(broken)) + broken)
    with pytest.raises(Refusal, match="no number of 64 bits"):
        message.n_values("ints")
    with pytest.raises(Refusal, match="inside a number"):
        _read(b"\x3a\x05" + bytes(5)).n_values("floats")


@pytest.mark.parametrize(
    ("raw", "rule"),
    [
        (b"\xd2\x05\x00", "unknown-field"),
        (b"\x00\x00", "unknown-field"),
        (b"\x18\x01\x18\x02", "repeated-field"),
        (b"\x1a\x01x", "wire-type"),
        (b"\x1b", "wire-type"),
        (b"\x18\x80\x00", "varint"),
        (b"\x98\x00\x01", "varint"),
        (b"\x18" + b"\xff" * 9 + b"\x02", "varint"),
        (b"\x18\x80", "cut"),
        (b"\x15\x00\x00", "cut"),
        (b"\x0a\x05abc", "cut"),
        (b"\x0a\x01\xff", "text-encoding"),
        (b"\x0a\x80\x80\x08" + b"a" * 131_072, "text-too-long"),
    ],
    ids=[
        "a field of tomorrow",
        "a field 0",
        "a field twice",
        "another wire type",
        "a group",
        "a number longer than it needs",
        "a tag longer than it needs",
        "a number of 65 bits",
        "a number cut",
        "four bytes cut",
        "a text cut",
        "a text that is not UTF-8",
        "a text of 128 KiB",
    ],
)
def test_read_refuses(raw: bytes, rule: str) -> None:
    with pytest.raises(Refusal) as caught:
        _read(raw)
    assert caught.value.finding.rule == rule
    assert caught.value.finding.where.startswith("AttributeProto")


def test_number_longer_than_it_needs_is_refused_inside_a_long_row_too() -> None:
    row = b"".join(b"\x40" + to_varint(index) for index in range(1000))
    assert _read(row + b"\x40\x05").n_values("ints") == 1001
    with pytest.raises(Refusal, match="more bytes than it needs"):
        _read(row + b"\x40\x85\x00" + row)


def test_limits_on_records_and_depth_hold() -> None:
    with pytest.raises(Refusal, match="more fields"):
        _read(b"\x3d\0\0\0\0" * 10, max_records=9)
    nested = b""
    for _ in range(9):
        nested = b"\x32" + to_varint(len(nested)) + nested
    deepest = _read(nested, max_depth=8)
    for _ in range(8):
        inner = deepest.message("inner")
        assert inner is not None
        deepest = inner
    with pytest.raises(Refusal, match="nested more than 8"):
        deepest.message("inner")


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_numbers_come_back_as_they_were_written(number: int) -> None:
    assert _read(b"\x18" + to_varint(number)).integer("i") == number
    assert AttributeProto.FromString(b"\x18" + to_varint(number)).i == number
