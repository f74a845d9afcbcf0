"""Bodies of TensorFlow Serving's RESTful API to tensors and back.

Rules: a predict request has either `instances` (rows) or `inputs` (columns), and is answered in the
same form; other keys are ignored; the only signature is `serving_default`. The inputs must then fit
the model's signature.

Source: TensorFlow Serving RESTful API, "Predict API". Deviations: integers are checked against their
own range, not int32's; of the spellings of the tokens only NaN, Infinity and -Infinity are read.
"""

from enum import Enum

import orjson

from maas_gateway.errors import MalformedBody
from maas_gateway.protocols.tf_serving.answers import columns_as_json, rows_as_json
from maas_gateway.protocols.tf_serving.document import parse_document
from maas_gateway.protocols.tf_serving.metadata import VersionState as VersionState
from maas_gateway.protocols.tf_serving.metadata import VersionStatus as VersionStatus
from maas_gateway.protocols.tf_serving.metadata import check_signature_name
from maas_gateway.protocols.tf_serving.metadata import write_metadata as write_metadata
from maas_gateway.protocols.tf_serving.metadata import write_models as write_models
from maas_gateway.protocols.tf_serving.metadata import write_status as write_status
from maas_gateway.protocols.tf_serving.requests import read_columns, read_rows
from maas_gateway.tensors.inference import InferenceRequest, InferenceResponse
from maas_gateway.tensors.signature import ModelSignature


class Format(Enum):
    """How a request is written, and so its answer; the value is the answer's key."""

    ROW = b"predictions"
    COLUMN = b"outputs"


def read_predict(body: bytes, signature: ModelSignature) -> tuple[InferenceRequest, Format]:
    """Read a predict request.

    Args:
        body: the whole body, decompressed.
        signature: the inputs of the version that will answer.

    Returns:
        The inputs, checked against the signature, and the format to answer in.

    Raises:
        MalformedBody: the body is no predict request.
        SignatureMismatch: it does not fit the signature.
        UnsupportedDatatype: JSON columns do not carry an input's datatype.
    """
    document = parse_document(body)
    if "signature_name" in document:
        check_signature_name(document["signature_name"])
    if "instances" in document:
        if "inputs" in document:
            raise MalformedBody("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
        tensors, form = read_rows(document["instances"], signature), Format.ROW
    elif "inputs" in document:
        tensors, form = read_columns(document["inputs"], signature), Format.COLUMN
    else:
        raise MalformedBody("Missing 'inputs' or 'instances' key")
    return InferenceRequest(tensors, signature.check(tensors)), form


def write_predict(response: InferenceResponse, form: Format) -> bytes:
    """Return the body that answers a predict request.

    Raises:
        SignatureMismatch: rows are wanted and the outputs have none in common.
        InvalidRequest: JSON cannot carry an output.
    """
    write = rows_as_json if form is Format.ROW else columns_as_json
    return b'{"%b":%b}' % (form.value, write(response.outputs))


def write_error(detail: str, request_id: str) -> bytes:
    """Return the body of an error."""
    printable = detail.encode("utf-8", "replace").decode()
    return orjson.dumps({"error": printable, "request_id": request_id})
