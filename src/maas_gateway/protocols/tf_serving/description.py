"""The TensorFlow Serving door in the OpenAPI document."""

from typing import Any, Final

from maas_gateway.protocols.tf_serving import schemas
from maas_gateway.web.description import PREDICTION_ERRORS, DoorDescription

_DOOR: Final = DoorDescription("TensorFlow Serving", schemas.ERROR)
_WHICH: Final = {
    "": "",
    "/versions/{version}": " of one version",
    "/labels/{label}": " of the version that a label names",
}


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for rest, which in _WHICH.items():
        model = f"/v1/models/{{model}}{rest}"
        paths[f"{model}:predict"] = {
            "post": _DOOR.operation(
                model,
                f"Predict{which}",
                schemas.PREDICT_RESPONSE,
                errors=PREDICTION_ERRORS,
                body=schemas.PREDICT_REQUEST,
            )
        }
        paths[model] = {
            "get": _DOOR.operation(model, f"Status{which}", schemas.STATUS_RESPONSE, errors=(400, 401, 404))
        }
        paths[f"{model}/metadata"] = {
            "get": _DOOR.operation(model, f"Signature{which}", schemas.METADATA_RESPONSE, errors=(400, 401, 404))
        }
    paths["/v1/models"] = {
        "get": _DOOR.operation("/v1/models", "Your models", schemas.MODELS_RESPONSE, errors=(400, 401))
    }
    return paths


TF_SERVING_PATHS: Final = _paths()
"""Path items by path."""
