"""TensorFlow Lite files from nested Python values, by the room's own schema; what is valid is up to the test."""

import struct
from typing import Any

from maas_gateway.scanning.tflite_schema import OPTIONS, TABLES

Fields = dict[str, Any]

_ADD, _TILE = 0, 69


class _Writer:
    """Appends parents before children, since offsets point forward."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0\0\0\0TFL3")

    def table(self, schema: tuple[tuple[str, str], ...], fields: Fields) -> int:
        self._align(8)
        places = [8 + 8 * index if name in fields else 0 for index, (name, _) in enumerate(schema)]
        vtable = len(self.data)
        self.data += struct.pack(f"<HH{len(places)}H", 4 + 2 * len(places), 8 + 8 * len(places), *places)
        self._align(8)
        start = len(self.data)
        self.data += struct.pack("<i", start - vtable) + bytes(4 + 8 * len(places))
        for place, (name, kind) in zip(places, schema, strict=True):
            if name not in fields:
                continue
            if len(kind) == 1:
                struct.pack_into(f"<{kind}", self.data, start + place, fields[name])
            else:
                self._point(start + place, self._target(kind, fields[name], fields))
        return start

    def _point(self, place: int, target: int) -> None:
        struct.pack_into("<I", self.data, place, target - place)

    def _target(self, kind: str, value: Any, fields: Fields) -> int:
        if kind == "options":
            return self.table(OPTIONS.get(fields["builtin_options_type"], ("", ()))[1], value)
        if kind in ("string", "B[]", "absent"):
            return self._vector("B", tuple(value))
        if not kind.endswith("[]"):
            return self.table(TABLES[kind], value)
        item = kind.removesuffix("[]")
        if len(item) == 1:
            return self._vector(item, value)
        start = self._vector("I", [0] * len(value))
        for index, each in enumerate(value):
            self._point(start + 4 + 4 * index, self.table(TABLES[item], each))
        return start

    def _vector(self, letter: str, values: Any) -> int:
        self._align(8)
        self.data += bytes(4)
        start = len(self.data)
        self.data += struct.pack(f"<I{len(values)}{letter}", len(values), *values) + b"\0"
        return start

    def _align(self, size: int) -> None:
        self.data += bytes(-len(self.data) % size)


def write(model: Fields) -> bytes:
    """Return the file of a model."""
    writer = _Writer()
    struct.pack_into("<I", writer.data, 0, writer.table(TABLES["Model"], model))
    return bytes(writer.data)


def tensor(**fields: Any) -> Fields:
    return {"shape": [1, 2], "type": 0, "buffer": 1, "name": b"t", **fields}


def model() -> Fields:
    """`output = tile(input + constant, [1, 3])`: valid, a test changes what it is about."""
    return {
        "version": 3,
        "operator_codes": [{"builtin_code": _ADD, "version": 1}, {"deprecated_builtin_code": _TILE, "builtin_code": _TILE}],
        "subgraphs": [
            {
                "tensors": [
                    tensor(shape_signature=[-1, 2]),
                    tensor(buffer=2),
                    tensor(),
                    tensor(shape=[2], type=2, buffer=3),
                    tensor(shape=[1, 6]),
                ],
                "inputs": [0],
                "outputs": [4],
                "operators": [
                    {"opcode_index": 0, "inputs": [0, 1], "outputs": [2], "builtin_options_type": 11, "builtin_options": {}},
                    {"opcode_index": 1, "inputs": [2, 3], "outputs": [4]},
                ],
                "name": b"main",
            }
        ],
        "buffers": [{}, {}, {"data": bytes(8)}, {"data": struct.pack("<2i", 1, 3)}],
        "metadata": [{"name": b"m", "buffer": 1}],
        "metadata_buffer": [1],
        "signature_defs": [
            {
                "inputs": [{"name": b"x", "tensor_index": 0}],
                "outputs": [{"name": b"y", "tensor_index": 4}],
                "signature_key": b"serving_default",
                "subgraph_index": 0,
            }
        ],
    }  # fmt: skip
