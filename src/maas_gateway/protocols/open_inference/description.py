"""The Open Inference Protocol door in the OpenAPI document."""

from typing import Any, Final

from maas_gateway.protocols.open_inference import schemas
from maas_gateway.web.description import PREDICTION_ERRORS, DoorDescription

_DOOR: Final = DoorDescription("Open Inference Protocol", schemas.ERROR)
_WHICH: Final = {
    "": "",
    "/versions/{version}": " of one version",
    "/labels/{label}": " of the version that a label names",
}


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {
        "/v2/health/live": {
            "get": _DOOR.operation("", "Whether the gateway lives", schemas.LIVE_RESPONSE, errors=(405,))
        },
        "/v2/health/ready": {
            "get": _DOOR.operation("", "Whether the gateway is ready", schemas.READY_RESPONSE, errors=(405, 503))
        },
        "/v2": {
            "get": _DOOR.operation("", "The server's metadata", schemas.SERVER_METADATA_RESPONSE, errors=(401, 405))
        },
    }
    for rest, which in _WHICH.items():
        model = f"/v2/models/{{model}}{rest}"
        paths[f"{model}/infer"] = {
            "post": _DOOR.operation(
                model, f"Infer{which}", schemas.INFER_RESPONSE, errors=PREDICTION_ERRORS, body=schemas.INFER_REQUEST
            )
        }
        paths[model] = {
            "get": _DOOR.operation(model, f"Metadata{which}", schemas.MODEL_METADATA_RESPONSE, errors=(401, 404, 405))
        }
        paths[f"{model}/ready"] = {
            "get": _DOOR.operation(
                model, f"Readiness{which}", schemas.MODEL_READY_RESPONSE, errors=(401, 404, 405, 503)
            )
        }
    return paths


OPEN_INFERENCE_PATHS: Final = _paths()
"""Path items by path."""
