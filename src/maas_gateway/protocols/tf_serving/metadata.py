"""A model's state and signature as TensorFlow Serving tells them, with the keys that KServe reads.

Rules: versions are strings, the newest first; a version that failed stays listed with its error;
every default is printed. A model of any format has one signature, `serving_default`. `name` and
`ready` beside `model_version_status` are what KServe's v1 client reads at the same address, and
`{"models": […]}` is its list, where TensorFlow Serving answers an error.

Source: TensorFlow Serving RESTful API, "Model status API", "Model Metadata API"; KServe V1 protocol.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import orjson

from maas_gateway.errors import MalformedBody, SignatureMismatch
from maas_gateway.tensors.signature import ModelSignature, TensorSpec
from maas_gateway.tensors.values import quoted

DEFAULT_SIGNATURE = "serving_default"


class VersionState(StrEnum):
    """Where in its life a version is."""

    UNKNOWN = "UNKNOWN"
    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """The state of one version.

    Attributes:
        version: its number.
        state: where in its life it is.
        error_code: canonical name, `OK` where nothing went wrong.
        error_message: one sentence for the client, empty with `OK`.
    """

    version: int
    state: VersionState
    error_code: str = "OK"
    error_message: str = ""


def write_status(model: str, versions: Iterable[VersionStatus]) -> bytes:
    """Return the body that tells the state of versions; ready is the model with one that is available."""
    newest_first = sorted(versions, key=lambda status: status.version, reverse=True)
    return orjson.dumps(
        {
            "name": model,
            "ready": any(status.state is VersionState.AVAILABLE for status in newest_first),
            "model_version_status": [
                {
                    "version": str(status.version),
                    "state": status.state.value,
                    "status": {"error_code": status.error_code, "error_message": status.error_message},
                }
                for status in newest_first
            ],
        }
    )


def write_models(names: Iterable[str]) -> bytes:
    """Return the body that lists the caller's models."""
    return orjson.dumps({"models": list(names)})


def write_metadata(model: str, version: int, signature: ModelSignature) -> bytes:
    """Return the body that describes a version's inputs and outputs."""
    described = {
        "inputs": {spec.name: _tensor_description(spec) for spec in signature.inputs},
        "outputs": {spec.name: _tensor_description(spec) for spec in signature.outputs},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
    return orjson.dumps(
        {
            "model_spec": {"name": model, "signature_name": "", "version": str(version)},
            "metadata": {"signature_def": {"signature_def": {DEFAULT_SIGNATURE: described}}},
        }
    )


def _tensor_description(spec: TensorSpec) -> dict[str, object]:
    return {
        "dtype": spec.datatype.tensorflow,
        "tensor_shape": {"dim": [{"size": str(size), "name": ""} for size in spec.shape], "unknown_rank": False},
        "name": f"{spec.name}:0",
    }


def check_signature_name(name: object) -> None:
    """Refuse a `signature_name` other than the only signature's.

    Raises:
        MalformedBody: it is no text.
        SignatureMismatch: it names another signature.
    """
    if not isinstance(name, str):
        raise MalformedBody("'signature_name' key must be a string value.")
    if name not in ("", DEFAULT_SIGNATURE):
        raise SignatureMismatch(f'Serving signature name: "{quoted(name)[1:-1]}" not found in signature def')
