"""A LiteRT flatbuffer in an interpreter of its own, where it is compared: in the confined child."""

from collections.abc import Sequence

import numpy as np

from maas_gateway.inference.conversion.refusal import NotConvertible
from maas_gateway.inference.conversion.samples import Array


class Flatbuffer:
    """A flatbuffer, called with arrays in the signature's order.

    Its inputs are named `input_0`, `input_1`, … in the order of the signature, as `lowering.trace` names them.

    Attributes:
        input_order: for each input of the signature, its position among the flatbuffer's inputs.
        output_order: the same for outputs.
    """

    def __init__(self, content: bytes, *, n_inputs: int, n_outputs: int) -> None:
        # imported where it runs: the interpreter belongs into the confined child here
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

        self._interpreter = Interpreter(model_content=content)
        positions = {str(tensor["name"]): n for n, tensor in enumerate(self._interpreter.get_input_details())}
        try:
            self.input_order = tuple(positions[f"input_{n}"] for n in range(n_inputs))
        except KeyError:
            raise NotConvertible("the converter drops an input that no output depends on") from None
        # The converter keeps the order of a list of outputs; that each has its name is what the comparison proves.
        self.output_order = tuple(range(len(self._interpreter.get_output_details())))
        if len(self.input_order) != len(positions) or len(self.output_order) != n_outputs:
            raise NotConvertible("the converter changes the number of inputs or outputs")

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """Return the outputs, each a copy."""
        details = self._interpreter.get_input_details()
        indices = [int(details[position]["index"]) for position in self.input_order]
        for index, array in zip(indices, arrays, strict=True):
            self._interpreter.resize_tensor_input(index, array.shape)
        self._interpreter.allocate_tensors()
        for index, array in zip(indices, arrays, strict=True):
            self._interpreter.set_tensor(index, array)
        self._interpreter.invoke()
        outputs = self._interpreter.get_output_details()
        return [np.array(self._interpreter.get_tensor(outputs[position]["index"])) for position in self.output_order]
