"""Bodies of the Open Inference Protocol to tensors and back, JSON only.

Rules: every input of the model is given once, in any order, and no other; `outputs` absent or empty
asks for all of them; `id` is text and comes back. Parameters that change what an answer means and are
not offered (binary data, classification, shared memory, `triton_…`) are refused, all others ignored, as
are fields that the protocol does not name. An answer's `data` is flat, its values finite.

Source: Open Inference Protocol, "Inference Request", "Inference Response"; NVIDIA Triton, "Parameters
Extension" for what is reserved. Deviations from Triton: a shape that does not match `data` is the
client's error, outputs come in the order asked for, and non-finite values are refused, not written
as tokens that the protocol does not have.
"""

import numpy as np
import orjson

from maas_gateway.errors import InvalidRequest, MalformedBody, SignatureMismatch, Unsupported, UnsupportedEncoding
from maas_gateway.protocols.open_inference.document import parse_document
from maas_gateway.protocols.open_inference.inputs import BINARY_REFUSAL, read_input
from maas_gateway.protocols.open_inference.metadata import write_model_metadata as write_model_metadata
from maas_gateway.protocols.open_inference.metadata import write_server_metadata as write_server_metadata
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.inference import InferenceRequest, InferenceResponse
from maas_gateway.tensors.signature import ModelSignature
from maas_gateway.tensors.tensor import Tensor
from maas_gateway.tensors.values import quoted


def read_infer(body: bytes, signature: ModelSignature) -> tuple[InferenceRequest, str | None]:
    """Read an infer request.

    Args:
        body: the whole body, decompressed; JSON to its end.
        signature: the inputs and outputs of the version that will answer.

    Returns:
        The inputs, in the signature's order and checked against it, and the request's `id`, None where
        it has none or an empty one.

    Raises:
        MalformedBody: the body is no infer request.
        SignatureMismatch: it does not fit the signature.
        InvalidRequest: JSON does not carry a datatype.
        UnsupportedEncoding: it comes with binary data or asks for them.
        Unsupported: it asks for an extension that is not offered.
    """
    document = parse_document(body)
    request_id = document.get("id")
    if not (request_id is None or isinstance(request_id, str)):
        raise MalformedBody("'id' must be a string")
    if "parameters" in document:
        _check_parameters(document["parameters"])
    tensors = _read_inputs(document.get("inputs"), signature)
    n_rows = signature.check(tensors)
    outputs = _read_outputs(document["outputs"], signature) if "outputs" in document else ()
    return InferenceRequest(tensors, n_rows, outputs), request_id or None


def write_infer(response: InferenceResponse, request_id: str) -> bytes:
    """Return the body that answers an infer request.

    Args:
        response: the outputs, in the order they are written.
        request_id: the request's `id`, or one made for it.

    Raises:
        InvalidRequest: JSON cannot carry an output: its datatype, a value that is not finite, or
            bytes that are not UTF-8.
    """
    outputs = [
        {
            "name": tensor.name,
            "shape": tensor.array.shape,
            "datatype": tensor.datatype.value,
            "data": _data_of(tensor),
        }
        for tensor in response.outputs
    ]
    body = {
        "model_name": response.model,
        "model_version": str(response.version),
        "id": request_id,
        "outputs": outputs,
    }
    text = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in text:  # how the encoder writes what is not finite; or part of a name, or of a string
        for tensor in response.outputs:
            _check_finite(tensor)
    return text


def write_error(detail: str, request_id: str) -> bytes:
    """Return the body of an error."""
    printable = detail.encode("utf-8", "replace").decode()
    return orjson.dumps({"error": printable, "request_id": request_id})


def _check_parameters(parameters: object) -> None:
    if not isinstance(parameters, dict):
        raise MalformedBody("'parameters' must be an Object")
    if parameters.get("binary_data_output"):
        raise UnsupportedEncoding(f"'binary_data_output' in 'parameters': {BINARY_REFUSAL}")
    for name in parameters:
        if name.startswith("triton_"):
            raise InvalidRequest(f"parameter {quoted(name)}: names that start with 'triton_' are reserved")


def _read_inputs(entries: object, signature: ModelSignature) -> tuple[Tensor, ...]:
    """Return the inputs that are given, in the signature's order."""
    if not isinstance(entries, list):
        raise MalformedBody("'inputs' must be a list of objects")
    given: dict[str, Tensor] = {}
    for position, entry in enumerate(entries):
        tensor = read_input(entry, position, signature)
        if tensor.name in given:
            raise SignatureMismatch(f"input '{tensor.name}' is given twice")
        given[tensor.name] = tensor
    return tuple(given[spec.name] for spec in signature.inputs if spec.name in given)


def _read_outputs(entries: object, signature: ModelSignature) -> tuple[str, ...]:
    """Return the names of the outputs asked for."""
    if not isinstance(entries, list):
        raise MalformedBody("'outputs' must be a list of objects")
    known = {spec.name for spec in signature.outputs}
    names: dict[str, None] = {}
    for position, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise MalformedBody(f"outputs[{position}] must be an Object whose 'name' is a string")
        if name not in known:
            raise SignatureMismatch(
                f"unexpected inference output {quoted(name)} for model; its outputs are: {', '.join(sorted(known))}"
            )
        if name in names:
            raise SignatureMismatch(f"output '{name}' is asked for twice")
        if "parameters" in entry:
            _check_output_parameters(entry["parameters"], name)
        names[name] = None
    return tuple(names)


def _check_output_parameters(parameters: object, name: str) -> None:
    if not isinstance(parameters, dict):
        raise MalformedBody(f"output '{name}': 'parameters' must be an Object")
    if parameters.get("binary_data"):
        raise UnsupportedEncoding(f"output '{name}': {BINARY_REFUSAL}")
    for extension in ("classification", "shared_memory_region"):
        if parameters.get(extension):
            raise Unsupported(f"output '{name}': this server does not offer the parameter '{extension}'")


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
