"""Who calls a management route, known before its body is read; what refused it, on record."""

from typing import Annotated, Final, cast

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from maas_gateway.errors import (
    Conflict,
    GatewayError,
    InvalidRequest,
    KeyHolderUnavailable,
    MethodNotAllowed,
    NotFound,
    PermissionDenied,
    TooManyAttempts,
    Unauthenticated,
)
from maas_gateway.gateway import Gateway
from maas_gateway.principal import Principal
from maas_gateway.web.authentication import authenticate
from maas_gateway.web.bodies import invalid
from maas_gateway.web.description import PROBLEM_JSON, problem_answers
from maas_gateway.web.problems import UNEXPECTED, headers_of, problem, status_of
from maas_gateway.web.refusals import refusal

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


def address_of(request: Request) -> str:
    """Return the client's address, as the server or a proxy that it trusts has seen it; "" where there is none."""
    return "" if request.client is None else request.client.host


Gate = Annotated[Gateway, Depends(gateway_of)]
Caller = Annotated[Principal, Depends(principal_of)]

RESPONSES: Final = problem_answers(
    ("A field is missing, unknown or wrong; the sentence names it.", InvalidRequest("name: Field required")),
    ("No credential, or none that counts.", Unauthenticated("send a token: Authorization: Bearer <token>")),
    ("You may see it and may not do this.", PermissionDenied("this needs the permission model:write")),
    ("It does not exist, for you.", NotFound("there is nothing at this address")),
    ("Its state does not allow this now.", Conflict("label 'stable' points at version 1; move or delete it first")),
    ("An unexpected fault.", GatewayError(UNEXPECTED)),
    (
        "Something that this needs does not answer; see Retry-After.",
        KeyHolderUnavailable("the root-key file cannot be read now"),
    ),
)
"""What every management route may answer besides its own."""
TOO_MANY: Final = problem_answers(
    (
        "It failed too often; see Retry-After.",
        TooManyAttempts("too many failed sign-ins; wait before the next"),
    )
)
"""What a route may answer that checks a password."""


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
    what = f"{request.method} {request.scope['path'] if principal else getattr(route, 'path', 'unknown')}"
    record = refusal(found, principal, what)
    if record is not None:
        try:
            await gateway_of(request).audit.write_now(*record)
        except Exception:  # noqa: BLE001  the outermost frame of a door; the record waits and is tried again
            structlog.get_logger().exception("audit_delayed")
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
    del error  # the frame around the framework logs it
    return _problem(request, GatewayError(UNEXPECTED))


def _problem(request: Request, error: GatewayError) -> Response:
    headers = {name.decode(): value.decode() for name, value in headers_of(error)}
    request_id = request.scope.get("state", {}).get("request_id", "")
    body = problem(error, instance=request.scope["path"], request_id=request_id)
    return JSONResponse(body, status_of(error), headers=headers, media_type=PROBLEM_JSON)
