"""The strict reader of Protocol Buffers: one reading only, bounded, lazily."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_gateway.scanning.protobuf import Message, Span, Wire
from maas_gateway.scanning.scanner import Refusal

SCHEMA = {
    "Node": {
        1: ("count", "int"),
        2: ("name", "text"),
        3: ("content", "bytes"),
        4: ("child", "Node"),
        5: ("children", "Node*"),
        6: ("sizes", "int*"),
        7: ("scale", "fixed32"),
        8: ("scales", "fixed32*"),
        9: ("offset", "fixed64"),
        10: ("names", "text*"),
    }
}


class Memory:
    """A source that counts what is read of it."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.n_read = 0

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        piece = self.content[offset : offset + n_bytes]
        self.n_read += len(piece)
        return piece


def varint(value: int) -> bytes:
    value %= 1 << 64
    row = bytearray()
    while value >= 128:
        row.append(value % 128 + 128)
        value //= 128
    return bytes([*row, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def content(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def read(raw: bytes, **bounds: int) -> Message:
    return Wire(Memory(raw), SCHEMA, **bounds).root("Node")


def walk(message: Message) -> int:
    """Visit everything below a message; return how many messages there are."""
    below = [*message.messages("children"), *message.messages("child")]
    return 1 + sum(walk(each) for each in below)


def test_every_kind_of_field_is_read() -> None:
    raw = (
        number(1, -5)
        + content(2, "größe".encode())
        + content(3, b"\x00\x01")
        + content(4, number(1, 7))
        + content(5, number(1, 1))
        + content(5, number(1, 2))
        + number(6, 3)
        + content(6, varint(4) + varint(-1))
        + varint(7 << 3 | 5)
        + b"\x00\x00\x80\x3f"
        + content(8, bytes(8))
        + varint(9 << 3 | 1)
        + b"\xff" * 8
        + content(10, b"a")
        + content(10, b"b")
    )
    message = read(raw)
    assert (message.integer("count"), message.text("name")) == (-5, "größe")
    assert message.raw("content", max_bytes=2) == b"\x00\x01"
    assert message.message("child") is not None
    assert [child.integer("count") for child in message.messages("children")] == [1, 2]
    assert [child.at for child in message.messages("children")] == ["Node.children[0]", "Node.children[1]"]
    assert message.integers("sizes") == (3, 4, -1)
    assert message.integer("scale") == 0x3F800000
    assert message.integers("scales") is None
    assert message.integer("offset") == 2**64 - 1
    assert message.texts("names") == ("a", "b")
    assert (message.has("name", "other"), message.has("other"), message.count("children")) == (True, False, 2)
    assert (message.integer("other", 9), message.text("other"), message.message("other")) == (9, "", None)


REFUSED = {
    "an unknown field": (number(11, 1), "unknown-field"),
    "a field number 0": (number(0, 1), "unknown-field"),
    "a number where a text belongs": (number(2, 1), "wire-type"),
    "a text where a number belongs": (content(1, b"\x01"), "wire-type"),
    "8 bytes where 4 belong": (varint(7 << 3 | 1) + bytes(8), "wire-type"),
    "packed numbers in a field of one": (content(7, bytes(4)), "wire-type"),
    "the start of a group": (varint(3 << 3 | 3), "wire-type"),
    "the end of a group": (varint(3 << 3 | 4), "wire-type"),
    "a wire type that does not exist": (varint(3 << 3 | 7), "wire-type"),
    "a number twice": (number(1, 1) + number(1, 1), "repeated-field"),
    "a message twice, which parsers merge": (content(4, b"") + content(4, b""), "repeated-field"),
    "a number cut off": (b"\x08\xff", "cut"),
    "a field without a value": (b"\x08", "cut"),
    "4 bytes cut off": (varint(7 << 3 | 5) + bytes(3), "cut"),
    "a text longer than the message": (varint(2 << 3 | 2) + varint(5) + b"four", "cut"),
    "a text of 2^63 bytes": (varint(2 << 3 | 2) + varint(1 << 63), "cut"),
    "a number of 65 bits": (b"\x08" + b"\xff" * 9 + b"\x02", "varint"),
    "a number without end": (b"\x08" + b"\x80" * 12, "varint"),
    "a packed number cut off": (content(6, b"\xff"), "cut"),
    "a text that is not UTF-8": (content(2, b"\xff"), "text-encoding"),
    "a text beyond 64 KiB": (content(2, b"a" * 65_537), "text-too-long"),
}


@pytest.mark.parametrize(("raw", "rule"), REFUSED.values(), ids=REFUSED)
def test_message_is_refused_when_it_holds(raw: bytes, rule: str) -> None:
    with pytest.raises(Refusal) as caught:
        read(raw)
    assert caught.value.finding.rule == rule
    assert caught.value.finding.where.startswith("Node")


def test_depth_is_bounded_where_messages_nest() -> None:
    raw = b""
    for _ in range(9):
        raw = content(4, raw)
    assert walk(read(raw, max_depth=9)) == 10
    with pytest.raises(Refusal) as caught:
        walk(read(raw, max_depth=8))
    assert caught.value.finding.rule == "nested-too-deeply"


def test_records_are_bounded_over_all_messages() -> None:
    raw = content(5, number(1, 1) + number(6, 1)) * 10
    assert walk(read(raw, max_records=30)) == 11
    with pytest.raises(Refusal) as caught:
        walk(read(raw, max_records=29))
    assert caught.value.finding.rule == "too-many-fields"


def test_content_is_jumped_over_and_bytes_are_bounded_when_they_are_asked_for() -> None:
    source = Memory(content(3, bytes(50_000_000)) + number(1, 7))
    message = Wire(source, SCHEMA).root("Node")
    assert message.integer("count") == 7
    assert source.n_read < 1_000_000
    assert message.spans("content") == (Span(5, 50_000_000),)
    with pytest.raises(Refusal) as caught:
        message.raw("content", max_bytes=49_999_999)
    assert caught.value.finding.rule == "bytes-too-long"
    assert len(message.raw("content", max_bytes=50_000_000)) == 50_000_000


def test_long_row_of_packed_numbers_stays_where_it_is() -> None:
    message = read(content(6, bytes(100_000)))
    assert message.integers("sizes") is None
    assert message.spans("sizes")[0].n_bytes == 100_000


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """Nothing but a refusal comes out of a message that is none."""
    with suppress(Refusal):
        assert walk(read(raw)) >= 1
