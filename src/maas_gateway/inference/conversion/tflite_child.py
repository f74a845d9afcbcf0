"""What the confined child does with a rebuilt TensorFlow Lite file: load it, run it, answer.

The request is the file's bytes; the argument `size_bytes` is how many. The answer's header is `{"refused": sentence}`,
or that of `trial.Outcome`: the file as it came is the plan, so there is no payload.

Rules: inputs and outputs are named as the file's one signature names them, else as its tensors are named, made unique
by a suffix. A dimension is free where the shape signature says -1. The engine is the reference of itself: an upload of
this format is no conversion, so what is seen is that a second interpreter answers alike, to the last bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from maas_gateway.confinement.channel import Channel
from maas_gateway.inference.conversion.receiving import receive
from maas_gateway.inference.conversion.refusal import NotConvertible, raise_if_out_of_memory, sentence
from maas_gateway.inference.conversion.trial import Array, CannotCompute, Declared, Outcome, Run, try_out, unique_names
from maas_gateway.tensors.datatypes import datatype_of


def serve(channel: Channel) -> None:
    """Try the file that the channel brings."""
    try:
        header = try_file(*receive(channel)).header("litert")
    except NotConvertible as refusal:
        header = {"refused": str(refusal)}
    channel.answer(header)


def try_file(content: bytes, sample: bytes = b"") -> Outcome:
    """Return what the engine does with a file, and with the publisher's sample; empty for none.

    Raises:
        NotConvertible: it does not load or run, or its answers differ.
    """
    engine = _opened(content)
    inputs, outputs = engine.get_input_details(), engine.get_output_details()
    names = _signature_names(engine)
    return try_out(
        _declared(inputs, names.get("inputs", {})),
        # A file may declare an output's size for one row only: it is what is seen.
        [replace(each, shape=None) for each in _declared(outputs, names.get("outputs", {}))],
        _running(engine),
        _running(_opened(content)),
        sample=sample,
    )


def _opened(content: bytes) -> Any:
    # imported where it runs: the interpreter belongs into the confined child here
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415

    try:
        return Interpreter(model_content=content)
    except (RuntimeError, ValueError) as objection:
        raise_if_out_of_memory(objection)
        raise NotConvertible(f"the engine cannot load it: {sentence(str(objection))}") from objection


def _running(engine: Any) -> Run:
    inputs = [int(detail["index"]) for detail in engine.get_input_details()]
    outputs = [int(detail["index"]) for detail in engine.get_output_details()]

    def run(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        try:
            for index, array in zip(inputs, arrays, strict=True):
                engine.resize_tensor_input(index, array.shape, strict=True)
            engine.allocate_tensors()
            for index, array in zip(inputs, arrays, strict=True):
                engine.set_tensor(index, array)
            engine.invoke()
            return tuple([np.array(engine.get_tensor(index)) for index in outputs])
        except (RuntimeError, ValueError) as objection:
            raise_if_out_of_memory(objection)
            raise CannotCompute(sentence(str(objection))) from objection

    return run


def _signature_names(engine: Any) -> Mapping[str, Mapping[int, str]]:
    """Return the names of the tensors by index, as the file's one signature gives them."""
    keys = list(engine.get_signature_list())
    if len(keys) != 1:
        return {}
    runner = engine.get_signature_runner(keys[0])
    return {
        "inputs": {int(detail["index"]): name for name, detail in runner.get_input_details().items()},
        "outputs": {int(detail["index"]): name for name, detail in runner.get_output_details().items()},
    }


def _declared(details: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> list[Declared]:
    given = unique_names([names.get(int(detail["index"]), str(detail["name"])) for detail in details])
    found = []
    for name, detail in zip(given, details, strict=True):
        try:
            datatype = datatype_of(detail["dtype"])
        except KeyError:
            raise NotConvertible(f"tensor '{name}' is of a kind that is not served") from None
        shape = tuple(None if size < 0 else int(size) for size in detail["shape_signature"])
        found.append(Declared(name, datatype, shape))
    return found
