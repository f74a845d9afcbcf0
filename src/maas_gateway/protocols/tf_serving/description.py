"""The TensorFlow Serving door in the OpenAPI document."""

from typing import Any, Final

from maas_gateway.permissions import Permission
from maas_gateway.protocols.tf_serving import schemas
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
    "TensorFlow Serving",
    schemas.ERROR,
    _error,
    not_found=f"Servable not found for request: Latest({DEMO_MODEL})",
)
_WHICH: Final = {
    "": ("", "The newest serving version answers."),
    "/versions/{version}": (" of one version", "The version that the path names answers."),
    "/labels/{label}": (" of the version that a label names", "The version at which the label points answers."),
}
_DEMO: Final[Schema] = {"instances": [list(DEMO_ROW)]}
_DEMO_EXAMPLES: Final[Schema] = {"examples": [{"measurements": list(DEMO_ROW)}]}


def _of_examples(model: str, which: str, who: str) -> dict[str, Any]:
    return {
        f"{model}:{verb}": {
            "post": _DOOR.operation(
                model,
                f"{verb.capitalize()}{which}",
                schemas.RESULTS_RESPONSE,
                description=f"Run the model on feature dictionaries; needs an output of {needed} an example. {who}",
                need=Permission.MODEL_PREDICT,
                errors=PREDICTION_ERRORS,
                body=schemas.EXAMPLES_REQUEST,
                demo_body=_DEMO_EXAMPLES,
            )
        }
        for verb, needed in (("classify", "one row of scores"), ("regress", "one value"))
    }


def _paths() -> dict[str, Any]:
    paths: dict[str, Any] = {}
    for rest, (which, who) in _WHICH.items():
        model = f"/v1/models/{{model}}{rest}"
        paths[f"{model}:predict"] = {
            "post": _DOOR.operation(
                model,
                f"Predict{which}",
                schemas.PREDICT_RESPONSE,
                description=f"Run the model on rows (`instances`) or columns (`inputs`). {who}",
                need=Permission.MODEL_PREDICT,
                errors=PREDICTION_ERRORS,
                body=schemas.PREDICT_REQUEST,
                demo_body=_DEMO,
            )
        }
        paths |= _of_examples(model, which, who)
        paths[model] = {
            "get": _DOOR.operation(
                model,
                f"Status{which}",
                schemas.STATUS_RESPONSE,
                description="The states of the versions that serve or served, the newest first.",
                need=Permission.MODEL_READ,
                errors=(400, 401, 404, 500, 504),
            )
        }
        paths[f"{model}/metadata"] = {
            "get": _DOOR.operation(
                model,
                f"Signature{which}",
                schemas.METADATA_RESPONSE,
                description=f"Inputs and outputs as a SignatureDef. {who}",
                need=Permission.MODEL_READ,
                errors=(400, 401, 404, 500, 504),
            )
        }
    paths["/v1/models"] = {
        "get": _DOOR.operation(
            "/v1/models",
            "Your models",
            schemas.MODELS_RESPONSE,
            description="The names of the models that you may read and that serve.",
            need="any",
            errors=(400, 401, 500),
        )
    }
    return paths


TF_SERVING_PATHS: Final = _paths()
"""Path items by path."""
