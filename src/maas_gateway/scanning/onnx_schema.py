"""The messages of an ONNX model, by name and number, and the types that its tensors may have.

Rules: every field of the format is here, those that are refused as well, so that a finding names them; a field that is
not here is refused by `protobuf`.

Source: onnx 1.23.2, onnx/onnx.proto (IR version 14).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from maas_gateway.scanning.protobuf import Schema

_ENTRIES: Final = "StringStringEntryProto*"

SCHEMA: Final[Schema] = {
    "ModelProto": {
        1: ("ir_version", "int"),
        2: ("producer_name", "text"),
        3: ("producer_version", "text"),
        4: ("domain", "text"),
        5: ("model_version", "int"),
        6: ("doc_string", "bytes"),
        7: ("graph", "GraphProto"),
        8: ("opset_import", "OperatorSetIdProto*"),
        14: ("metadata_props", _ENTRIES),
        20: ("training_info", "bytes*"),
        25: ("functions", "bytes*"),
        26: ("configuration", "bytes*"),
    },
    "OperatorSetIdProto": {1: ("domain", "text"), 2: ("version", "int")},
    "StringStringEntryProto": {1: ("key", "text"), 2: ("value", "bytes")},
    "GraphProto": {
        1: ("node", "NodeProto*"),
        2: ("name", "text"),
        5: ("initializer", "TensorProto*"),
        10: ("doc_string", "bytes"),
        11: ("input", "ValueInfoProto*"),
        12: ("output", "ValueInfoProto*"),
        13: ("value_info", "bytes*"),
        14: ("quantization_annotation", "bytes*"),
        15: ("sparse_initializer", "bytes*"),
        16: ("metadata_props", _ENTRIES),
    },
    "NodeProto": {
        1: ("input", "text*"),
        2: ("output", "text*"),
        3: ("name", "text"),
        4: ("op_type", "text"),
        5: ("attribute", "AttributeProto*"),
        6: ("doc_string", "bytes"),
        7: ("domain", "text"),
        8: ("overload", "text"),
        9: ("metadata_props", _ENTRIES),
        10: ("device_configurations", "bytes*"),
    },
    "AttributeProto": {
        1: ("name", "text"),
        2: ("f", "fixed32"),
        3: ("i", "int"),
        4: ("s", "bytes"),
        5: ("t", "TensorProto"),
        6: ("g", "GraphProto"),
        7: ("floats", "fixed32*"),
        8: ("ints", "int*"),
        9: ("strings", "bytes*"),
        10: ("tensors", "bytes*"),
        11: ("graphs", "bytes*"),
        13: ("doc_string", "bytes"),
        14: ("tp", "bytes"),
        15: ("type_protos", "bytes*"),
        20: ("type", "int"),
        21: ("ref_attr_name", "text"),
        22: ("sparse_tensor", "bytes"),
        23: ("sparse_tensors", "bytes*"),
    },
    "ValueInfoProto": {
        1: ("name", "text"),
        2: ("type", "TypeProto"),
        3: ("doc_string", "bytes"),
        4: ("metadata_props", _ENTRIES),
    },
    "TypeProto": {
        1: ("tensor_type", "TypeProto.Tensor"),
        4: ("sequence_type", "TypeProto.Sequence"),
        5: ("map_type", "bytes"),
        6: ("denotation", "text"),
        7: ("opaque_type", "bytes"),
        8: ("sparse_tensor_type", "bytes"),
        9: ("optional_type", "bytes"),
    },
    "TypeProto.Tensor": {1: ("elem_type", "int"), 2: ("shape", "TensorShapeProto")},
    "TypeProto.Sequence": {1: ("elem_type", "TypeProto")},
    "TensorShapeProto": {1: ("dim", "TensorShapeProto.Dimension*")},
    "TensorShapeProto.Dimension": {1: ("dim_value", "int"), 2: ("dim_param", "text"), 3: ("denotation", "text")},
    "TensorProto": {
        1: ("dims", "int*"),
        2: ("data_type", "int"),
        3: ("segment", "bytes"),
        4: ("float_data", "fixed32*"),
        5: ("int32_data", "int*"),
        6: ("string_data", "bytes*"),
        7: ("int64_data", "int*"),
        8: ("name", "text"),
        9: ("raw_data", "bytes"),
        10: ("double_data", "fixed64*"),
        11: ("uint64_data", "int*"),
        12: ("doc_string", "bytes"),
        13: ("external_data", _ENTRIES),
        14: ("data_location", "int"),
        16: ("metadata_props", _ENTRIES),
    },
}

STRING: Final = 8
INT32: Final = 6
INT64: Final = 7

TYPE_NAMES: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: "FP32",
        2: "UINT8",
        3: "INT8",
        4: "UINT16",
        5: "INT16",
        INT32: "INT32",
        INT64: "INT64",
        STRING: "BYTES",
        9: "BOOL",
        10: "FP16",
        11: "FP64",
        12: "UINT32",
        13: "UINT64",
    }
)
"""The Open Inference datatype of an element type: what a model may take and give."""

ITEM_BITS: Final[Mapping[int, int]] = MappingProxyType(
    {
        1: 32,
        2: 8,
        3: 8,
        4: 16,
        5: 16,
        INT32: 32,
        INT64: 64,
        9: 8,
        10: 16,
        11: 64,
        12: 32,
        13: 64,
        16: 16,
        17: 8,
        18: 8,
        19: 8,
        20: 8,
        21: 4,
        22: 4,
    }
)
"""Bits of an element in `raw_data`: no complex numbers, and nothing narrower than 4 bits. Texts are not written there."""

DATA_FIELDS: Final[Mapping[str, frozenset[int]]] = MappingProxyType(
    {
        "float_data": frozenset({1}),
        "int32_data": frozenset({2, 3, 4, 5, INT32, 9, 10, 16, 17, 18, 19, 20}),
        "int64_data": frozenset({INT64}),
        "double_data": frozenset({11}),
        "uint64_data": frozenset({12, 13}),
        "string_data": frozenset({STRING}),
    }
)
"""Which element types a field of `TensorProto` holds, other than `raw_data`, which holds all but texts."""

ATTRIBUTE_FIELDS: Final[Mapping[int, str]] = MappingProxyType(
    {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings"}
)
"""The field that holds an attribute's value, by its type. Lists of tensors and graphs, sparse tensors and types are
taken by no operator of the list."""
