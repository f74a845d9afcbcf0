"""The datatypes of the Open Inference Protocol and their names in NumPy and TensorFlow.

Source: Open Inference Protocol, "Tensor Data Types"; TensorFlow, `types.proto`.
"""

from enum import StrEnum
from types import MappingProxyType
from typing import Final

import numpy as np
from numpy.typing import DTypeLike


class Datatype(StrEnum):
    """A tensor's element type, by its protocol name."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    __hash__ = str.__hash__  # an enumeration's own is Python code, and every tensor asks for several

    @property
    def numpy(self) -> np.dtype:
        """The NumPy type of one element; BYTES are Python objects."""
        return _NUMPY[self]

    @property
    def tensorflow(self) -> str:
        """TensorFlow's name for it, `DT_…`."""
        return _TENSORFLOW[self]

    @property
    def is_float(self) -> bool:
        """Whether elements are floating-point numbers."""
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        """Whether elements are integers (BOOL is not)."""
        return self.numpy.kind in "iu"


def datatype_of(dtype: DTypeLike) -> Datatype:
    """Return the protocol's name of a NumPy type.

    Raises:
        KeyError: the protocol has none for it.
    """
    return _BY_NUMPY[np.dtype(dtype)]


_FLOATS: Final = frozenset({Datatype.FP16, Datatype.FP32, Datatype.FP64})
_NUMPY: Final = MappingProxyType(
    {
        Datatype.BOOL: np.dtype(np.bool_),
        Datatype.UINT8: np.dtype(np.uint8),
        Datatype.UINT16: np.dtype(np.uint16),
        Datatype.UINT32: np.dtype(np.uint32),
        Datatype.UINT64: np.dtype(np.uint64),
        Datatype.INT8: np.dtype(np.int8),
        Datatype.INT16: np.dtype(np.int16),
        Datatype.INT32: np.dtype(np.int32),
        Datatype.INT64: np.dtype(np.int64),
        Datatype.FP16: np.dtype(np.float16),
        Datatype.FP32: np.dtype(np.float32),
        Datatype.FP64: np.dtype(np.float64),
        Datatype.BYTES: np.dtype(np.object_),
    }
)
_BY_NUMPY: Final = MappingProxyType({dtype: datatype for datatype, dtype in _NUMPY.items()})
_TENSORFLOW: Final = MappingProxyType(
    {
        Datatype.BOOL: "DT_BOOL",
        Datatype.UINT8: "DT_UINT8",
        Datatype.UINT16: "DT_UINT16",
        Datatype.UINT32: "DT_UINT32",
        Datatype.UINT64: "DT_UINT64",
        Datatype.INT8: "DT_INT8",
        Datatype.INT16: "DT_INT16",
        Datatype.INT32: "DT_INT32",
        Datatype.INT64: "DT_INT64",
        Datatype.FP16: "DT_HALF",
        Datatype.FP32: "DT_FLOAT",
        Datatype.FP64: "DT_DOUBLE",
        Datatype.BYTES: "DT_STRING",
    }
)
