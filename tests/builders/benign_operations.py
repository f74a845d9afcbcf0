"""Benign Keras models: every operation that a functional model may hold, in the smallest model that uses it.

`OPERATIONS` names each model's builder by its class. Imported by `benign_keras` in a process of its own only.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import keras  # noqa: TID253  imported by a program of its own only
from keras import tree  # noqa: TID253

from maas_gateway.scanning import keras_names

_ROW: Final = (4, 6)
_PICTURE: Final = (8, 8, 3)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PAIRS: Final = _words("""Add Arctan2 Divide DivideNoNan Equal FloorDivide Greater GreaterEqual Hypot Less LessEqual Logaddexp LogicalAnd
    LogicalOr LogicalXor Maximum Minimum Mod Multiply NotEqual Power Subtract TrueDivide""")
_MADE_WITH: Final[Mapping[str, tuple[Any, ...]]] = {
    "Clip": (0.0, 1e6),
    "ExpandDims": (1,),
    "Moveaxis": (1, 2),
    "Reshape": ((-1, 24),),
    "Roll": (70_000, 1),
    "Split": (2, 1),
    "Stack": (1,),
    "Concatenate": (1,),
    "Swapaxes": (1, 2),
    "Tensordot": ([[2], [0]],),
    "AdaptiveAveragePool": ((2, 2),),
    "AdaptiveMaxPool": ((2, 2),),
    "AveragePool": (2,),
    "MaxPool": (2,),
    "BatchNorm": (-1,),
    "Moments": (-1,),
    "OneHot": (5,),
    "Threshold": (0.5, 1.0),
    "TopK": (2,),
    "Cast": ("float16",),
    "SaturateCast": ("uint8",),
    "Resize": ((224, 300),),
    "Take": (1,),
    "TakeAlongAxis": (1,),
    "Einsum": ("abc,acd->abd",),
    "Squeeze": (2,),
    "Rot90": (1, (1, 2)),
}
_KERNEL: Final = [[[[0.1] * 2] * 3] * 2] * 2
_CALLED_WITH: Final[Mapping[str, tuple[Any, ...]]] = {
    "BatchNorm": ([0.0] * 6, [1.0] * 6, [0.0] * 6, [1.0] * 6),
    "LayerNorm": ([1.0] * 6, [0.0] * 6),
    "RMSNorm": ([1.0] * 6,),
    "Conv": (_KERNEL,),
    "ConvTranspose": ([[[[0.1] * 3] * 2] * 2] * 2,),
    "DepthwiseConv": (_KERNEL,),
    "SeparableConv": (_KERNEL, [[[[0.1] * 4] * 6]]),
    "Take": ([0, 1],),
    "Tensordot": ([[0.5] * 3] * 6,),
    "Dot": ([[0.5] * 3] * 6,),
    "Matmul": ([[0.5] * 3] * 6,),
    "GetItem": ((slice(None), slice(0, 4, 2), Ellipsis, 1),),
    "Where": (1.0, 0.0),
}
_OF_PICTURES: Final = _words("""AdaptiveAveragePool AdaptiveMaxPool AveragePool MaxPool Conv ConvTranspose DepthwiseConv SeparableConv
    RGBToGrayscale Resize""")


def _input(name: str) -> keras.KerasTensor:
    shape = _PICTURE if name in _OF_PICTURES else _ROW
    if name == "OneHot":
        return keras.Input(shape, dtype="int32")
    if name == "Squeeze":
        return keras.Input((4, 1, 6))
    return keras.Input(shape, dtype="bool" if name.startswith("Logical") or name in {"Where", "All", "Any"} else None)


def _build(module: str, name: str) -> keras.Model:
    operation = getattr(importlib.import_module(module), name)(*_MADE_WITH.get(name, ()))
    start = _input(name)
    more: tuple[Any, ...] = tuple(
        keras.ops.convert_to_tensor(value) if isinstance(value, list) else value for value in _CALLED_WITH.get(name, ())
    )
    starts = [start]
    if name in {"Stack", "Concatenate"}:
        answer = operation([start, start])
    elif name == "Einsum":
        starts.append(keras.Input((6, 2)))
        answer = operation(*starts)
    elif name == "TakeAlongAxis":
        starts.append(keras.Input(_ROW, dtype="int32"))
        answer = operation(*starts)
    elif name == "DotProductAttention":
        starts = [keras.Input((5, 2, 4)) for _ in range(3)]
        answer = operation(*starts)
    elif name in _PAIRS:
        starts.append(_input(name))
        answer = operation(*starts)
    else:
        answer = operation(start, *more)
    return keras.Model(starts, tree.flatten(answer))


def _all() -> dict[str, Callable[[], keras.Model]]:
    return {
        f"operation {module.rsplit('.', 1)[-1]}.{name}": functools.partial(_build, module, name)
        for module, names in keras_names.OPERATIONS.items()
        for name in sorted(names)
    }


OPERATIONS: Final = MappingProxyType(_all())
