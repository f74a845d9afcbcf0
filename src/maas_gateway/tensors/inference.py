"""A prediction asked for and its answer, the same for every door."""

from typing import NamedTuple

from maas_gateway.tensors.tensor import Tensor


class InferenceRequest(NamedTuple):
    """Checked inputs of one prediction; a tuple, as `Tensor` is.

    Attributes:
        inputs: one tensor for each input of the signature, in the signature's order.
        n_rows: the common first dimension, or 1 where the model has no batch.
        outputs: the outputs asked for, in that order; empty means all.
        priority: of a tenant's requests that wait, 1 is the first and 0 the last.
        timeout_s: seconds from when it was read after which an answer is of no use; None for the door's own bound.
    """

    inputs: tuple[Tensor, ...]
    n_rows: int
    outputs: tuple[str, ...] = ()
    priority: int = 0
    timeout_s: float | None = None


class InferenceResponse(NamedTuple):
    """The answer of one prediction; a tuple, as `Tensor` is.

    Attributes:
        model: the model's name as the caller named it.
        version: the version that answered.
        outputs: in the order asked for, else in the signature's.
    """

    model: str
    version: int
    outputs: tuple[Tensor, ...]
