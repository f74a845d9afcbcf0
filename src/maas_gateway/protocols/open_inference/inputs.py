"""One input object of an infer request as a tensor.

Rules: `data` is a list, nested or flat, rectangular, row-major; only its number of elements must be
that of `shape`. Values are of the datatype, in its range, finite. JSON does not carry FP16; no model here takes BF16.
BYTES are UTF-8 strings, or base64 with the parameter `content_type` of `base64`. Values come as `data`
only: neither as binary data nor in shared memory.

Source: Open Inference Protocol, "Inference Request", "Request Input", "Tensor Data"; NVIDIA Triton,
"Binary Tensor Data Extension" for the sentences about binary data. Deviation from Triton: integers
are checked against their range, and FP32 against its own.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

from maas_gateway.errors import InvalidRequest, MalformedBody, SignatureMismatch, Unsupported
from maas_gateway.protocols.open_inference.binary import Section, shaped
from maas_gateway.tensors.arrays import MAX_RANK, Dialect, Fault, Strings, array_from_json
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor
from maas_gateway.tensors.values import json_type, quoted, shown


def read_input(entry: object, position: int, signature: ModelSignature, section: Section) -> Tensor:
    """Return the tensor of `inputs[position]`; its shape is not yet checked against the signature.

    Raises:
        MalformedBody: a field is missing or of the wrong type.
        SignatureMismatch: the model has no such input, or the values are not what the fields say.
        InvalidRequest: JSON does not carry the datatype.
        Unsupported: the values come in shared memory.
    """
    if not isinstance(entry, dict):
        raise MalformedBody(f"inputs[{position}] must be an Object and is of type {json_type(entry)}")
    name = entry.get("name")
    if not isinstance(name, str):
        raise MalformedBody(f"inputs[{position}]: 'name' must be a string")
    spec = spec_of(name, signature)
    dialect = _UTF8
    if "parameters" in entry:
        parameters = entry["parameters"]
        dialect = _read_parameters(parameters, name, has_data="data" in entry)
        if "binary_data_size" in parameters:
            check_datatype(entry.get("datatype"), spec)
            shape = read_shape(entry.get("shape"), name)
            return Tensor(name, spec.datatype, section.take(spec, shape, parameters["binary_data_size"]))
    datatype = _datatype_of(entry.get("datatype"), spec)
    if "data" not in entry:
        raise MalformedBody(f"input '{name}': 'data' is missing")
    return Tensor(name, datatype, _read_data(entry["data"], read_shape(entry.get("shape"), name), spec, dialect))


def spec_of(name: str, signature: ModelSignature) -> TensorSpec:
    """Return the model's input of that name.

    Raises:
        SignatureMismatch: it has none.
    """
    for spec in signature.inputs:
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in signature.inputs)
    raise SignatureMismatch(f"unknown input {quoted(name)}; the model's inputs are: {known}")


def _datatype_of(value: object, spec: TensorSpec) -> Datatype:
    if isinstance(value, str) and value in _NOT_IN_JSON:
        raise InvalidRequest(
            f"receiving {value} data via JSON is not supported. Please use the binary data format for input {spec.name}"
        )
    return check_datatype(value, spec)


def check_datatype(value: object, spec: TensorSpec) -> Datatype:
    """Return a request's `datatype` if it is the input's.

    Raises:
        MalformedBody: it is no string.
        SignatureMismatch: it is another one.
    """
    if not isinstance(value, str):
        raise MalformedBody(f"input '{spec.name}': 'datatype' must be a string")
    if value in _SERVED_BY_NONE:
        raise SignatureMismatch(
            f"input '{spec.name}': no model of this server takes {value}; this one takes {spec.datatype}"
        )
    datatype = _DATATYPES.get(value)
    if datatype is None:
        raise SignatureMismatch(
            f"input '{spec.name}': unknown datatype {quoted(value)}; the model's is {spec.datatype}"
        )
    if datatype is not spec.datatype:
        raise SignatureMismatch(f"input '{spec.name}': expected {spec.datatype} and got {datatype}")
    return datatype


def _read_parameters(parameters: object, name: str, *, has_data: bool) -> Dialect:
    """Refuse values that are elsewhere than in `data`; return how strings are written."""
    if not isinstance(parameters, dict):
        raise MalformedBody(f"input '{name}': 'parameters' must be an Object")
    is_binary, is_shared = "binary_data_size" in parameters, "shared_memory_region" in parameters
    if has_data + is_binary + is_shared > 1:
        raise MalformedBody(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            f"'shared_memory_region' in 'parameters'. But input '{name}' has more than one of them"
        )
    if is_shared:
        raise Unsupported(f"input '{name}': this server has no shared memory with its clients")
    return _BASE64 if parameters.get("content_type") == "base64" else _UTF8


def read_shape(shape: object, name: str) -> tuple[int, ...]:
    """Return a request's `shape`.

    Raises:
        MalformedBody: it is no list of integers that are not negative.
        SignatureMismatch: it has more dimensions than any model.
    """
    if not isinstance(shape, list):
        raise MalformedBody(f"input '{name}': 'shape' must be a list of integers")
    if len(shape) > MAX_RANK:
        raise SignatureMismatch(f"input '{name}': 'shape' has more than {MAX_RANK} dimensions")
    for position, size in enumerate(shape):
        if type(size) is not int or not 0 <= size <= _MAX_SIZE:
            raise MalformedBody(
                f"input '{name}': shape[{position}] must be an integer from 0 to {_MAX_SIZE} and is {shown(size)}"
            )
    return tuple(shape)


def _read_data(data: object, shape: tuple[int, ...], spec: TensorSpec, dialect: Dialect) -> np.ndarray:
    def describe(fault: Fault) -> str:
        return f"input '{spec.name}': {fault.reason} (at data{fault.path})"

    if not isinstance(data, list):
        raise MalformedBody(f"input '{spec.name}': 'data' must be a list and is of type {json_type(data)}")
    array = array_from_json(data, spec.datatype, dialect, describe)
    if array.size != math.prod(shape):
        raise SignatureMismatch(
            f"input '{spec.name}': shape {list(shape)} has {math.prod(shape)} elements and 'data' has {array.size}"
        )
    if spec.datatype is Datatype.FP32 and np.count_nonzero(np.isfinite(array)) != array.size:
        position = int(np.argmin(np.isfinite(array)))
        raise SignatureMismatch(f"input '{spec.name}': element {position} of 'data' is out of range for type: FP32")
    return shaped(array, spec.name, shape)


_MAX_SIZE: Final = 2**63 - 1
_NOT_IN_JSON: Final = frozenset({"FP16"})
_SERVED_BY_NONE: Final = frozenset({"BF16"})
"""Datatypes of the protocol that no engine here takes at its edge: a model that has them there is refused when it is uploaded."""
_DATATYPES: Final[Mapping[str, Datatype]] = MappingProxyType({datatype.value: datatype for datatype in Datatype})
_NAMES: Final = MappingProxyType({datatype: datatype.value for datatype in Datatype})
_UTF8: Final = Dialect(type_names=_NAMES, strings=Strings.UTF8)
_BASE64: Final = Dialect(type_names=_NAMES, strings=Strings.BASE64)
