"""Bodies of the Open Inference Protocol to tensors and back, as JSON with or without raw bytes behind it.

Rules: every input of the model is given once, in any order, and no other; `outputs` absent or empty
asks for all of them; `id` is text and comes back; fields that the protocol does not name are ignored. An answer's
`data` is flat, its values finite; raw bytes (`binary`) carry any value.

Source: Open Inference Protocol, "Inference Request", "Inference Response"; NVIDIA Triton, "Parameters
Extension" for what is reserved. Deviations from Triton: a shape that does not match `data` is the
client's error, outputs come in the order asked for, and non-finite values are refused, not written
as tokens that the protocol does not have.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import orjson

from maas_gateway.errors import InvalidRequest, MalformedBody, SignatureMismatch
from maas_gateway.protocols.open_inference.binary import Section, bytes_of, header_length, raw_request
from maas_gateway.protocols.open_inference.classification import best_classes
from maas_gateway.protocols.open_inference.document import parse_document
from maas_gateway.protocols.open_inference.inputs import read_input
from maas_gateway.protocols.open_inference.metadata import write_model_metadata as write_model_metadata
from maas_gateway.protocols.open_inference.metadata import write_server_metadata as write_server_metadata
from maas_gateway.protocols.open_inference.outputs import PLAIN, AnswerForm, read_outputs
from maas_gateway.protocols.open_inference.parameters import NONE, read_parameters
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceRequest, InferenceResponse
from maas_gateway.tensors.signature import ModelSignature
from maas_gateway.tensors.tensor import Tensor


class Asked(NamedTuple):
    """An infer request as it was read.

    Attributes:
        request: its inputs, in the signature's order and checked against it.
        request_id: its `id`, None where it has none or an empty one.
        form: how its answer is wanted.
    """

    request: InferenceRequest
    request_id: str | None
    form: AnswerForm


def read_infer(
    body: bytes | memoryview, signature: ModelSignature, *, header: bytes | None = None, model: str = ""
) -> Asked:
    """Read an infer request.

    Args:
        body: the whole body, decompressed.
        signature: the inputs and outputs of the version that will answer.
        header: the value of `Inference-Header-Content-Length`; None where the whole body is JSON.
        model: its name, for sentences.

    Raises:
        MalformedBody: the body is no infer request.
        SignatureMismatch: it does not fit the signature.
        InvalidRequest: JSON does not carry a datatype.
        Unsupported: it asks for an extension that is not offered.
    """
    length = len(body) if header is None else header_length(header, len(body))
    if header is not None and not length:
        tensors: tuple[Tensor, ...] = (raw_request(body, signature, model),)
        return Asked(InferenceRequest(tensors, signature.check(tensors)), None, AnswerForm(is_binary=True))
    document = parse_document(bytes(body[:length]))  # all of a `bytes` is that itself, no copy
    section = Section(body, length, model)
    request_id = document.get("id")
    if not (request_id is None or isinstance(request_id, str)):
        raise MalformedBody("'id' must be a string")
    parameters = read_parameters(document["parameters"]) if "parameters" in document else NONE
    tensors = _read_inputs(document.get("inputs"), signature, section)
    n_rows = signature.check(tensors)
    names: tuple[str, ...] = ()
    form = AnswerForm(is_binary=True) if parameters.is_binary else PLAIN
    if "outputs" in document:
        names, outputs = read_outputs(document["outputs"], signature, model)
        form = AnswerForm(parameters.is_binary, outputs) if outputs else form
    request = InferenceRequest(tensors, n_rows, names, parameters.priority, parameters.timeout_s)
    return Asked(request, request_id or None, form)


class Written(NamedTuple):
    """The body that answers an infer request.

    Attributes:
        text: JSON.
        raw: what follows it, in pieces; views of outputs, not copies.
    """

    text: bytes
    raw: Sequence[bytes | memoryview] = ()


def write_infer(
    response: InferenceResponse, request_id: str, form: AnswerForm = PLAIN, *, has_rows: bool = True
) -> Written:
    """Return the body that answers an infer request.

    Args:
        response: the outputs, in the order they are written.
        request_id: the request's `id`, or one made for it.
        form: how it is wanted.
        has_rows: whether the first dimension of outputs is rows; only classification asks.

    Raises:
        InvalidRequest: JSON cannot carry an output: its datatype, a value that is not finite, or
            bytes that are not UTF-8; or an output cannot be classified.
    """
    if form.is_plain:
        return Written(
            _json_of(response, request_id, [_entry(tensor) for tensor in response.outputs], response.outputs)
        )
    entries, plain, raw = [], [], []
    for each in response.outputs:
        own = form.of(each.name)
        tensor = best_classes(each, own.n_classes, has_rows=has_rows) if own.n_classes else each
        if own.is_binary:
            content = bytes_of(tensor)
            raw.append(content)
            entries.append(_described(tensor) | {"parameters": {"binary_data_size": len(content)}})
        else:
            plain.append(tensor)
            entries.append(_entry(tensor))
    text = _json_of(response, request_id, entries, plain)
    return Written(text, raw)


def write_error(detail: str, request_id: str) -> bytes:
    """Return the body of an error."""
    printable = detail.encode("utf-8", "replace").decode()
    return orjson.dumps({"error": printable, "request_id": request_id})


def _json_of(
    response: InferenceResponse, request_id: str, entries: list[dict[str, object]], plain: Sequence[Tensor]
) -> bytes:
    body = {
        "model_name": response.model,
        "model_version": str(response.version),
        "id": request_id,
        "outputs": entries,
    }
    text = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in text:  # how the encoder writes what is not finite; or part of a name, or of a string
        for tensor in plain:
            _check_finite(tensor)
    return text


def _described(tensor: Tensor) -> dict[str, object]:
    return {"name": tensor.name, "shape": tensor.array.shape, "datatype": tensor.datatype.value}


def _entry(tensor: Tensor) -> dict[str, object]:
    return {**_described(tensor), "data": _data_of(tensor)}


def _read_inputs(entries: object, signature: ModelSignature, section: Section) -> tuple[Tensor, ...]:
    """Return the inputs that are given, in the signature's order."""
    if not isinstance(entries, list):
        raise MalformedBody("'inputs' must be a list of objects")
    given: dict[str, Tensor] = {}
    for position, entry in enumerate(entries):
        tensor = read_input(entry, position, signature, section)
        if tensor.name in given:
            raise SignatureMismatch(f"input '{tensor.name}' is given twice")
        given[tensor.name] = tensor
    section.finish()
    return tuple(given[spec.name] for spec in signature.inputs if spec.name in given)


def _data_of(tensor: Tensor) -> np.ndarray | list[str]:
    """Return the flat values as the encoder takes them."""
    if tensor.datatype is Datatype.FP16:
        raise InvalidRequest(
            f"sending FP16 data via JSON is not supported. Please use the binary data format for output {tensor.name}"
        )
    flat = tensor.array.reshape(-1)
    if tensor.datatype is not Datatype.BYTES:
        return flat
    try:
        return [
            (element.encode() if isinstance(element, str) else bytes(element)).decode() for element in flat.tolist()
        ]
    except UnicodeError as error:
        raise InvalidRequest(f"output '{tensor.name}' has bytes that are not UTF-8: JSON cannot carry them") from error


def _check_finite(tensor: Tensor) -> None:
    if tensor.datatype.is_float and not np.isfinite(tensor.array).all():
        raise InvalidRequest(
            f"output '{tensor.name}' has values that are not finite, which JSON cannot carry; "
            "the /v1 address of the model writes them as the tokens NaN, Infinity and -Infinity"
        )
