"""Which requests may share a batch.

Rules:

* only requests to one servable meet at all: a batcher has one;
* only requests of one tenant: a kernel that mixes rows, by a bug or by a hostile graph, then mixes
  a tenant's rows with its own;
* only requests whose arrays agree in everything but the number of rows: datatypes and trailing
  dimensions;
* none, if a model has an input or an output without a free first dimension: its rows cannot be
  told apart.
"""

from typing import NamedTuple

import numpy as np

from maas_gateway.errors import SignatureMismatch
from maas_gateway.identifiers import TenantId
from maas_gateway.tensors.inference import InferenceRequest
from maas_gateway.tensors.signature import FREE, ModelSignature

Form = tuple[tuple[np.dtype, tuple[int, ...]], ...]
"""Datatype and dimensions after the first, for each input in the signature's order."""


class BatchKey(NamedTuple):
    """Equal for requests that may share a batch; a tuple, for the speed of its hash.

    Attributes:
        tenant: whose request it is.
        form: of its inputs.
    """

    tenant: TenantId
    form: Form


def has_rows(signature: ModelSignature) -> bool:
    """Tell whether rows go in and come out one by one, so that requests can share a batch."""
    inputs, outputs = signature.inputs, signature.outputs
    return bool(inputs and outputs) and all(spec.shape[:1] == (FREE,) for spec in (*inputs, *outputs))


def key_of(request: InferenceRequest, tenant: TenantId) -> BatchKey:
    """Return what a request shares with those it may be batched with."""
    return BatchKey(tenant, tuple([(tensor.array.dtype, tensor.array.shape[1:]) for tensor in request.inputs]))


def check_rows(request: InferenceRequest) -> None:
    """Refuse a request whose arrays do not have the rows it claims: they would be cut at a neighbour's.

    Raises:
        SignatureMismatch: an input has another number of rows than `n_rows`.
    """
    for tensor in request.inputs:
        if tensor.array.shape[:1] != (request.n_rows,):
            raise SignatureMismatch(f"input '{tensor.name}': expected {request.n_rows} rows")
