"""The FlatBuffer tables of a TensorFlow Lite model, as far as an interpreter of the allowed operators reads them.

Kinds of a field: a `struct` letter for a scalar (`i` int32, `B` uint8, `?` bool, ...), `string`, a table's name, a kind
with `[]` for a vector of it, `options` for the union of option tables, `absent` for what must not be there (buffers
outside the file, sparse and variant tensors, custom and StableHLO options).

A field that a table has in the file and not here is refused: this room would not know what a reader does with it.

Source: tensorflow 2.21 tensorflow/lite/python/schema_py_generated.py (schema version 3); field order is vtable order.
"""

from collections.abc import Mapping
from typing import Final

Fields = tuple[tuple[str, str], ...]

TABLES: Final[Mapping[str, Fields]] = {
    "Model": (
        ("version", "I"),
        ("operator_codes", "OperatorCode[]"),
        ("subgraphs", "SubGraph[]"),
        ("description", "string"),
        ("buffers", "Buffer[]"),
        ("metadata_buffer", "i[]"),
        ("metadata", "Metadata[]"),
        ("signature_defs", "SignatureDef[]"),
        ("external_buffer_groups", "absent"),
        ("external_buffers", "absent"),
    ),
    "OperatorCode": (
        ("deprecated_builtin_code", "b"),
        ("custom_code", "string"),
        ("version", "i"),
        ("builtin_code", "i"),
    ),
    "SubGraph": (
        ("tensors", "Tensor[]"),
        ("inputs", "i[]"),
        ("outputs", "i[]"),
        ("operators", "Operator[]"),
        ("name", "string"),
        ("debug_metadata_index", "i"),
    ),
    "Tensor": (
        ("shape", "i[]"),
        ("type", "b"),
        ("buffer", "I"),
        ("name", "string"),
        ("quantization", "QuantizationParameters"),
        ("is_variable", "?"),
        ("sparsity", "absent"),
        ("shape_signature", "i[]"),
        ("has_rank", "?"),
        ("variant_tensors", "absent"),
        ("external_buffer", "absent"),
    ),
    "QuantizationParameters": (
        ("min", "f[]"),
        ("max", "f[]"),
        ("scale", "f[]"),
        ("zero_point", "q[]"),
        ("details_type", "B"),
        ("details", "absent"),
        ("quantized_dimension", "i"),
    ),
    "Operator": (
        ("opcode_index", "I"),
        ("inputs", "i[]"),
        ("outputs", "i[]"),
        ("builtin_options_type", "B"),
        ("builtin_options", "options"),
        ("custom_options", "absent"),
        ("custom_options_format", "b"),
        ("mutating_variable_inputs", "?[]"),
        ("intermediates", "i[]"),
        ("large_custom_options_offset", "Q"),
        ("large_custom_options_size", "Q"),
        ("builtin_options2_type", "B"),
        ("builtin_options2", "absent"),
        ("debug_metadata_index", "i"),
    ),
    "Buffer": (
        ("data", "B[]"),
        ("offset", "Q"),
        ("size", "Q"),
    ),
    "Metadata": (
        ("name", "string"),
        ("buffer", "I"),
    ),
    "SignatureDef": (
        ("inputs", "TensorMap[]"),
        ("outputs", "TensorMap[]"),
        ("signature_key", "string"),
        ("unused", "absent"),
        ("subgraph_index", "I"),
    ),
    "TensorMap": (
        ("name", "string"),
        ("tensor_index", "I"),
    ),
}

OPTIONS: Final[Mapping[int, tuple[str, Fields]]] = {
    1: (
        "Conv2DOptions",
        (
            ("padding", "b"),
            ("stride_w", "i"),
            ("stride_h", "i"),
            ("fused_activation_function", "b"),
            ("dilation_w_factor", "i"),
            ("dilation_h_factor", "i"),
            ("quantized_bias_type", "b"),
        ),
    ),
    2: (
        "DepthwiseConv2DOptions",
        (
            ("padding", "b"),
            ("stride_w", "i"),
            ("stride_h", "i"),
            ("depth_multiplier", "i"),
            ("fused_activation_function", "b"),
            ("dilation_w_factor", "i"),
            ("dilation_h_factor", "i"),
        ),
    ),
    5: (
        "Pool2DOptions",
        (
            ("padding", "b"),
            ("stride_w", "i"),
            ("stride_h", "i"),
            ("filter_width", "i"),
            ("filter_height", "i"),
            ("fused_activation_function", "b"),
        ),
    ),
    8: (
        "FullyConnectedOptions",
        (
            ("fused_activation_function", "b"),
            ("weights_format", "b"),
            ("keep_num_dims", "?"),
            ("asymmetric_quantize_inputs", "?"),
            ("quantized_bias_type", "b"),
        ),
    ),
    9: ("SoftmaxOptions", (("beta", "f"),)),
    10: (
        "ConcatenationOptions",
        (
            ("axis", "i"),
            ("fused_activation_function", "b"),
        ),
    ),
    11: (
        "AddOptions",
        (
            ("fused_activation_function", "b"),
            ("pot_scale_int16", "?"),
        ),
    ),
    12: ("L2NormOptions", (("fused_activation_function", "b"),)),
    15: (
        "ResizeBilinearOptions",
        (
            ("unused", "absent"),
            ("unused", "absent"),
            ("align_corners", "?"),
            ("half_pixel_centers", "?"),
        ),
    ),
    17: ("ReshapeOptions", (("new_shape", "i[]"),)),
    19: ("SpaceToDepthOptions", (("block_size", "i"),)),
    21: ("MulOptions", (("fused_activation_function", "b"),)),
    22: ("PadOptions", ()),
    23: (
        "GatherOptions",
        (
            ("axis", "i"),
            ("batch_dims", "i"),
        ),
    ),
    24: ("BatchToSpaceNDOptions", ()),
    25: ("SpaceToBatchNDOptions", ()),
    26: ("TransposeOptions", ()),
    27: ("ReducerOptions", (("keep_dims", "?"),)),
    28: (
        "SubOptions",
        (
            ("fused_activation_function", "b"),
            ("pot_scale_int16", "?"),
        ),
    ),
    29: ("DivOptions", (("fused_activation_function", "b"),)),
    30: ("SqueezeOptions", (("squeeze_dims", "i[]"),)),
    32: (
        "StridedSliceOptions",
        (
            ("begin_mask", "i"),
            ("end_mask", "i"),
            ("ellipsis_mask", "i"),
            ("new_axis_mask", "i"),
            ("shrink_axis_mask", "i"),
            ("offset", "?"),
        ),
    ),
    33: ("ExpOptions", ()),
    34: ("TopKV2Options", ()),
    35: ("SplitOptions", (("num_splits", "i"),)),
    36: ("LogSoftmaxOptions", ()),
    37: (
        "CastOptions",
        (
            ("in_data_type", "b"),
            ("out_data_type", "b"),
        ),
    ),
    38: ("DequantizeOptions", ()),
    39: ("MaximumMinimumOptions", ()),
    40: ("ArgMaxOptions", (("output_type", "b"),)),
    41: ("LessOptions", ()),
    42: ("NegOptions", ()),
    43: ("PadV2Options", ()),
    44: ("GreaterOptions", ()),
    45: ("GreaterEqualOptions", ()),
    46: ("LessEqualOptions", ()),
    47: ("SelectOptions", ()),
    48: ("SliceOptions", ()),
    49: (
        "TransposeConvOptions",
        (
            ("padding", "b"),
            ("stride_w", "i"),
            ("stride_h", "i"),
            ("fused_activation_function", "b"),
            ("quantized_bias_type", "b"),
        ),
    ),
    51: ("TileOptions", ()),
    52: ("ExpandDimsOptions", ()),
    53: ("EqualOptions", ()),
    54: ("NotEqualOptions", ()),
    55: ("ShapeOptions", (("out_type", "b"),)),
    56: ("PowOptions", ()),
    57: ("ArgMinOptions", (("output_type", "b"),)),
    59: (
        "PackOptions",
        (
            ("values_count", "i"),
            ("axis", "i"),
        ),
    ),
    60: ("LogicalOrOptions", ()),
    61: ("OneHotOptions", (("axis", "i"),)),
    62: ("LogicalAndOptions", ()),
    63: ("LogicalNotOptions", ()),
    64: (
        "UnpackOptions",
        (
            ("num", "i"),
            ("axis", "i"),
        ),
    ),
    65: ("FloorDivOptions", ()),
    66: ("SquareOptions", ()),
    67: ("ZerosLikeOptions", ()),
    72: ("FloorModOptions", ()),
    74: (
        "ResizeNearestNeighborOptions",
        (
            ("align_corners", "?"),
            ("half_pixel_centers", "?"),
        ),
    ),
    75: ("LeakyReluOptions", (("alpha", "f"),)),
    76: ("SquaredDifferenceOptions", ()),
    77: ("MirrorPadOptions", (("mode", "b"),)),
    78: ("AbsOptions", ()),
    79: ("SplitVOptions", (("num_splits", "i"),)),
    81: ("ReverseV2Options", ()),
    82: ("AddNOptions", ()),
    83: ("GatherNdOptions", ()),
    84: ("CosOptions", ()),
    86: ("RankOptions", ()),
    89: ("QuantizeOptions", ()),
    91: ("HardSwishOptions", ()),
    92: ("IfOptions", (("then_subgraph_index", "i"), ("else_subgraph_index", "i"))),
    93: ("WhileOptions", (("cond_subgraph_index", "i"), ("body_subgraph_index", "i"))),
    94: ("DepthToSpaceOptions", (("block_size", "i"),)),
    98: ("SelectV2Options", ()),
    101: (
        "BatchMatMulOptions",
        (
            ("adj_x", "?"),
            ("adj_y", "?"),
            ("asymmetric_quantize_inputs", "?"),
        ),
    ),
    102: (
        "CumsumOptions",
        (
            ("exclusive", "?"),
            ("reverse", "?"),
        ),
    ),
    106: (
        "Conv3DOptions",
        (
            ("padding", "b"),
            ("stride_d", "i"),
            ("stride_w", "i"),
            ("stride_h", "i"),
            ("fused_activation_function", "b"),
            ("dilation_d_factor", "i"),
            ("dilation_w_factor", "i"),
            ("dilation_h_factor", "i"),
        ),
    ),
    116: ("GeluOptions", (("approximate", "?"),)),
    122: ("ATan2Options", ()),
    123: ("SignOptions", ()),
    125: ("BitwiseXorOptions", ()),
    126: ("RightShiftOptions", ()),
}
"""Option tables of the allowed operators, by the number of the union `BuiltinOptions`."""
