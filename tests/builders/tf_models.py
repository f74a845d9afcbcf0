"""SavedModels and GraphDefs from nested Python values, by the room's own schema; what is valid is up to the test.

A message is a mapping of its fields' names, a repeated field a list, a map a mapping, packed nothing.
"""

import io
import struct
import tarfile
from collections.abc import Iterator, Mapping
from typing import Any

from maas_gateway.scanning.tf_schema import SCHEMA

Fields = dict[str, Any]

FLOAT, INT32, STRING, INT64, RESOURCE = 1, 3, 7, 9, 20
INDEX = "variables/variables.index"
SHARD = "variables/variables.data-00000-of-00001"


def encode(name: str, fields: Mapping[str, Any]) -> bytes:
    """Return a message on the wire."""
    numbers = {field: (number, kind) for number, (field, kind) in SCHEMA[name].items()}
    written = bytearray()
    for field, value in fields.items():
        number, kind = numbers[field]
        for item in _items(value, kind):
            written += _record(number, kind.rstrip("*"), item)
    return bytes(written)


def _items(value: Any, kind: str) -> Iterator[Any]:
    if kind.endswith("Entry*") and isinstance(value, Mapping):
        yield from ({"key": key, "value": item} for key, item in value.items())
    elif isinstance(value, list):
        yield from value
    else:
        yield value


def _record(number: int, kind: str, value: Any) -> bytes:
    if kind == "int":
        return varint(number << 3) + varint(int(value))
    if kind in {"fixed32", "fixed64"}:
        is_short = kind == "fixed32"
        return varint(number << 3 | (5 if is_short else 1)) + struct.pack("<f" if is_short else "<d", value)
    content = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else encode(kind, value)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """Return a number on the wire."""
    value %= 1 << 64
    row = bytearray()
    while value >= 128:
        row.append(value % 128 + 128)
        value //= 128
    return bytes([*row, value])


def shape(*sizes: int) -> Fields:
    """A TensorShapeProto."""
    return {"dim": [{"size": size} for size in sizes]}


def tensor(dtype: int, sizes: tuple[int, ...] = (), **values: Any) -> Fields:
    """A TensorProto."""
    return {"dtype": dtype, "tensor_shape": shape(*sizes), **values}


def calls(name: str) -> Fields:
    """An attribute that names a function."""
    return {"func": {"name": name}}


def node(name: str, op: str, *inputs: str, **attributes: Fields) -> Fields:
    """A NodeDef."""
    return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def constant(name: str, dtype: int, sizes: tuple[int, ...] = (), **values: Any) -> Fields:
    """A Const."""
    return node(name, "Const", dtype={"type": dtype}, value={"tensor": tensor(dtype, sizes, **values)})


def text(name: str, value: bytes) -> Fields:
    """A Const of one text."""
    return constant(name, STRING, string_val=[value])


def call(name: str, function: str, *inputs: str, op: str = "StatefulPartitionedCall") -> Fields:
    """A node that calls a function."""
    types = {"list": {"type": [FLOAT] * len(inputs)}}
    return node(name, op, *inputs, f=calls(function), Tin=types, Tout={"list": {"type": [FLOAT]}})


def function(name: str, *nodes: Fields, ret: str = "x") -> Fields:
    """A FunctionDef of one input `x` and one output `y`."""
    argument = {"name": "x", "type": FLOAT}
    return {
        "signature": {"name": name, "input_arg": [argument], "output_arg": [{"name": "y", "type": FLOAT}]},
        "node_def": list(nodes),
        "ret": {"y": ret},
    }


def saved_model() -> Fields:
    """A SavedModel as TensorFlow 2 saves one: a served function that calls another one, a spare one, and the saver."""
    inner = function("__inference_inner_1", node("square", "Square", "x", T={"type": FLOAT}), ret="square:y:0")
    served = function("__inference_served_2", call("inner", "__inference_inner_1", "x"), ret="inner:output:0")
    spare = function("__inference_spare_3", node("neg", "Neg", "x", T={"type": FLOAT}), ret="neg:y:0")
    save = function("__inference__traced_save_4", node("save", "SaveV2", "x"))
    restore = function("__inference__traced_restore_5", node("restore", "RestoreV2", "x"))
    graph = {
        "versions": {"producer": 2474, "min_consumer": 12},
        "node": [
            node("serving_default_x", "Placeholder", dtype={"type": FLOAT}, shape={"shape": shape(-1, 4)}),
            call("StatefulPartitionedCall", "__inference_served_2", "serving_default_x"),
            node("NoOp", "NoOp"),
            node("saver_filename", "Placeholder", dtype={"type": STRING}, shape={"shape": shape()}),
            call("StatefulPartitionedCall_1", "__inference__traced_save_4", "saver_filename"),
            call("StatefulPartitionedCall_2", "__inference__traced_restore_5", "saver_filename"),
        ],
        "library": {"function": [inner, served, spare, save, restore]},
    }
    info = {"dtype": FLOAT, "tensor_shape": shape(-1, 4)}
    meta_graph = {
        "meta_info_def": {"tags": ["serve"], "tensorflow_version": "2.21.0", "stripped_default_attrs": 1},
        "graph_def": graph,
        "saver_def": {
            "filename_tensor_name": "saver_filename:0",
            "save_tensor_name": "StatefulPartitionedCall_1:0",
            "restore_op_name": "StatefulPartitionedCall_2",
        },
        "collection_def": {"saved_model_main_op": {"node_list": {"value": ["NoOp"]}}},
        "signature_def": {
            "serving_default": {
                "inputs": {"x": {"name": "serving_default_x:0", **info}},
                "outputs": {"y": {"name": "StatefulPartitionedCall:0", **info}},
            },
            "__saved_model_init_op": {"outputs": {"__saved_model_init_op": {"name": "NoOp"}}},
        },
        "object_graph_def": _objects(),
    }
    return {"saved_model_schema_version": 1, "meta_graphs": [meta_graph]}


def _objects() -> Fields:
    children = [
        {"node_id": 1, "local_name": "signatures"},
        {"node_id": 3, "local_name": "__call__"},
    ]
    bare = {"concrete_function_name": "__inference_served_2", "argument_keywords": ["x"]}
    spec = {"tensor_spec_value": {"name": "x", "shape": shape(-1, 4), "dtype": FLOAT}}
    served = {"canonicalized_input_signature": {"tuple_value": {"values": [spec]}}, "output_signature": spec}
    return {
        "nodes": [
            {"user_object": {"identifier": "_generic_user_object"}, "children": children},
            {
                "user_object": {"identifier": "signature_map"},
                "children": [{"node_id": 2, "local_name": "serving_default"}],
            },
            {"bare_concrete_function": bare},
            {"function": {"concrete_functions": ["__inference_spare_3"]}},
        ],
        "concrete_functions": {"__inference_served_2": served, "__inference_spare_3": {}},
    }


def meta_graph_of(model: Fields) -> Fields:
    """Return the one MetaGraphDef."""
    found: Fields = model["meta_graphs"][0]
    return found


def graph_of(model: Fields) -> Fields:
    """Return the GraphDef."""
    found: Fields = meta_graph_of(model)["graph_def"]
    return found


def library_of(model: Fields) -> list[Fields]:
    """Return the functions."""
    found: list[Fields] = graph_of(model)["library"]["function"]
    return found


def objects_of(model: Fields) -> list[Fields]:
    """Return the objects of the object graph."""
    found: list[Fields] = meta_graph_of(model)["object_graph_def"]["nodes"]
    return found


def function_of(model: Fields, name: str) -> Fields:
    """Return a function by a part of its name."""
    return next(entry for entry in library_of(model) if name in entry["signature"]["name"])


def files_of(model: Fields) -> dict[str, bytes]:
    """Return the files of a SavedModel's folder."""
    return {"saved_model.pb": encode("SavedModel", model), INDEX: b"index", SHARD: b"data", "fingerprint.pb": b"f"}


def tar(
    files: Mapping[str, bytes] | list[tuple[str | tarfile.TarInfo, bytes]], *, form: int = tarfile.GNU_FORMAT
) -> bytes:
    """Return files as a TAR archive."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=form) as archive:
        for name, content in files.items() if isinstance(files, Mapping) else files:
            member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            member.size = len(content) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def packed(model: Fields) -> bytes:
    """Return a SavedModel as one upload."""
    return tar(files_of(model))


def frozen_graph() -> Fields:
    """A frozen graph in canonical form, with a call."""
    body = function("f0", node("double", "AddV2", "x", "x", T={"type": FLOAT}), ret="double:z:0")
    types = {"list": {"type": [FLOAT]}}
    return {
        "versions": {"producer": 2474},
        "node": [
            node("input_0", "Placeholder", dtype={"type": FLOAT}, shape={"shape": shape(-1, 4)}),
            constant("n0", FLOAT, (4,), tensor_content=bytes(16)),
            node("n1", "AddV2", "input_0", "n0", T={"type": FLOAT}),
            node("n2", "PartitionedCall", "n1", f=calls("f0"), Tin=types, Tout=types),
            node("output_0", "Identity", "n2", T={"type": FLOAT}),
        ],
        "library": {"function": [body]},
    }
