"""A Protocol Buffers message, read by a schema, one level at a time: nothing in it is believed before it is checked.

Layout: a message is a row of records: varint `number << 3 | wire type`, then a varint (0), 8 bytes (1), a varint
length and as many bytes (2), or 4 bytes (5). Nothing says where a message begins: only the one around it does.

Rules:
    * Every field is the schema's, in its wire type. An unknown field, a group, a number 0 or a varint of more than
      64 bits is refused: a reader that skips what it does not know reads another message than the engine does.
    * A number takes no more bytes than it needs, so that there is one way to write it.
    * A field that is not repeated occurs once. Parsers merge or overwrite a second one, each in its way.
    * At most `max_records` records are read and `max_depth` levels descended, whatever the file says.
    * Texts are UTF-8 and bounded; bytes, and numbers packed by the thousand, stay where they are as a `Span`;
      so does a long row of records of one field, which is looked at as a whole (a `Run`, 1/64 record each).
    * What is read of the source comes in steps of 4 to 256 KiB, and the content of tensors is jumped over.

Source: protobuf.dev "Encoding"; last-one-wins and merging under "Last One Wins".
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from maas_gateway.scanning.scanner import Refusal, Source

Schema = Mapping[str, Mapping[int, tuple[str, str]]]
"""Fields by message and number: name and kind. A kind is `int` (any varint), `fixed32`, `fixed64`, `text`, `bytes`,
or the name of a message; with `*` behind it the field is repeated, and numbers may be packed."""

_STEP_BYTES: Final = 256 * 1024
_FIRST_STEP_BYTES: Final = 4 * 1024
_MAX_VARINT_BYTES: Final = 10
_CONTINUES: Final = 0x80
_HEADER_BYTES: Final = 2 * _MAX_VARINT_BYTES
_BIT_64: Final = 1 << 64
_SIGN_64: Final = 1 << 63
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_WIRE_TYPES: Final = {"int": _VARINT, "fixed32": _FIXED32, "fixed64": _FIXED64}
_FIXED_BYTES: Final = {_FIXED32: 4, _FIXED64: 8}
_MAX_TEXT_BYTES: Final = 64 * 1024
_MIN_RUN: Final = 16  # values of a field that are read one by one before a run is looked for
_FIRST_RUN_BYTES: Final = 1024
_RUN_SHARE: Final = 64
_CONTINUED: Final = bytes(range(_CONTINUES, 256))
_MINIMAL_VARINT: Final = rb"(?:[\x00-\x7f]|[\x80-\xff]{1,8}[\x01-\x7f]|[\x80-\xff]{9}\x01)"
_PACKED: Final = re.compile(rb"(?:%s)*" % _MINIMAL_VARINT)
_SHORT_BYTES: Final = rb"(?:%s)" % b"|".join(
    rb"%s.{%d}" % (re.escape(bytes([n])), n) if n else rb"\x00" for n in range(33)
)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes left where they are: offset and length in the source."""

    offset: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Run(Span):
    """Records of one field in a row, their headers included.

    Attributes:
        n_values: how many they are.
    """

    n_values: int


@lru_cache(maxsize=256)
def _run_pattern(number: int, kind: str) -> re.Pattern[bytes]:
    """Return what a row of records of a field looks like: varints, or bytes of at most 32."""
    tag = to_varint(number << 3 | (_VARINT if kind == "int" else _LENGTH))
    body = _MINIMAL_VARINT if kind == "int" else _SHORT_BYTES
    return re.compile(rb"(?:%s%s)+" % (re.escape(tag), body), re.DOTALL)


def _run_in(raw: bytes, number: int, kind: str) -> tuple[int, int]:
    """Return length and number of the records of one field that `raw` begins with."""
    if kind in _WIRE_TYPES and kind != "int":
        tag = to_varint(number << 3 | _WIRE_TYPES[kind])
        n_bytes = _FIXED_BYTES[_WIRE_TYPES[kind]] + 1
        tags = raw[: len(raw) - len(raw) % n_bytes : n_bytes] if len(tag) == 1 else b""
        n_values = len(tags) - len(tags.lstrip(tag))
        return n_values * n_bytes, n_values
    found = _run_pattern(number, kind).match(raw)
    if found is None:
        return 0, 0
    if kind == "int":  # the last byte of each varint, tags included, is the only one below 0x80
        return found.end(), len(raw[: found.end()].translate(None, _CONTINUED)) // 2
    position = n_values = 0
    while position < found.end():
        position += 2 + raw[position + 1]
        n_values += 1
    return found.end(), n_values


class Wire:
    """One source, read as messages of one schema.

    Args:
        source: the whole file, or any part of it that holds messages.
        schema: every message that may occur.
        max_records: fields read, all messages together.
        max_depth: levels of messages.
    """

    def __init__(self, source: Source, schema: Schema, *, max_records: int = 20_000_000, max_depth: int = 64) -> None:
        self._source = source
        self._schema = schema
        self._records_left = max_records
        self._max_depth = max_depth
        self._window = b""
        self._window_at = 0
        self._step = _FIRST_STEP_BYTES

    def root(self, name: str, span: Span | None = None) -> "Message":
        """Return the message of that name that fills the source, or `span` of it.

        Raises:
            Refusal: it breaks a rule of this module.
        """
        return self.message(name, span or Span(0, self._source.size_bytes), at=name, depth=0)

    def bytes_at(self, span: Span) -> bytes:
        """Return the bytes of a span, all at once: the caller bounds its length."""
        start = span.offset - self._window_at
        if start >= 0 and start + span.n_bytes <= len(self._window):
            return self._window[start : start + span.n_bytes]
        if span.n_bytes >= _STEP_BYTES:
            return self._source.read_at(span.offset, span.n_bytes)
        is_next = 0 <= start <= len(self._window)  # what was jumped over is not read
        self._step = min(2 * self._step, _STEP_BYTES) if is_next else _FIRST_STEP_BYTES
        self._window = self._source.read_at(span.offset, max(self._step, span.n_bytes))
        self._window_at = span.offset
        return self._window[: span.n_bytes]

    def message(self, name: str, span: Span, *, at: str, depth: int) -> "Message":
        """Read one level of a message; what lies deeper is read when it is asked for."""
        if depth > self._max_depth:
            raise Refusal("nested-too-deeply", at, f"messages are nested more than {self._max_depth} levels deep.")
        known = self._schema[name]
        fields: dict[str, list[int | str | Span]] = {}
        position, end = span.offset, span.offset + span.n_bytes
        while position < end:
            self._records_left -= 1
            if self._records_left < 0:
                raise Refusal("too-many-fields", at, "the file holds more fields than are looked at.")
            number, wire_type, value, position = self._record(position, end, at)
            if number not in known:
                raise Refusal("unknown-field", at, f"field {number} of {name} is not one that this gateway knows.")
            field, kind = known[number]
            values = fields.setdefault(field, [])
            is_repeated = kind.endswith("*")
            if values and not is_repeated:
                raise Refusal("repeated-field", f"{at}.{field}", "the field may occur once and occurs again.")
            values.extend(self._values(kind.rstrip("*"), wire_type, value, at=f"{at}.{field}", is_packable=is_repeated))
            if is_repeated and len(values) >= _MIN_RUN:
                position = self._run(number, kind.rstrip("*"), values, Span(position, end - position))
        return Message(self, name, span, fields, at=at, depth=depth)

    def _run(self, number: int, kind: str, values: list[int | str | Span], rest: Span) -> int:
        """Take the row of records of one field that `rest` begins with; return where the next record begins."""
        position, end, step = rest.offset, rest.offset + rest.n_bytes, _FIRST_RUN_BYTES
        while position < end and (kind in _WIRE_TYPES or kind == "bytes"):
            raw = self.bytes_at(Span(position, min(step, end - position)))
            step = min(2 * step, _STEP_BYTES - 1)
            n_bytes, n_values = _run_in(raw, number, kind)
            if not n_bytes:
                break
            self._records_left -= n_values // _RUN_SHARE
            last = values[-1]
            if isinstance(last, Run) and last.offset + last.n_bytes == position:
                values[-1] = Run(last.offset, last.n_bytes + n_bytes, last.n_values + n_values)
            else:
                values.append(Run(position, n_bytes, n_values))
            position += n_bytes
        return position

    def n_packed(self, kind: str, span: Span, at: str) -> int:
        """Count the numbers of a packed row, and hold each to the rules of a number.

        Raises:
            Refusal: it is no row of such numbers.
        """
        if kind != "int":
            n_bytes = _FIXED_BYTES[_WIRE_TYPES[kind]]
            if span.n_bytes % n_bytes:
                raise Refusal("cut", at, "a packed row ends inside a number.")
            return span.n_bytes // n_bytes
        position, end, n_values = span.offset, span.offset + span.n_bytes, 0
        while position < end:
            raw = self.bytes_at(Span(position, min(_STEP_BYTES - 1, end - position)))
            found = _PACKED.match(raw)
            if found is None or not found.end() or (position + len(raw) == end and found.end() != len(raw)):
                raise Refusal(
                    "varint", at, "a packed row holds something that is no number of 64 bits, or ends in one."
                )
            n_values += len(raw[: found.end()].translate(None, _CONTINUED))
            position += found.end()
        return n_values

    def kind_of(self, name: str, field: str) -> str:
        """Return the message that a field holds."""
        return next(kind.rstrip("*") for known, kind in self._schema[name].values() if known == field)

    def _values(
        self, kind: str, wire_type: int, value: int | Span, *, at: str, is_packable: bool
    ) -> list[int | str | Span]:
        if kind in _WIRE_TYPES:
            if wire_type == _WIRE_TYPES[kind]:
                return [value]
            if wire_type == _LENGTH and is_packable and isinstance(value, Span):
                return self._packed(kind, value, at) if kind == "int" else [value]
        elif wire_type == _LENGTH and isinstance(value, Span):
            return [self._text(value, at)] if kind == "text" else [value]
        raise Refusal("wire-type", at, f"the field is written in wire type {wire_type}, which is not its own.")

    def _packed(self, kind: str, span: Span, at: str) -> list[int | str | Span]:
        """Return packed varints where there are few; a long row of them stays a span."""
        if span.n_bytes > _MAX_TEXT_BYTES:
            return [span]
        raw, position = self.bytes_at(span), 0
        values: list[int | str | Span] = []
        while position < len(raw):
            value, position = _varint(raw, position, f"{at} ({kind})")
            values.append(value - _BIT_64 if value >= _SIGN_64 else value)
        return values

    def _text(self, span: Span, at: str) -> str:
        if span.n_bytes > _MAX_TEXT_BYTES:
            raise Refusal("text-too-long", at, f"a text of {span.n_bytes} bytes is not accepted.")
        try:
            return self.bytes_at(span).decode()
        except UnicodeDecodeError:
            raise Refusal("text-encoding", at, "a text is not UTF-8.") from None

    def _record(self, position: int, end: int, at: str) -> tuple[int, int, int | Span, int]:
        """Return number, wire type and value of the record at `position`, and where the next one begins."""
        start, window = position - self._window_at, self._window
        if 0 <= start < len(window) - 1 and end - position > 1:  # most records: a tag and a number of one byte each
            tag, value = window[start], window[start + 1]
            if tag < _CONTINUES and value < _CONTINUES:
                if tag & 7 == _VARINT:
                    return tag >> 3, _VARINT, value, position + 2
                if tag & 7 == _LENGTH and value <= end - position - 2:
                    return tag >> 3, _LENGTH, Span(position + 2, value), position + 2 + value
        header = self.bytes_at(Span(position, min(_HEADER_BYTES, end - position)))
        tag, used = _varint(header, 0, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type in _FIXED_BYTES:
            n_bytes = _FIXED_BYTES[wire_type]
            raw = header[used : used + n_bytes]
            if len(raw) != n_bytes:
                raise Refusal("cut", at, "the message ends inside a field.")
            return number, wire_type, int.from_bytes(raw, "little"), position + used + n_bytes
        if wire_type not in (_VARINT, _LENGTH):
            raise Refusal("wire-type", at, f"wire type {wire_type} is not accepted.")
        value, used = _varint(header, used, at)
        if wire_type == _VARINT:
            return number, wire_type, value - _BIT_64 if value >= _SIGN_64 else value, position + used
        if value > end - position - used:
            raise Refusal("cut", at, "a field is longer than the message around it.")
        return number, wire_type, Span(position + used, value), position + used + value


class Message:
    """One level of a message: its fields by name; `at` is its place in the file: `ModelProto.graph.node[3]`."""

    __slots__ = ("_depth", "_fields", "_name", "_wire", "at", "span")

    def __init__(
        self, wire: Wire, name: str, span: Span, fields: Mapping[str, list[int | str | Span]], *, at: str, depth: int
    ) -> None:
        self._wire = wire
        self._name = name
        self._fields = fields
        self._depth = depth
        self.at = at
        self.span = span

    def has(self, *names: str) -> bool:
        """Return whether one of these fields is there."""
        return any(name in self._fields for name in names)

    def count(self, name: str) -> int:
        """Return how often a field is there; a long packed row counts once."""
        return len(self._fields.get(name, ()))

    def integer(self, name: str, default: int = 0) -> int:
        """Return a number, `default` if it is absent."""
        value = self._fields.get(name, (default,))[0]
        return value if isinstance(value, int) else default

    def values(self, name: str) -> "tuple[int | str | Span, ...]":
        """Return what a field holds, as it was read."""
        return tuple(self._fields.get(name, ()))

    def n_values(self, name: str) -> int:
        """Count a repeated number or row of bytes, however it is written.

        Raises:
            Refusal: a packed row is no row of numbers.
        """
        kind = self._wire.kind_of(self._name, name)
        counted = 0
        for value in self._fields.get(name, ()):
            if isinstance(value, Run):
                counted += value.n_values
            elif isinstance(value, Span) and kind != "bytes":
                counted += self._wire.n_packed(kind, value, f"{self.at}.{name}")
            else:
                counted += 1
        return counted

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return a repeated number, None if there are too many to be sizes or indices."""
        values = self._fields.get(name, ())
        numbers = tuple(value for value in values if isinstance(value, int))
        return numbers if len(numbers) == len(values) else None

    def text(self, name: str) -> str:
        """Return a text, "" if it is absent."""
        value = self._fields.get(name, ("",))[0]
        return value if isinstance(value, str) else ""

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a repeated text."""
        return tuple(value for value in self._fields.get(name, ()) if isinstance(value, str))

    def spans(self, name: str) -> tuple[Span, ...]:
        """Return where bytes, or rows of packed numbers, lie."""
        return tuple(value for value in self._fields.get(name, ()) if isinstance(value, Span))

    def raw(self, name: str, *, max_bytes: int) -> bytes:
        """Return the content of one field of bytes, empty if it is absent.

        Raises:
            Refusal: there are more than `max_bytes`.
        """
        spans = self.spans(name)
        if not spans:
            return b""
        if spans[0].n_bytes > max_bytes:
            raise Refusal("bytes-too-long", f"{self.at}.{name}", f"{spans[0].n_bytes} bytes are not accepted here.")
        return self._wire.bytes_at(spans[0])

    def message(self, name: str) -> "Message | None":
        """Return a message inside this one, None if it is absent."""
        return next(self.messages(name), None)

    def messages(self, name: str) -> Iterator["Message"]:
        """Yield a repeated message, each read when its turn comes.

        Raises:
            Refusal: one breaks a rule of this module.
        """
        spans = self.spans(name)
        if spans:
            kind = self._wire.kind_of(self._name, name)
            for index, span in enumerate(spans):
                at = f"{self.at}.{name}[{index}]"
                yield self._wire.message(kind, span, at=at, depth=self._depth + 1)

    def items(self) -> Iterator[tuple[str, int | str | Span]]:
        """Yield every value with its field's name, in the order of first occurrence of the fields."""
        for name, values in self._fields.items():
            for value in values:
                yield name, value


def _varint(raw: bytes, position: int, at: str) -> tuple[int, int]:
    """Return an unsigned varint and where the next byte is."""
    value = 0
    for shift in range(0, 7 * _MAX_VARINT_BYTES, 7):
        if position >= len(raw):
            raise Refusal("cut", at, "the message ends inside a number.")
        byte = raw[position]
        position += 1
        value |= (byte % _CONTINUES) << shift
        if byte < _CONTINUES:
            if value >= _BIT_64:
                break
            if not byte and shift:
                raise Refusal("varint", at, "a number is written in more bytes than it needs.")
            return value, position
    raise Refusal("varint", at, "a number has more than 64 bits.")


def to_varint(value: int) -> bytes:
    """Return a number as a varint, a negative one as its two's complement of 64 bits."""
    value %= _BIT_64
    written = bytearray()
    while value >= _CONTINUES:
        written.append(value % _CONTINUES | _CONTINUES)
        value >>= 7
    written.append(value)
    return bytes(written)
