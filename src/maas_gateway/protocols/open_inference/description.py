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
    Need,
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


_OF_MODEL: Final = (
    (
        "",
        "Metadata",
        schemas.MODEL_METADATA_RESPONSE,
        "The model's serving versions, inputs and outputs.",
        (401, 404, 405, 500, 504),
    ),
    (
        "/config",
        "Configuration",
        schemas.CONFIGURATION_RESPONSE,
        "How the model is run, in the form of Triton's model configuration.",
        (401, 404, 405, 500, 504),
    ),
    (
        "/stats",
        "Statistics",
        schemas.STATISTICS_RESPONSE,
        "What this process has computed with the serving versions since it loaded them; a shared model tells none.",
        (400, 401, 404, 405, 500, 504),
    ),
    (
        "/ready",
        "Readiness",
        schemas.MODEL_READY_RESPONSE,
        "Whether the model is in memory; 503 says that it is not.",
        (401, 404, 405, 500, 503, 504),
    ),
)
_LOAD: Final = (
    "Has the model's newest version serve, or the one that `parameters` name; answers once it is in memory here. It is "
    "what `:promote` does at the management address. A configuration or a file is refused: models enter by an upload."
)
_UNLOAD: Final = (
    "Has no version of the model serve any longer; it can be loaded again. It is what `:retire` does at the management "
    "address. Refused while a label points at a version that serves."
)
_CHANGE_ERRORS: Final = (400, 401, 403, 404, 405, 409, 413, 500, 501, 503, 504)
_OF_GATEWAY: Final[tuple[tuple[str, str, Schema, str, Need], ...]] = (
    (
        "/v2/health/live",
        "Whether the gateway lives",
        schemas.LIVE_RESPONSE,
        "Tells that the process answers. Needs no credential.",
        "public",
    ),
    (
        "/v2/health/ready",
        "Whether the gateway is ready",
        schemas.READY_RESPONSE,
        "Tells that the gateway takes requests, or with 503 that it is about to stop; not of models. Needs no credential.",
        "public",
    ),
    (
        "/v2",
        "The server's metadata",
        schemas.SERVER_METADATA_RESPONSE,
        "The server's name, version and extensions of the protocol.",
        "any",
    ),
    (
        "/v2/models",
        "Your models",
        schemas.MODELS_RESPONSE,
        "The names of the models that serve and that you may read, shared ones too.",
        "any",
    ),
    (
        "/v2/models/stats",
        "Statistics of your models",
        schemas.STATISTICS_RESPONSE,
        "What this process has computed with your tenant's models that you may read.",
        "any",
    ),
)


def _of_repository() -> dict[str, Any]:
    model = "/v2/repository/models/{model}"
    paths = {
        "/v2/repository/index": _DOOR.operation(
            "",
            "The model repository",
            schemas.INDEX_RESPONSE,
            description="Every version that has ever served of the models that you may read, and its state here.",
            need="any",
            errors=(400, 401, 405, 413, 500, 501, 504),
            body=schemas.INDEX_REQUEST,
            is_body_optional=True,
        )
    }
    for verb, description, body in (
        ("load", _LOAD, schemas.LOAD_REQUEST),
        ("unload", _UNLOAD, schemas.UNLOAD_REQUEST),
    ):
        paths[f"{model}/{verb}"] = _DOOR.operation(
            model,
            f"{verb.capitalize()} a model",
            schemas.changed_response(verb),
            description=description,
            need=Permission.MODEL_PROMOTE,
            errors=_CHANGE_ERRORS,
            body=body,
            is_body_optional=True,
        )
    return {path: {"post": operation} for path, operation in paths.items()}


_LEAVING: Final[Schema] = {
    "description": "The gateway is about to stop; what is asked meanwhile is answered.",
    "content": {"application/json": {"schema": {"type": "object"}, "example": {"ready": False, "live": True}}},
}


def _of_gateway() -> dict[str, Any]:
    paths = {
        path: {
            "get": _DOOR.operation(
                "",
                title,
                schema,
                description=description,
                need=need,
                errors=(405, 500) if need == "public" else (401, 405, 500),
            )
        }
        for path, title, schema, description, need in _OF_GATEWAY
    }
    paths["/v2/health/ready"]["get"]["responses"]["503"] = _LEAVING
    return paths


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
        for verb, title, schema, description, errors in _OF_MODEL:
            paths[f"{model}{verb}"] = {
                "get": _DOOR.operation(
                    model,
                    f"{title}{which}",
                    schema,
                    description=f"{description} {who}",
                    need=Permission.MODEL_READ,
                    errors=errors,
                )
            }
    return paths


OPEN_INFERENCE_PATHS: Final = {**_of_models(), **_of_repository(), **_of_gateway()}
"""Path items by path."""
