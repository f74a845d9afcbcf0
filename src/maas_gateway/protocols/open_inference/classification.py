"""The classification extension: an output's best classes in the place of its scores.

Rules: an output of rank 1, or of rank 2 with the rows first, is turned into BYTES; of each row the k largest values in
descending order, equal ones by their index, as `<value>:<index>`, the value with six decimals. k is at most the number
of classes. It is also how a client asks for less than all scores.

Source: NVIDIA Triton, "Classification Extension", and what its server writes.
"""

from typing import Final

import numpy as np

from maas_gateway.errors import InvalidRequest
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.tensor import Tensor

_MAX_RANK: Final = 2


def best_classes(tensor: Tensor, k: int, *, has_rows: bool) -> Tensor:
    """Return the classes with the k largest values.

    Args:
        tensor: (rows, classes), or (classes,) where the model has no rows; numbers.
        k: at least 1; more than there are classes means all.
        has_rows: whether the first dimension is rows.

    Raises:
        InvalidRequest: the output has no such shape, or holds strings.
    """
    array = tensor.array
    if tensor.datatype is Datatype.BYTES or array.ndim != 1 + has_rows:
        shape = "(rows, classes)" if has_rows else "(classes,)"
        raise InvalidRequest(f"output '{tensor.name}': classification needs numbers of shape {shape}")
    rows = array if has_rows else array.reshape(1, -1)
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :k]
    best = np.empty(order.shape, np.object_)
    for at, index in np.ndenumerate(order):
        best[at] = f"{float(rows[at[0], index]):f}:{index}".encode()
    return Tensor(tensor.name, Datatype.BYTES, best if has_rows else best.reshape(-1))
