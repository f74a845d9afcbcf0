"""The documentation page, its assets, and what completes the OpenAPI document.

Rules: every asset is served from this package, so the page works without internet and loads nothing
from elsewhere; the page holds no inline script.
"""

from collections.abc import Mapping
from copy import deepcopy
from importlib.resources import files
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path
from fastapi.responses import HTMLResponse, Response

from maas_gateway.errors import GatewayError, NotFound
from maas_gateway.web.description import PERMISSION, needs, problem_answers
from maas_gateway.web.problems import UNEXPECTED

_TAG: Final = "Gateway"
_FAULT: Final = problem_answers(("An unexpected fault.", GatewayError(UNEXPECTED)))
_MISSING: Final = problem_answers(("It does not exist.", NotFound("there is nothing at this address")))
router: Final = APIRouter(tags=[_TAG], responses=_FAULT)

_ASSETS: Final[Mapping[str, str]] = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "docs.js": "text/javascript",
    "favicon.svg": "image/svg+xml",
}
_PAGE: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>maas-gateway: API</title>
<link rel="icon" href="/docs/favicon.svg">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/docs.js"></script>
</body>
</html>
"""
_BEARER: Final[Mapping[str, Any]] = {
    "oauth": {
        "type": "oauth2",
        "description": "A user: `<name>@<tenant>` and password. A service account: client id and secret.",
        "flows": {
            "password": {"tokenUrl": "/oauth/token", "scopes": {}},
            "clientCredentials": {"tokenUrl": "/oauth/token", "scopes": {}},
        },
    },
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A token you have already."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key: `maas_…`."},
}
_EITHER: Final[list[dict[str, list[str]]]] = [{"oauth": []}, {"bearer": []}, {"apiKey": []}]
_PUBLIC: Final = needs("public")
_TAGS: Final[Mapping[str, str]] = {
    "TensorFlow Serving": "Predictions, as TensorFlow Serving's RESTful API answers them.",
    "Open Inference Protocol": "Predictions, as the Open Inference Protocol (KServe, Triton) answers them.",
    "OAuth": "Tokens and the keys that verify them.",
    "Models": "Upload, promote, label and retire.",
    "Publishing": "Publishers' keys, and whether uploads must be signed.",
    "Keys": "Keyrings and their rotation.",
    "Tenants": "Who is served here.",
    "Accounts": "Users, service accounts and their roles.",
    "Shares": "Models that another tenant may invoke.",
    "Quotas and usage": "How much callers may ask for, and how much they did.",
    "Audit": "The record of acts and refusals.",
    _TAG: "The gateway itself: these need no credential.",
}
_EXPLAINED: Final[Mapping[str, str]] = {
    "type": "/problems/model-not-found",
    "title": "Model not found",
    "description": "No such model, version or label for this caller.",
}
_DOCUMENT: Final[Mapping[str, Any]] = {
    "get": {
        "tags": [_TAG],
        "summary": "This document",
        "description": "Return the OpenAPI document of every route.",
        "operationId": "openapi_json_get",
        "responses": {
            "200": {
                "description": "The document.",
                "content": {"application/json": {"schema": {"type": "object"}, "example": {"openapi": "3.1.0"}}},
            },
            **{str(status): answer for status, answer in _FAULT.items()},
        },
        **_PUBLIC,
    }
}
_PROBLEM: Final[Mapping[str, Any]] = {
    "type": "object",
    "description": "An error (RFC 9457).",
    "required": ["type", "title", "status", "detail", "instance", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "`/problems/<slug>`; it explains itself there."},
        "title": {"type": "string", "description": "The kind of error, in words."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What went wrong this time."},
        "instance": {"type": "string", "description": "The path of the request."},
        "request_id": {"type": "string", "description": "What to tell the operator."},
    },
}


@router.get(
    "/", openapi_extra=_PUBLIC, responses={200: {"content": {"application/json": {"example": {"status": "alive"}}}}}
)
async def alive() -> dict[str, str]:
    """Tell that the gateway runs."""
    return {"status": "alive"}


@router.get("/docs", response_class=HTMLResponse, openapi_extra=_PUBLIC)
async def docs() -> HTMLResponse:
    """Show the documentation page."""
    return HTMLResponse(_PAGE)


@router.get("/docs/{asset}", response_class=Response, responses=_MISSING, openapi_extra=_PUBLIC)
async def asset(asset: Annotated[str, Path(description="The file's name.")]) -> Response:
    """Serve a part of the documentation page."""
    if asset not in _ASSETS:
        raise NotFound("there is nothing at this address")
    content = files("maas_gateway.web").joinpath("static", asset).read_bytes()
    return Response(content, media_type=_ASSETS[asset], headers={"cache-control": "public, max-age=3600"})


@router.get(
    "/problems/{slug}",
    openapi_extra=_PUBLIC,
    responses={200: {"content": {"application/json": {"example": _EXPLAINED}}}, **_MISSING},
)
async def explain(slug: Annotated[str, Path(description="The last part of a problem's `type`.")]) -> dict[str, str]:
    """Explain a kind of error, as the `type` of a problem document names it."""
    for kind in _kinds(GatewayError):
        if kind.slug == slug:
            return {"type": f"/problems/{slug}", "title": kind.title, "description": (kind.__doc__ or "").strip()}
    raise NotFound("there is no such kind of problem")


def completed(document: dict[str, Any], paths: Mapping[str, Any]) -> dict[str, Any]:
    """Add the prediction doors' paths, how to authenticate, and the form of problems to an OpenAPI document."""
    document["paths"] = {**paths, **document["paths"], "/openapi.json": deepcopy(dict(_DOCUMENT))}
    document["tags"] = [{"name": name, "description": sentence} for name, sentence in _TAGS.items()]
    components = document.setdefault("components", {})
    components["securitySchemes"] = dict(_BEARER)
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = dict(_PROBLEM)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            if _is_frameworks_422(operation):
                del operation["responses"]["422"]
            operation["security"] = [] if operation.get(PERMISSION) == "public" else _EITHER
    return document


def _is_frameworks_422(operation: Mapping[str, Any]) -> bool:
    """Tell whether 422 is what the framework would answer; this gateway answers 400 instead."""
    answer = operation.get("responses", {}).get("422", {})
    schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
    return bool(schema.get("$ref", "").endswith("HTTPValidationError"))


def _kinds(kind: type[GatewayError]) -> list[type[GatewayError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in _kinds(child))]
