"""What the server and a model are, as the Open Inference Protocol tells it.

Rules: versions are strings; `extensions` is always there and names only what works; -1 is a dimension
that the request chooses.

Source: Open Inference Protocol, "Server Metadata", "Model Metadata".
"""

from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from maas_gateway.tensors.signature import ModelSignature

SERVER: Final = "maas-gateway"
EXTENSIONS: Final = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
)
"""What works of the protocol's extensions, by Triton's names."""


def write_server_metadata(name: str, version: str, extensions: Sequence[str] = ()) -> bytes:
    """Return the body that describes the server."""
    return orjson.dumps({"name": name, "version": version, "extensions": list(extensions)})


def write_model_metadata(model: str, versions: Iterable[int], platform: str, signature: ModelSignature) -> bytes:
    """Return the body that describes a model: the versions that answer, and one's inputs and outputs."""
    return orjson.dumps(
        {
            "name": model,
            "versions": [str(version) for version in versions],
            "platform": platform,
            "inputs": [spec.to_json() for spec in signature.inputs],
            "outputs": [spec.to_json() for spec in signature.outputs],
        }
    )
