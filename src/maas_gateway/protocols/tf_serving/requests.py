"""The tensors of a predict request, in row format (`instances`) or column format (`inputs`).

Rules: rows are all values or all objects, `{"b64": …}` being a value; an object's keys are exactly
the inputs' names; rows have one shape, and their number becomes the first dimension. A column object
names every input and may name more. What TensorFlow Serving cannot read from JSON (FP16, UINT16) is
an error of the row that holds it, and unsupported in columns, as there.

Source: TensorFlow Serving RESTful API, "Specifying input tensors in row format", "… in column format".
"""

import math
from types import MappingProxyType
from typing import Final, cast

from maas_gateway.errors import MalformedBody, SignatureMismatch, UnsupportedDatatype
from maas_gateway.tensors.arrays import B64_KEY, Dialect, Fault, Strings, array_from_json, shape_of
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.tensor import Tensor
from maas_gateway.tensors.values import quoted, shown


def read_rows(rows: object, signature: ModelSignature) -> tuple[Tensor, ...]:
    """Return the inputs that `instances` holds, one for each of the signature's.

    Raises:
        MalformedBody: it is no non-empty list, or mixes values and objects.
        SignatureMismatch: a row's keys, shape or values do not fit the inputs.
    """
    if not isinstance(rows, list):
        raise MalformedBody("Expecting 'instances' to be an list/array")
    if not rows:
        raise MalformedBody("No values in 'instances' array")
    if dict in set(map(type, rows)) and _are_objects(rows):
        return _read_objects(rows, signature)
    if len(signature.inputs) != 1:
        raise SignatureMismatch(
            "instances is a plain list, but expecting list of objects as multiple input tensors required "
            f"as per tensorinfo_map: {_names(signature)}"
        )
    return (_tensor_of_rows(rows, signature.inputs[0], in_objects=False),)


def read_columns(value: object, signature: ModelSignature) -> tuple[Tensor, ...]:
    """Return the inputs that `inputs` holds, one for each of the signature's.

    Raises:
        SignatureMismatch: an input is missing, or its value is no such array.
        UnsupportedDatatype: JSON does not carry an input's datatype.
    """
    columns = _as_object(value)
    if columns is not None:
        return tuple(_named_column(columns, spec) for spec in signature.inputs)
    if len(signature.inputs) != 1:
        raise SignatureMismatch(
            "inputs is a plain value/list, but expecting an object as multiple input tensors required "
            f"as per tensorinfo_map: {_names(signature)}"
        )
    return (_tensor_of_column(value, signature.inputs[0], "inputs"),)


def _as_object(value: object) -> dict[str, object] | None:
    """Return an object other than `{"b64": "…"}`, which stands for a string; None for any other value."""
    if not isinstance(value, dict) or (len(value) == 1 and isinstance(value.get(B64_KEY), str)):
        return None
    return value


def _are_objects(rows: list[object]) -> bool:
    """Whether all rows are objects, or none; refuse a mixture."""
    first = _as_object(rows[0]) is not None
    for position, row in enumerate(rows):
        if (_as_object(row) is not None) != first:
            got = "list" if isinstance(row, list) else "value" if first else "object"
            raise MalformedBody(f"Expecting {'object' if first else 'value/list'} but got {got} at item {position}")
    return first


def _read_objects(rows: list[object], signature: ModelSignature) -> tuple[Tensor, ...]:
    objects = cast("list[dict[str, object]]", rows)
    names = {spec.name for spec in signature.inputs}
    for position, row in enumerate(objects):
        if row.keys() != names:
            reason = f"keys must be equal to: {_names(signature)}"
            unknown = next((name for name in row if name not in names), None)
            if unknown is not None:
                reason = f"does not have named input: {quoted(unknown)[1:-1]}"
            raise SignatureMismatch(
                f"Failed to process element: {position} of 'instances' list. JSON object: {reason} (instances[{position}])"
            )
    return tuple(
        _tensor_of_rows([row[spec.name] for row in objects], spec, in_objects=True) for spec in signature.inputs
    )


def _tensor_of_rows(rows: list[object], spec: TensorSpec, *, in_objects: bool) -> Tensor:
    """Return one input from its value in each row."""
    key = f"[{quoted(spec.name)}]" if in_objects else ""

    def describe(fault: Fault) -> str:
        position, *inner = fault.indices or (0,)
        place = f"instances[{position}]{key}" + "".join(f"[{index}]" for index in inner)
        reason = _row_mismatch(rows, position) if fault.is_ragged else None
        return (
            f"Failed to process element: {position}{f' key: {spec.name}' if in_objects else ''} of 'instances' list. "
            f"Error: INVALID_ARGUMENT: {reason or fault.reason} (at {place})"
        )

    if spec.datatype in _UNREADABLE:
        raise SignatureMismatch(
            f"Failed to process element: 0{f' key: {spec.name}' if in_objects else ''} of 'instances' list. "
            f"Error: UNIMPLEMENTED: {_unreadable(rows, spec)}"
        )
    return Tensor(spec.name, spec.datatype, array_from_json(rows, spec.datatype, DIALECT, describe))


def _row_mismatch(rows: list[object], position: int) -> str | None:
    """Return how a row's shape differs from the first row's, or None where a row is ragged in itself."""
    wanted, got = shape_of(rows[0]), shape_of(rows[position])
    if wanted is None or got is None or wanted == got:
        return None
    if math.prod(wanted) != math.prod(got):
        return f"Expecting tensor size: {math.prod(wanted)} but got: {math.prod(got)}"
    return f"Expecting shape {list(wanted)} but got: {list(got)}"


def _named_column(columns: dict[str, object], spec: TensorSpec) -> Tensor:
    if spec.name not in columns:
        raise SignatureMismatch(f"Missing named input: {spec.name} in 'inputs' object.")
    return _tensor_of_column(columns[spec.name], spec, f"inputs[{quoted(spec.name)}]")


def _tensor_of_column(value: object, spec: TensorSpec, place: str) -> Tensor:
    def describe(fault: Fault) -> str:
        return f"{fault.reason} (at {place}{fault.path})"

    if spec.datatype in _UNREADABLE:
        raise UnsupportedDatatype(f"{_unreadable(value, spec)} (at {place})")
    return Tensor(spec.name, spec.datatype, array_from_json(value, spec.datatype, DIALECT, describe))


def _unreadable(value: object, spec: TensorSpec) -> str:
    while isinstance(value, list) and value:
        value = value[0]
    return f"Conversion of JSON Value: {shown(value)} to type: {DIALECT.type_names[spec.datatype]}"


def _names(signature: ModelSignature) -> str:
    return ",".join(sorted(spec.name for spec in signature.inputs))


_UNREADABLE: Final = frozenset({Datatype.FP16, Datatype.UINT16})
DIALECT: Final = Dialect(
    type_names=MappingProxyType({datatype: datatype.tensorflow[3:].lower() for datatype in Datatype}),
    strings=Strings.UTF8_OR_B64_OBJECT,
)
