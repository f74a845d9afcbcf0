"""What the confined child does with a rebuilt ONNX model: load it, run it, compare, answer.

The request is the publisher's sample, if there is one, and the model's bytes; `receiving` says how many. The answer's header is `{"refused": sentence}`,
or that of `trial.Outcome`: the model as it came is the plan, so there is no payload.

Rules: the model passes the scanner here as well, which also tells what it takes and gives. It answers as the engine
does when it optimises, and the reference is the same engine computing node by node. Where OpenVINO is installed, it is
held against the same reference: one more way to serve the model, or a note that says why not.
"""

import re
from collections.abc import Sequence
from typing import Final

from maas_gateway.confinement.channel import Channel
from maas_gateway.inference.conversion.receiving import receive
from maas_gateway.inference.conversion.refusal import NotConvertible, raise_if_out_of_memory, sentence
from maas_gateway.inference.conversion.trial import Array, CannotCompute, Declared, Outcome, Run, try_out
from maas_gateway.inference.runtimes import openvino
from maas_gateway.inference.runtimes.onnx import engine_errors, from_engine, open_session, to_engine
from maas_gateway.scanning.onnx_graph import ONNXScanner
from maas_gateway.scanning.onnx_ports import Port
from maas_gateway.tensors.datatypes import Datatype

_MISSING: Final = re.compile(r"No conversion rule found for operations: (?P<names>[^\n]+)")


def serve(channel: Channel) -> None:
    """Try the model that the channel brings."""
    try:
        header = try_model(*receive(channel)).header("onnx")
    except NotConvertible as refusal:
        header = {"refused": str(refusal)}
    channel.answer(header)


def try_model(model: bytes, sample: bytes = b"") -> Outcome:
    """Return what the engines do with a model, and with the publisher's sample; empty for none.

    Raises:
        NotConvertible: it is not accepted, does not load or run, or its answers differ.
    """
    report, inputs, outputs = ONNXScanner().read(_InMemory(model))
    reason = report.refuse_reason()
    if reason is not None:
        raise NotConvertible(reason)
    names = [port.name for port in inputs], [port.name for port in outputs]
    engine = _opened(model, *names, is_optimised=True)
    reference = _opened(model, *names, is_optimised=False)
    declared = _declared(inputs), _declared(outputs)
    outcome = try_out(*declared, engine, reference, sample=sample)
    if openvino.is_installed():
        try:
            other = try_out(*declared, _compiled(model, *declared), reference, sample=sample)
            outcome.others.append(other.plan("openvino"))
        except NotConvertible as objection:
            outcome.notes.append(f"There is no OpenVINO plan: {objection}")
    return outcome


def _opened(model: bytes, inputs: Sequence[str], outputs: Sequence[str], *, is_optimised: bool) -> Run:
    """Return a function that runs the model."""
    try:
        session = open_session(model, is_optimised=is_optimised)
    except engine_errors() as objection:
        raise_if_out_of_memory(objection)
        raise NotConvertible(f"the engine cannot load it: {_reason(objection)}") from objection
    found = [port.name for port in session.get_inputs()], [port.name for port in session.get_outputs()]
    if found != (list(inputs), list(outputs)):
        raise NotConvertible("the engine sees other inputs or outputs than the model declares")

    def run(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        given = {name: to_engine(name, array) for name, array in zip(inputs, arrays, strict=True)}
        try:
            return tuple([from_engine(array) for array in session.run(list(outputs), given)])
        except engine_errors() as objection:
            raise_if_out_of_memory(objection)
            raise CannotCompute(_reason(objection)) from objection

    return run


def _compiled(model: bytes, inputs: Sequence[Declared], outputs: Sequence[Declared]) -> Run:
    """Return a function that runs the model by OpenVINO.

    Raises:
        NotConvertible: it does not take the model.
    """
    if any(declared.datatype is Datatype.BYTES for declared in (*inputs, *outputs)):
        raise NotConvertible("it computes no texts")
    try:
        request = openvino.compile_model(model).create_infer_request()
    except openvino.engine_errors() as objection:
        raise NotConvertible(f"the engine cannot load it: {_openvino_reason(objection)}") from objection

    def run(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
        try:
            return tuple(openvino.compute(request, dict(enumerate(arrays))))
        except openvino.engine_errors() as objection:
            raise CannotCompute(_openvino_reason(objection)) from objection

    return run


def _declared(ports: Sequence[Port]) -> list[Declared]:
    return [Declared(port.name, Datatype(port.datatype), port.shape) for port in ports]


def _reason(objection: Exception) -> str:
    """Return the engine's words without its status codes."""
    return sentence(str(objection).rpartition(" : ")[2] or str(objection))


def _openvino_reason(objection: Exception) -> str:
    """Return OpenVINO's words without the places in its code."""
    raise_if_out_of_memory(objection)
    missing = _MISSING.search(str(objection))
    if missing:
        return f"it has no operator {sentence(missing['names'])}"
    lines = [line for line in str(objection).splitlines() if not line.startswith(("Exception from", "Check '"))]
    return sentence("\n".join(lines))


class _InMemory:
    """The model as a source."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.size_bytes = len(content)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        return self._content[offset : offset + n_bytes]
