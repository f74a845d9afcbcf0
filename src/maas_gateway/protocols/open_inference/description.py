"""The Open Inference Protocol door in the OpenAPI document."""

from typing import Any, Final

from maas_gateway.permissions import Permission
from maas_gateway.protocols.open_inference import schemas
from maas_gateway.web.description import (
    DEMO_MODEL,
    DEMO_ROW,
    PREDICTION_ERRORS,
    REQUEST_ID,
    DoorDescription,
    Schema,
)


def _error(detail: str) -> Schema:
    return {"error": detail, "request_id": REQUEST_ID}


_DOOR: Final = DoorDescription(
    "Open Inference Protocol",
    schemas.ERROR,
    _error,
    not_found=f"Request for unknown model: '{DEMO_MODEL}' is not found",
)
_WHICH: Final = {
    "": ("", "The newest serving version answers."),
    "/versions/{version}": (" of one version", "The version that the path names answers."),
    "/labels/{label}": (" of the version that a label names", "The version at which the label points answers."),
}
_DEMO: Final[Schema] = {
    "inputs": [{"name": "measurements", "shape": [1, len(DEMO_ROW)], "datatype": "FP32", "data": list(DEMO_ROW)}]
}


def _of_gateway() -> dict[str, Any]:
    return {
        "/v2/health/live": {
            "get": _DOOR.operation(
                "",
                "Whether the gateway lives",
                schemas.LIVE_RESPONSE,
                description="Tells that the process answers. Needs no credential.",
                need="public",
                errors=(405, 500),
            )
        },
        "/v2/health/ready": {
            "get": _DOOR.operation(
                "",
                "Whether the gateway is ready",
                schemas.READY_RESPONSE,
                description="Tells that the gateway takes requests; says nothing about any model. Needs no credential.",
                need="public",
                errors=(405, 500),
            )
        },
        "/v2/models": {
            "get": _DOOR.operation(
                "",
                "Your models",
                schemas.MODELS_RESPONSE,
                description="The names of the models that serve and that you may read, shared ones too.",
                need="any",
                errors=(401, 405, 500),
            )
        },
        "/v2/models/stats": {
            "get": _DOOR.operation(
                "",
                "Statistics of your models",
                schemas.STATISTICS_RESPONSE,
                description="What this process has computed with your tenant's models that you may read.",
                need="any",
                errors=(401, 405, 500),
            )
        },
        "/v2": {
            "get": _DOOR.operation(
                "",
                "The server's metadata",
                schemas.SERVER_METADATA_RESPONSE,
                description="The server's name, version and extensions of the protocol.",
                need="any",
                errors=(401, 405, 500),
            )
        },
    }


def _of_models() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for rest, (which, who) in _WHICH.items():
        model = f"/v2/models/{{model}}{rest}"
        paths[f"{model}/infer"] = {
            "post": _DOOR.operation(
                model,
                f"Infer{which}",
                schemas.INFER_RESPONSE,
                description=f"Run the model on the tensors of the body. {who}",
                need=Permission.MODEL_PREDICT,
                errors=PREDICTION_ERRORS,
                body=schemas.INFER_REQUEST,
                demo_body=_DEMO,
            )
        }
        paths[model] = {
            "get": _DOOR.operation(
                model,
                f"Metadata{which}",
                schemas.MODEL_METADATA_RESPONSE,
                description=f"The model's serving versions, inputs and outputs. {who}",
                need=Permission.MODEL_READ,
                errors=(401, 404, 405, 500, 504),
            )
        }
        paths[f"{model}/config"] = {
            "get": _DOOR.operation(
                model,
                f"Configuration{which}",
                schemas.CONFIGURATION_RESPONSE,
                description=f"How the model is run, in the form of Triton's model configuration. {who}",
                need=Permission.MODEL_READ,
                errors=(401, 404, 405, 500, 504),
            )
        }
        paths[f"{model}/stats"] = {
            "get": _DOOR.operation(
                model,
                f"Statistics{which}",
                schemas.STATISTICS_RESPONSE,
                description=(
                    "What this process has computed with the model's serving versions since it loaded them; a model "
                    f"that another tenant shares tells none. {who}"
                ),
                need=Permission.MODEL_READ,
                errors=(400, 401, 404, 405, 500, 504),
            )
        }
        paths[f"{model}/ready"] = {
            "get": _DOOR.operation(
                model,
                f"Readiness{which}",
                schemas.MODEL_READY_RESPONSE,
                description=f"Whether the model is in memory; 503 says that it is not. {who}",
                need=Permission.MODEL_READ,
                errors=(401, 404, 405, 500, 503, 504),
            )
        }
    return paths


OPEN_INFERENCE_PATHS: Final = {**_of_models(), **_of_gateway()}
"""Path items by path."""
