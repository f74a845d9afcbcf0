"""Who calls a management route, known before its body is read; what refused it, on record."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, cast

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from maas_gateway.errors import GatewayError, MethodNotAllowed, NotFound
from maas_gateway.gateway import Gateway
from maas_gateway.principal import Principal
from maas_gateway.web.authentication import authenticate
from maas_gateway.web.bodies import invalid
from maas_gateway.web.problems import UNEXPECTED, headers_of, problem, status_of
from maas_gateway.web.refusals import refusal

PROBLEM_JSON: Final = "application/problem+json"
_METHOD_NOT_ALLOWED: Final = 405


def gateway_of(request: Request) -> Gateway:
    """Return the gateway that the application opened."""
    return cast("Gateway", request.app.state.gateway)


async def principal_of(request: Request) -> Principal:
    """Return the authenticated caller.

    Raises:
        Unauthenticated: no credential, or none that counts.
    """
    principal = await authenticate(gateway_of(request).authenticator, request.scope["headers"], takes_basic=False)
    request.state.principal = principal
    return principal


Gate = Annotated[Gateway, Depends(gateway_of)]
Caller = Annotated[Principal, Depends(principal_of)]

_PROBLEM: Final[Mapping[str, Any]] = {
    "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    400: {"description": "A field is missing, unknown or wrong; the sentence names it.", **_PROBLEM},
    401: {"description": "No credential, or none that counts.", **_PROBLEM},
    403: {"description": "You may see it and may not do this.", **_PROBLEM},
    404: {"description": "It does not exist, for you.", **_PROBLEM},
    409: {"description": "Its state does not allow this now.", **_PROBLEM},
    500: {"description": "An unexpected fault.", **_PROBLEM},
}
"""What every management route may answer besides its own."""


def handle_errors(app: FastAPI) -> None:
    """Have every error of the application answered as a problem document."""
    app.add_exception_handler(GatewayError, _on_gateway_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(Exception, _on_fault)


async def _on_gateway_error(request: Request, error: Exception) -> Response:
    found = cast("GatewayError", error)
    principal = getattr(request.state, "principal", None)
    route = request.scope.get("route")
    what = f"{request.method} {request.url.path if principal else getattr(route, 'path', 'unknown')}"
    record = refusal(found, principal, what)
    if record is not None:
        await gateway_of(request).audit.refused_now(*record)
    return _problem(request, found)


async def _on_invalid(request: Request, error: Exception) -> Response:
    return _problem(request, invalid(cast("RequestValidationError", error).errors()))


async def _on_http_error(request: Request, error: Exception) -> Response:
    found = cast("HTTPException", error)
    if found.status_code == _METHOD_NOT_ALLOWED:
        return _problem(request, MethodNotAllowed(f"{request.method} is not offered here"))
    is_client = found.status_code < 500  # noqa: PLR2004  the class of the status, not a status
    return _problem(request, NotFound("there is nothing at this address") if is_client else GatewayError(UNEXPECTED))


async def _on_fault(request: Request, error: Exception) -> Response:
    del error  # the framework's outermost frame logs it
    return _problem(request, GatewayError(UNEXPECTED))


def _problem(request: Request, error: GatewayError) -> Response:
    headers = {name.decode(): value.decode() for name, value in headers_of(error)}
    request_id = request.scope.get("state", {}).get("request_id", "")
    body = problem(error, instance=request.url.path, request_id=request_id)
    return JSONResponse(body, status_of(error), headers=headers, media_type=PROBLEM_JSON)
