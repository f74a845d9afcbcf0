"""A FlatBuffer, verified while it is read: no offset is followed that was not checked.

Layout: u32 offset of the root table, 4 bytes of file identifier, then anything in any order. A table begins with an
i32 that, taken from its own position, gives its vtable: u16 bytes of the vtable, u16 bytes of the table, then a u16 a
field, 0 for absent, else the field's place in the table. Vectors and strings: u32 length, then elements; a string ends
with a zero byte that its length does not count.

Rules:
    * Every scalar, vtable, table, vector and string lies inside the file and is aligned to its size.
    * A table's fields are those of the schema it is read by, and lie inside the table.
    * At most `max_steps` tables, vectors and elements of vectors of tables are visited, so that a small file whose
      vectors all point to one place cannot keep us busy. Depth is the schema's, which is not recursive.

    * A file of up to 16 MiB is read at once, a larger one in pages of 256 KiB, of which 64 are kept; vectors of bytes
      stay where they are. Which bytes belong to something is remembered, so that the others can be told (`unclaimed`).

Source: flatbuffers.dev "FlatBuffer Internals"; flatbuffers/verifier.h for the rules of alignment.
"""

import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from maas_gateway.scanning.scanner import Refusal, Source

Fields = tuple[tuple[str, str], ...]
_SCALARS: Final = {letter: struct.Struct(f"<{letter}") for letter in "?bBhHiIqQfd"}
_OFFSET_BYTES: Final = 4
_MIN_VTABLE_BYTES: Final = 4
_ROOT_BYTES: Final = 8
_WHOLE_BYTES: Final = 16 * 1024 * 1024
_PAGE_BYTES: Final = 256 * 1024
_N_PAGES: Final = 64


@dataclass(frozen=True, slots=True)
class Span:
    """A vector of bytes, left where it is: offset and length in the file."""

    offset: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Table:
    """A table's fields by name, None for absent; `at` is its place in the model: `subgraphs[0].tensors[2]`."""

    at: str
    fields: Mapping[str, "Value"]

    def integer(self, name: str, default: int = 0) -> int:
        """Return an integer or boolean field, `default` if it is absent."""
        value = self.fields.get(name)
        return int(value) if isinstance(value, int) else default

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return a vector of integers, empty if it is absent."""
        value = self.fields.get(name)
        return tuple(item for item in value if isinstance(item, int)) if isinstance(value, tuple) else ()

    def tables(self, name: str) -> tuple["Table", ...]:
        """Return a vector of tables, empty if it is absent."""
        value = self.fields.get(name)
        return tuple(item for item in value if isinstance(item, Table)) if isinstance(value, tuple) else ()

    def table(self, name: str) -> "Table | None":
        """Return a table, None if it is absent."""
        value = self.fields.get(name)
        return value if isinstance(value, Table) else None

    def span(self, name: str) -> Span | None:
        """Return where a vector of bytes or a string lies, None if it is absent."""
        value = self.fields.get(name)
        return value if isinstance(value, Span) else None


Value = None | bool | int | float | Span | Table | tuple["Value", ...]


class FlatBuffer:
    """One file, read by a schema.

    Args:
        source: the whole file.
        tables: fields of every table by its name, in vtable order; see `tflite_schema` for the kinds.
        options: the tables of the union of kind `options`, by number; the field before it holds the number.
        max_steps: how much may be visited.

    Attributes:
        lengths: where the lengths of the root table's vectors stand, by field.
    """

    def __init__(
        self,
        source: Source | bytes,
        tables: Mapping[str, Fields],
        options: Mapping[int, tuple[str, Fields]],
        *,
        max_steps: int = 500_000,
    ) -> None:
        self._source = _InMemory(source) if isinstance(source, bytes) else source
        self._size = self._source.size_bytes
        self._data = self._source.read_at(0, self._size) if self._size <= _WHOLE_BYTES else b""
        self._data_at = 0
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._claimed = [(0, _ROOT_BYTES)]
        self.lengths: dict[str, Span] = {}
        self._tables = tables
        self._options = options
        self._steps_left = max_steps

    def root(self, table: str) -> Table:
        """Return the root table with everything below it.

        Raises:
            Refusal: the file breaks a rule of this module.
        """
        return self._table(self._follow(0, "root"), self._tables[table], "")

    def bytes_at(self, span: Span) -> bytes:
        """Return the bytes of a span, all at once: the caller bounds its length."""
        data, start = self._look(span.offset, span.n_bytes)
        return data[start : start + span.n_bytes]

    def unclaimed(self) -> Iterator[Span]:
        """Yield what belongs to nothing that was read, in order: padding, and whatever a writer left there."""
        reached = 0
        for start, end in sorted(self._claimed):
            if start > reached:
                yield Span(reached, start - reached)
            reached = max(reached, end)
        if reached < self._size:
            yield Span(reached, self._size - reached)

    def _look(self, position: int, n_bytes: int) -> tuple[bytes, int]:
        """Return bytes, and where in them `position` is; `n_bytes` from there on lie in the file."""
        start = position - self._data_at
        if start >= 0 and start + n_bytes <= len(self._data):
            return self._data, start
        number = position // _PAGE_BYTES
        if (position + n_bytes - 1) // _PAGE_BYTES != number:
            return self._source.read_at(position, n_bytes), 0
        page = self._pages.pop(number, None)
        if page is None:
            page = self._source.read_at(number * _PAGE_BYTES, _PAGE_BYTES)
            if len(self._pages) == _N_PAGES:
                self._pages.popitem(last=False)
        self._pages[number] = page
        self._data, self._data_at = page, number * _PAGE_BYTES
        return page, position - self._data_at

    def _scalar(self, letter: str, position: int, at: str) -> int | float | bool:
        form = _SCALARS[letter]
        if position < 0 or position + form.size > self._size:
            raise Refusal("out-of-bounds", at, "a value lies outside the file.")
        if position % form.size:
            raise Refusal("misaligned", at, f"a value of {form.size} bytes stands at byte {position}.")
        data, start = self._data, position - self._data_at
        if start < 0 or start + form.size > len(data):
            data, start = self._look(position, form.size)
        value: int | float | bool = form.unpack_from(data, start)[0]
        return value

    def _integer(self, letter: str, position: int, at: str) -> int:
        return int(self._scalar(letter, position, at))

    def _follow(self, position: int, at: str) -> int:
        """Return the place that the offset at `position` points to; offsets point forward."""
        offset = self._integer("I", position, at)
        if not offset:
            raise Refusal("null-offset", at, "an offset is zero.")
        return position + offset

    def _table(self, position: int, fields: Fields, at: str) -> Table:
        """Read the table at `position`; a reader that meets another kind than written is refused by bounds."""
        self._spend(1, at)
        vtable = position - self._integer("i", position, at)
        n_vtable_bytes = self._integer("H", vtable, at)
        n_table_bytes = self._integer("H", vtable + 2, at)
        if (
            n_vtable_bytes < _MIN_VTABLE_BYTES
            or n_vtable_bytes % 2
            or vtable + n_vtable_bytes > self._size
            or n_table_bytes < _OFFSET_BYTES
            or position + n_table_bytes > self._size
        ):
            raise Refusal("vtable", at, "a table or its vtable has an impossible size.")
        self._claimed += ((vtable, vtable + n_vtable_bytes), (position, position + n_table_bytes))
        n_slots = n_vtable_bytes // 2 - 2
        slots = struct.unpack_from(f"<{n_slots}H", *self._look(vtable + _MIN_VTABLE_BYTES, 2 * n_slots))
        if any(slots[len(fields) :]):
            raise Refusal("unknown-field", at, "a table has a field that the schema does not know.")
        values: dict[str, Value] = {}
        for (name, kind), slot in zip(fields, slots, strict=False):
            place = f"{at}.{name}" if at else name
            if not slot:
                continue
            size = _SCALARS[kind].size if kind in _SCALARS else _OFFSET_BYTES
            if kind == "absent" or slot < _OFFSET_BYTES or slot + size > n_table_bytes:
                raise Refusal("field-refused", place, "this field must be absent, or lies outside its table.")
            if kind == "options":
                values[name] = self._union(position + slot, values.get(f"{name}_type"), place)
            else:
                values[name] = self._value(position + slot, kind, place)
        return Table(at, values)

    def _union(self, position: int, number: Value, at: str) -> Table:
        listed = self._options.get(number) if isinstance(number, int) else None
        if listed is None:
            raise Refusal("options-refused", at, f"options of type {number} are not accepted.")
        return self._table(self._follow(position, at), listed[1], at)

    def _value(self, position: int, kind: str, at: str) -> Value:
        if kind in _SCALARS:
            return self._scalar(kind, position, at)
        target = self._follow(position, at)
        if kind == "string":
            span = self._vector(target, 1, at)
            end = span.offset + span.n_bytes
            if self.bytes_at(Span(end, min(1, self._size - end))) != b"\0":
                raise Refusal("string", at, "a string does not end.")
            self._claimed.append((span.offset, end + 1))
            return span
        if not kind.endswith("[]"):
            return self._table(target, self._tables[kind], at)
        return self._elements(target, kind.removesuffix("[]"), at)

    def _elements(self, position: int, kind: str, at: str) -> Value:
        """Return a vector: bytes as a `Span`, scalars and tables as a tuple."""
        size = _SCALARS[kind].size if kind in _SCALARS else _OFFSET_BYTES
        span = self._vector(position, size, at)
        n_elements = span.n_bytes // size
        if kind == "B":
            return span
        if kind in _SCALARS:
            self._spend(1 + n_elements // 4, at)
            return struct.unpack_from(f"<{n_elements}{kind}", *self._look(span.offset, span.n_bytes))
        self._spend(n_elements, at)
        places = (span.offset + _OFFSET_BYTES * index for index in range(n_elements))
        return tuple(
            self._table(self._follow(place, f"{at}[{index}]"), self._tables[kind], f"{at}[{index}]")
            for index, place in enumerate(places)
        )

    def _vector(self, position: int, size: int, at: str) -> Span:
        n_elements = self._integer("I", position, at)
        span = Span(position + _OFFSET_BYTES, n_elements * size)
        if span.offset + span.n_bytes > self._size:
            raise Refusal("out-of-bounds", at, f"a vector of {n_elements} elements reaches beyond the file.")
        if n_elements and span.offset % size:
            raise Refusal("misaligned", at, f"elements of {size} bytes start at byte {span.offset}.")
        self._claimed.append((position, span.offset + span.n_bytes))
        if "." not in at:
            self.lengths[at] = Span(position, _OFFSET_BYTES)
        return span

    def _spend(self, n_steps: int, at: str) -> None:
        self._steps_left -= n_steps
        if self._steps_left < 0:
            raise Refusal("too-much", at, "the file holds too many tables.")


class _InMemory:
    """Bytes as a source."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size_bytes = len(content)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        return self._content[offset : offset + n_bytes]
