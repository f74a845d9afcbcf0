"""What a model takes and gives: names, datatypes, shapes; and whether a request fits.

Rules: every input of the signature is given once and nothing else; the datatype is the
signature's; the rank is the signature's and every dimension equals it, -1 being free; where the
first dimension is free in all inputs it is the batch and is the same for all of them, at least 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maas_gateway.errors import SignatureMismatch
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.tensor import Tensor

FREE = -1
"""A dimension that the request chooses."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output as the model declares it.

    Attributes:
        name: unique among the model's inputs or outputs.
        datatype: element type.
        shape: dimensions in order, -1 where the request chooses.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]

    def to_json(self) -> dict[str, object]:
        """Return `{"name", "datatype", "shape"}`."""
        return {"name": self.name, "datatype": self.datatype.value, "shape": list(self.shape)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TensorSpec":
        """Read what `to_json` wrote."""
        return cls(str(value["name"]), Datatype(value["datatype"]), tuple(int(n) for n in value["shape"]))

    def check(self, tensor: Tensor) -> None:
        """Refuse a tensor that is not of this kind.

        Raises:
            SignatureMismatch: datatype, rank or a dimension differs.
        """
        if tensor.datatype is not self.datatype:
            raise SignatureMismatch(f"input '{self.name}': expected {self.datatype} and got {tensor.datatype}")
        shape = tensor.array.shape
        if shape and self.shape[:1] == (FREE,) and shape[1:] == self.shape[1:]:
            return  # rows of one form: all but a few models' inputs, and told without a loop
        if len(shape) != len(self.shape) or any(
            want not in (FREE, got) for want, got in zip(self.shape, shape, strict=True)
        ):
            raise SignatureMismatch(f"input '{self.name}': expected shape {list(self.shape)} and got {list(shape)}")


@dataclass(frozen=True, slots=True)
class ModelSignature:
    """All inputs and outputs of a model, in the model's own order.

    Attributes:
        inputs: in order.
        outputs: in order.
        has_batch: whether every input's first dimension is free, so that rows can be batched.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    has_batch: bool = field(init=False, repr=False, compare=False)
    _names: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_batch", all(spec.shape[:1] == (FREE,) for spec in self.inputs))
        object.__setattr__(self, "_names", frozenset(spec.name for spec in self.inputs))

    def input(self, name: str) -> TensorSpec:
        """Return the input of that name.

        Raises:
            SignatureMismatch: there is none.
        """
        for spec in self.inputs:
            if spec.name == name:
                return spec
        known = ", ".join(spec.name for spec in self.inputs)
        raise SignatureMismatch(f"unknown input '{name}'; the model's inputs are: {known}")

    def check(self, tensors: Sequence[Tensor]) -> int:
        """Refuse inputs that do not fit; return the number of rows.

        Returns:
            The common first dimension, or 1 where the model has no batch dimension.

        Raises:
            SignatureMismatch: an input is missing, unknown, given twice, of another datatype or
                shape, or the inputs disagree on the number of rows.
        """
        given = {tensor.name: tensor for tensor in tensors}
        if len(given) != len(tensors):
            raise SignatureMismatch("an input is given twice")
        if given.keys() != self._names:
            for name in given:
                self.input(name)
            missing = next(spec.name for spec in self.inputs if spec.name not in given)
            raise SignatureMismatch(f"missing input '{missing}'")
        n_rows = 1
        has_batch = self.has_batch
        for position, spec in enumerate(self.inputs):
            tensor = given[spec.name]
            spec.check(tensor)
            if has_batch:
                rows = tensor.array.shape[0]
                if rows < 1:
                    raise SignatureMismatch(f"input '{spec.name}': at least one row is needed")
                if position and rows != n_rows:
                    raise SignatureMismatch(f"input '{spec.name}': {rows} rows where other inputs have {n_rows}")
                n_rows = rows
        return n_rows

    def to_json(self) -> dict[str, object]:
        """Return `{"inputs": […], "outputs": […]}`."""
        return {"inputs": [s.to_json() for s in self.inputs], "outputs": [s.to_json() for s in self.outputs]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ModelSignature":
        """Read what `to_json` wrote."""
        return cls(
            tuple(TensorSpec.from_json(spec) for spec in value["inputs"]),
            tuple(TensorSpec.from_json(spec) for spec in value["outputs"]),
        )
