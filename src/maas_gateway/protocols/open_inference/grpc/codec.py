"""Infer messages to tensors and back.

Rules: those of the JSON form (`protocols.open_inference.codec`), in its sentences; values come as raw bytes for every
input or as typed contents, never both; answers are raw bytes only, because that is what every client reads. Large
values are views of the message that came: nothing copies them.

Source: Open Inference Protocol, "gRPC"; NVIDIA Triton, "Parameters Extension", "Classification Extension", and its
streaming answers.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from maas_gateway.errors import MalformedBody, SignatureMismatch, Unsupported
from maas_gateway.protocols.open_inference import codec
from maas_gateway.protocols.open_inference.binary import array_of, bytes_of
from maas_gateway.protocols.open_inference.classification import best_classes
from maas_gateway.protocols.open_inference.grpc import wire
from maas_gateway.protocols.open_inference.grpc.contents import read_contents
from maas_gateway.protocols.open_inference.grpc.wire import Value, fields, octets, signed, text
from maas_gateway.protocols.open_inference.inputs import check_datatype, read_shape, spec_of
from maas_gateway.protocols.open_inference.outputs import PLAIN, AnswerForm, read_outputs
from maas_gateway.protocols.open_inference.parameters import NONE, read_parameters
from maas_gateway.tensors.arrays import MAX_RANK
from maas_gateway.tensors.inference import InferenceRequest, InferenceResponse
from maas_gateway.tensors.signature import ModelSignature
from maas_gateway.tensors.tensor import Tensor

FINAL_ASKED: Final = "triton_enable_empty_final_response"
"""The parameter by which a stream's client asks to be told which answer is a request's last."""
_FINAL: Final = wire.field(4, wire.field(1, b"triton_final_response") + wire.field(2, b"\x08\x01"))
_NOTHING: Final = memoryview(b"")


@dataclass(slots=True)
class InferMessage:
    """A request to infer, taken apart and not yet held against a model.

    Attributes:
        name: the model's.
        version: what it asks for, empty for the model's own choice.
        request_id: its `id`, empty where it has none.
        parameters: entries of its parameters.
        inputs: its inputs.
        outputs: the outputs asked for.
        raw: raw bytes of the inputs.
    """

    name: str = ""
    version: str = ""
    request_id: str = ""
    parameters: list[memoryview] = field(default_factory=list)
    inputs: list[memoryview] = field(default_factory=list)
    outputs: list[memoryview] = field(default_factory=list)
    raw: list[memoryview] = field(default_factory=list)


def take_apart(message: bytes) -> InferMessage:
    """Return the parts of a `ModelInferRequest`.

    Raises:
        MalformedBody: it is none.
    """
    found = InferMessage()
    repeated = {4: found.parameters, 5: found.inputs, 6: found.outputs, 7: found.raw}
    for number, _, value in fields(memoryview(message), "the message"):
        match number:
            case 1:
                found.name = text(value, "'model_name'")
            case 2:
                found.version = text(value, "'model_version'")
            case 3:
                found.request_id = text(value, "'id'")
            case 4 | 5 | 6 | 7:
                repeated[number].append(octets(value, "a part of the message"))
    return found


def read_infer(message: InferMessage, signature: ModelSignature) -> codec.Asked:
    """Hold a request against the signature of the version that will answer.

    Raises:
        MalformedBody: it cannot be read.
        SignatureMismatch: it does not fit.
        InvalidRequest: a parameter is reserved, or a datatype comes in raw bytes only.
        Unsupported: it asks for an extension that is not offered.
    """
    given = _parameters(message.parameters, "parameters") if message.parameters else {}
    given.pop(FINAL_ASKED, None)
    parameters = read_parameters(given) if given else NONE
    tensors = _read_inputs(message, signature)
    n_rows = signature.check(tensors)
    names: tuple[str, ...] = ()
    form = PLAIN
    if message.outputs:
        entries = [_output(entry, position) for position, entry in enumerate(message.outputs)]
        names, outputs = read_outputs(entries, signature, message.name)
        form = AnswerForm(outputs=outputs) if outputs else PLAIN
    request = InferenceRequest(tensors, n_rows, names, parameters.priority, parameters.timeout_s)
    return codec.Asked(request, message.request_id or None, form)


def wants_final(message: InferMessage) -> bool:
    """Tell whether a stream's answer must say that it is the last one.

    Raises:
        MalformedBody: the parameters cannot be read.
    """
    return bool(message.parameters) and _parameters(message.parameters, "parameters").get(FINAL_ASKED) is True


def write_infer(
    response: InferenceResponse,
    request_id: str,
    form: AnswerForm = PLAIN,
    *,
    has_rows: bool = True,
    is_last_told: bool = False,
) -> bytes:
    """Return the `ModelInferResponse` that answers a request.

    Args:
        response: the outputs, in the order they are written.
        request_id: the request's `id`, or one made for it.
        form: which outputs are wanted as their best classes.
        has_rows: whether the first dimension of outputs is rows; only classification asks.
        is_last_told: whether it says that no further answer follows.

    Raises:
        InvalidRequest: an output cannot be classified.
    """
    heads = [*_named(response.model, str(response.version), request_id)]
    if is_last_told:
        heads.append(_FINAL)
    raws: list[bytes | memoryview] = []
    for each in response.outputs:
        n_classes = form.of(each.name).n_classes if form.outputs else 0
        tensor = best_classes(each, n_classes, has_rows=has_rows) if n_classes else each
        heads.append(wire.field(5, _described(tensor)))
        raw = bytes_of(tensor)
        raws += (wire.head(6, len(raw)), raw)
    return b"".join((*heads, *raws))


def in_stream(answer: bytes) -> bytes:
    """Return the `ModelStreamInferResponse` that holds an answer."""
    return wire.field(2, answer)


def refused_in_stream(detail: str, message: InferMessage | None, request_id: str) -> bytes:
    """Return the `ModelStreamInferResponse` that tells why there is no answer.

    Args:
        detail: the sentence.
        message: the request, None if it could not be taken apart.
        request_id: made for it, where it has no `id`.
    """
    about = message or InferMessage()
    answer = b"".join(_named(about.name, "", about.request_id or request_id))
    return wire.field(1, detail.encode("utf-8", "replace")) + wire.field(2, answer)


def _named(model: str, version: str, request_id: str) -> tuple[bytes, bytes, bytes]:
    return wire.field(1, model.encode()), wire.field(2, version.encode()), wire.field(3, request_id.encode())


def _described(tensor: Tensor) -> bytes:
    shape = b"".join([wire.varint(size) for size in tensor.array.shape])
    name, datatype = tensor.name.encode(), tensor.datatype.value.encode()
    return wire.field(1, name) + wire.field(2, datatype) + wire.field(3, shape)


def _read_inputs(message: InferMessage, signature: ModelSignature) -> tuple[Tensor, ...]:
    """Return the inputs that are given, in the signature's order."""
    if message.raw and len(message.raw) != len(message.inputs):
        raise MalformedBody(
            f"'raw_input_contents' has {len(message.raw)} entries and there are {len(message.inputs)} inputs: "
            "it holds every input or none"
        )
    given: dict[str, Tensor] = {}
    for position, entry in enumerate(message.inputs):
        tensor = _read_input(entry, position, signature, message.raw[position] if message.raw else None)
        if tensor.name in given:
            raise SignatureMismatch(f"input '{tensor.name}' is given twice")
        given[tensor.name] = tensor
    return tuple(given[spec.name] for spec in signature.inputs if spec.name in given)


def _read_input(entry: memoryview, position: int, signature: ModelSignature, raw: memoryview | None) -> Tensor:
    what = f"inputs[{position}]"
    name, datatype = "", ""
    sizes: list[int] = []
    parameters: list[memoryview] = []
    contents = _NOTHING
    for number, _, value in fields(entry, what):
        match number:
            case 1:
                name = text(value, f"{what}: 'name'")
            case 2:
                datatype = text(value, f"{what}: 'datatype'")
            case 3:
                sizes += _sizes(value, what)
            case 4:
                parameters.append(octets(value, f"{what}: 'parameters'"))
            case 5:
                contents = octets(value, f"{what}: 'contents'")
    spec = spec_of(name, signature)
    if parameters and _parameters(parameters, f"input '{name}'").get("shared_memory_region"):
        raise Unsupported(f"input '{name}': this server has no shared memory with its clients")
    check_datatype(datatype, spec)
    shape = read_shape(sizes, name)
    if raw is None:
        return Tensor(name, spec.datatype, read_contents(contents, spec, shape))
    if len(contents):
        raise MalformedBody(
            "Input must set only one of the following fields: 'contents', 'raw_input_contents'. "
            f"But input '{name}' has more than one of them"
        )
    return Tensor(name, spec.datatype, array_of(raw, spec, shape))


def _sizes(value: Value, what: str) -> list[int]:
    if isinstance(value, int):
        return [signed(value)]
    content = octets(value, f"{what}: 'shape'")
    if len(content) > 10 * MAX_RANK:
        raise SignatureMismatch(f"{what}: 'shape' has more than {MAX_RANK} dimensions")
    return [signed(size) for size in wire.numbers(content, f"{what}: 'shape'")]


def _output(entry: memoryview, position: int) -> dict[str, object]:
    what = f"outputs[{position}]"
    found: dict[str, object] = {"name": ""}
    parameters: list[memoryview] = []
    for number, _, value in fields(entry, what):
        match number:
            case 1:
                found["name"] = text(value, f"{what}: 'name'")
            case 2:
                parameters.append(octets(value, f"{what}: 'parameters'"))
    if parameters:
        found["parameters"] = _parameters(parameters, what)
    return found


def _parameters(entries: Sequence[memoryview], what: str) -> dict[str, object]:
    """Return a map of `InferParameter` by name; of two with one name the later holds."""
    found: dict[str, object] = {}
    for entry in entries:
        name, parameter = "", _NOTHING
        for number, _, value in fields(entry, what):
            match number:
                case 1:
                    name = text(value, f"{what}: the name of a parameter")
                case 2:
                    parameter = octets(value, f"{what}: a parameter")
        found[name] = _parameter(parameter, what)
    return found


def _parameter(parameter: memoryview, what: str) -> object:
    found: object = None
    for number, kind, value in fields(parameter, what):
        match number, value:
            case 1, int():
                found = bool(value)
            case 2, int():
                found = signed(value)
            case 3, _:
                found = text(value, f"{what}: a parameter")
            case 4, bytes() if kind == wire.FIXED64:
                found = struct.unpack("<d", value)[0]
            case 5, int():
                found = value
    return found
