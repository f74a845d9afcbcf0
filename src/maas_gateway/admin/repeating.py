"""Routes that take `Idempotency-Key`: an act that is asked for twice with one key is done once.

Rules: POST, PATCH and DELETE take it; PUT is the same however often it comes, by itself. The caller is known before the
key is looked at. A refusal changes nothing and is not kept.
"""

from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.types import Message

from maas_gateway.admin.callers import RESPONSES, gateway_of, principal_of
from maas_gateway.errors import GatewayError, IdempotencyKeyReused, Unavailable
from maas_gateway.idempotency.request import Answer, check_key, fingerprint_of
from maas_gateway.web.bodies import MAX_BODY_BYTES, read_bytes
from maas_gateway.web.description import problem_answers
from maas_gateway.web.problems import status_of

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotent-Replayed"
_UNSAFE: Final = frozenset({"POST", "PATCH", "DELETE"})
_REUSED: Final = problem_answers(
    (
        f"The {HEADER} came with another request before.",
        IdempotencyKeyReused("Idempotency-Key: it came with another request; take a new one for each act"),
    )
)
_DESCRIBED: Final[dict[str, Any]] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 16, "maxLength": 255},
    "description": "A UUID of your own: sent again with it within a day, the request is answered as before and done"
    f" once; that answer says `{REPLAYED}: true`.",
}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def management_router(tag: str, *, below: str = "") -> APIRouter:
    """Return a router of the management API.

    Args:
        tag: under which the document lists its routes.
        below: what their paths have in common after `/admin/v1`.
    """
    return APIRouter(prefix=f"/admin/v1{below}", tags=[tag], responses=RESPONSES, route_class=IdempotentRoute)


class IdempotentRoute(APIRoute):
    """A route of the management API."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        """Describe the header where the route takes it; the framework makes a route more than once."""
        extra = options.get("openapi_extra") or {}
        if _UNSAFE & set(options.get("methods") or ()) and _DESCRIBED not in extra.get("parameters", []):
            options["openapi_extra"] = {**extra, "parameters": [*extra.get("parameters", []), _DESCRIBED]}
            options["responses"] = {**_REUSED, **(options.get("responses") or {})}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Handler:
        """Return what answers a request."""
        answered = super().get_route_handler()

        async def handle(request: Request) -> Response:
            text = request.headers.get(HEADER)
            if text is None or request.method not in _UNSAFE:
                return await answered(request)
            return await _once(request, text, answered)

        return handle


async def _once(request: Request, text: str, answered: Handler) -> Response:
    principal = await principal_of(request)
    key, body = check_key(text), await read_bytes(request, MAX_BODY_BYTES)
    target = f"{request.scope['path']}?{request.scope['query_string'].decode('latin-1')}"
    repeats = gateway_of(request).repeats
    before = await repeats.begin(principal, key, fingerprint_of(key, request.method, target, body))
    if before is not None:
        return Response(before.body, before.status, {**dict(before.headers), REPLAYED: "true"})
    try:
        response = await answered(_with_body(request, body))
    except (RequestValidationError, HTTPException, GatewayError) as error:
        if _changed_nothing(error):
            await repeats.forget(principal, key)
        raise
    headers = tuple((name, value) for name, value in response.headers.items() if name != "content-length")
    await repeats.keep(principal, key, Answer(response.status_code, headers, bytes(response.body)))
    return response


def _changed_nothing(error: Exception) -> bool:
    """Tell whether an act was refused, or could not begin; after any other fault nobody knows."""
    if isinstance(error, GatewayError):
        return isinstance(error, Unavailable) or status_of(error) < 500  # noqa: PLR2004  the class of the status
    return True


def _with_body(request: Request, body: bytes) -> Request:
    """Return the request as it was before its body was read."""
    is_told = False

    async def receive() -> Message:
        nonlocal is_told
        if is_told:
            return await request.receive()
        is_told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, receive)
