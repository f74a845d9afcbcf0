"""Messages are read by hand as the Protocol Buffers library reads them, or refused."""

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from maas_gateway.errors import MalformedBody
from maas_gateway.protocols.open_inference.grpc import wire
from maas_gateway.protocols.open_inference.grpc.codec import take_apart
from maas_gateway.protocols.open_inference.grpc.messages import message_class

NUMBERS = message_class("inference.InferTensorContents")


def _fields(message: bytes) -> list[tuple[int, int, object]]:
    return [
        (number, kind, value if isinstance(value, int) else bytes(value))
        for number, kind, value in wire.fields(memoryview(message), "it")
    ]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        pytest.param(b"", [], id="an empty message"),
        pytest.param(b"\x08\x96\x01", [(1, 0, 150)], id="a varint of two bytes"),
        pytest.param(b"\x12\x02hi\x12\x00", [(2, 2, b"hi"), (2, 2, b"")], id="a field twice, once empty"),
        pytest.param(b"\x0d\x01\x02\x03\x04", [(1, 5, b"\x01\x02\x03\x04")], id="four bytes"),
        pytest.param(b"\x09" + bytes(8), [(1, 1, bytes(8))], id="eight bytes"),
        pytest.param(b"\xa2\x06\x01x", [(100, 2, b"x")], id="a field number of two bytes"),
        pytest.param(b"\x08" + b"\xff" * 9 + b"\x01", [(1, 0, 2**64 - 1)], id="the largest varint"),
    ],
)
def test_fields_are_what_the_encoding_says(message: bytes, expected: list[tuple[int, int, object]]) -> None:
    assert _fields(message) == expected


@pytest.mark.parametrize(
    ("message", "says"),
    [
        pytest.param(b"\x08", "cut short", id="a tag without a value"),
        pytest.param(b"\x08\x80", "cut short", id="a varint that goes on"),
        pytest.param(b"\x12\x05hi", "cut short", id="a length beyond the message"),
        pytest.param(b"\x12" + b"\xff" * 9 + b"\x01", "cut short", id="a length of 2**64 - 1"),
        pytest.param(b"\x0d\x01\x02", "cut short", id="four bytes of which there are two"),
        pytest.param(b"\x08" + b"\x80" * 10 + b"\x01", "more than 64 bits", id="a varint of eleven bytes"),
        pytest.param(b"\x0b", "wire type 3", id="a group"),
        pytest.param(b"\x0f", "wire type 7", id="a wire type that there is not"),
        pytest.param(b"\x12\x00" * 4_097, "more than 4096 fields", id="many empty fields"),
    ],
)
def test_messages_that_break_the_encoding_are_refused(message: bytes, says: str) -> None:
    with pytest.raises(MalformedBody, match=says):
        _fields(message)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        pytest.param(7, "is a number", id="a number"),
        pytest.param(memoryview(b"\xff"), "not UTF-8", id="bytes that are no UTF-8"),
        pytest.param(memoryview(b"x" * 65_537), "more than 65536 bytes", id="a very long one"),
    ],
)
def test_what_is_no_text_is_refused(value: wire.Value, says: str) -> None:
    with pytest.raises(MalformedBody, match=says):
        wire.text(value, "'id'")


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_packed_varints_are_the_numbers_that_were_packed(numbers: list[int]) -> None:
    content = b"".join(wire.varint(number) for number in numbers)
    found = [int(value) for piece in wire.packed(memoryview(content), "it") for value in piece]
    assert found == numbers
    assert NUMBERS.FromString(wire.field(5, content)).uint64_contents[:] == numbers


def test_packed_varints_of_several_blocks_are_whole() -> None:
    numbers = np.arange(700_000, dtype=np.uint64) * 1_000
    message = NUMBERS(uint64_contents=numbers.tolist()).SerializeToString()
    ((_, _, content),) = wire.fields(memoryview(message), "it")
    pieces = list(wire.packed(wire.octets(content, "it"), "it"))
    assert len(pieces) > 1
    np.testing.assert_array_equal(np.concatenate(pieces), numbers)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"\x01\x80", "cut short", id="the last one goes on"),
        pytest.param(b"\x80" * 2_000_000, "cut short", id="one that never ends"),
        pytest.param(b"\x80" * 10 + b"\x01", "more than 64 bits", id="one of eleven bytes"),
    ],
)
def test_packed_varints_that_are_none_are_refused(content: bytes, says: str) -> None:
    with pytest.raises(MalformedBody, match=says):
        list(wire.packed(memoryview(content), "it"))


@given(st.binary(max_size=64))
@example(b"\x09" + bytes(8)).via("a name of eight bytes as a fixed number")
@example(b"\x3d" + bytes(4)).via("raw bytes of four bytes as a fixed number")
def test_any_bytes_are_taken_apart_or_refused(message: bytes) -> None:
    try:
        found = take_apart(message)
    except MalformedBody:
        return
    try:
        expected = message_class("inference.ModelInferRequest").FromString(message)
    except DecodeError:
        return  # it looks further: into what is inside, which is read once the model is known
    assert (found.name, found.version, found.request_id) == (
        expected.model_name,
        expected.model_version,
        expected.id,
    )
    assert [bytes(raw) for raw in found.raw] == list(expected.raw_input_contents)
    assert len(found.inputs) == len(expected.inputs)
