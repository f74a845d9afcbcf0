"""A publisher's own sample: rows as the model's callers will send them, on which its forms are compared, besides random ones.

It is a request of the open protocol, `{"inputs": [{"name", "datatype", "shape", "data"}]}`: what would be sent to
`/v2/models/{model}/infer`. Fields that are not named here are passed over.

Rules: it is read in the confined child, which alone knows what the model takes; it is never stored; what does not fit
the model refuses the upload, since nobody else can say what was meant.

Source: Open Inference Protocol, "Inference Request", "Request Input", "Tensor Data".
"""

import math
from collections.abc import Sequence
from types import MappingProxyType
from typing import Final

import numpy as np
import orjson
from numpy.typing import NDArray

from maas_gateway.errors import SignatureMismatch
from maas_gateway.inference.conversion.refusal import NotConvertible, sentence
from maas_gateway.tensors.arrays import MAX_RANK, Dialect, Fault, Strings, array_from_json
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor

_DIALECT: Final = Dialect(MappingProxyType({datatype: datatype.value for datatype in Datatype}), Strings.UTF8)


def read_sample(content: bytes, inputs: Sequence[TensorSpec]) -> tuple[list[NDArray[np.generic]], int]:
    """Return an array for each input, in the model's order, and how many rows they have.

    Args:
        content: the file.
        inputs: what the model takes.

    Raises:
        NotConvertible: it is malformed, or does not fit the model.
    """
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as cause:
        raise NotConvertible(f"the sample is not JSON: {sentence(str(cause))}") from cause
    entries = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise NotConvertible('the sample must be {"inputs": [{"name", "datatype", "shape", "data"}]}')
    signature = ModelSignature(tuple(inputs), ())
    try:
        given = [_read(entry, position, signature) for position, entry in enumerate(entries)]
        n_rows = signature.check(given)
    except SignatureMismatch as mismatch:
        raise NotConvertible(f"the sample does not fit the model: {sentence(mismatch.detail)}") from mismatch
    arrays = {tensor.name: tensor.array for tensor in given}
    return [arrays[spec.name] for spec in inputs], n_rows


def _read(entry: object, position: int, signature: ModelSignature) -> Tensor:
    """Return one input.

    Raises:
        SignatureMismatch: it is malformed, or none of the model's.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise SignatureMismatch(f"inputs[{position}] has no name")
    spec = signature.input(entry["name"])
    if entry.get("datatype") != spec.datatype.value:
        raise SignatureMismatch(f"input '{spec.name}': 'datatype' must be {spec.datatype}")
    if spec.datatype is Datatype.FP16:
        raise SignatureMismatch(f"input '{spec.name}': JSON does not carry FP16, so this model takes no sample")
    shape, data = entry.get("shape"), entry.get("data")
    if not isinstance(shape, list) or len(shape) > MAX_RANK or not all(type(n) is int and n >= 0 for n in shape):
        raise SignatureMismatch(f"input '{spec.name}': 'shape' must be a list of sizes")
    if not isinstance(data, list):
        raise SignatureMismatch(f"input '{spec.name}': 'data' must be a list")

    def describe(fault: Fault) -> str:
        return f"input '{spec.name}': {fault.reason} (at data{fault.path})"

    array = array_from_json(data, spec.datatype, _DIALECT, describe)
    if array.size != math.prod(shape):
        raise SignatureMismatch(
            f"input '{spec.name}': 'shape' has {math.prod(shape)} elements and 'data' has {array.size}"
        )
    return Tensor(spec.name, spec.datatype, array.reshape(shape))


def note(n_rows: int) -> str:
    """Return what a publisher reads about it."""
    return f"every form was compared on the {n_rows} row{'' if n_rows == 1 else 's'} of the publisher's sample, too"
