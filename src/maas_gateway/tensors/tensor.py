"""A named array with its protocol datatype."""

from typing import NamedTuple

import numpy as np

from maas_gateway.tensors.datatypes import Datatype, datatype_of


class Tensor(NamedTuple):
    """One input or output; a tuple, because each request makes several and a dataclass takes twice the time.

    Attributes:
        name: its name in the model's signature.
        datatype: its element type.
        array: the values, C-contiguous, native byte order, dtype `datatype.numpy`.
    """

    name: str
    datatype: Datatype
    array: np.ndarray

    @classmethod
    def of(cls, name: str, array: np.ndarray) -> "Tensor":
        """Name an array whose dtype the protocol has."""
        return cls(name, datatype_of(array.dtype), array)

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return self.array.shape
