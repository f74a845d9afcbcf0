"""OAuth: the token endpoint, its metadata, the published keys.

Source: RFC 6749 sections 2.3, 4.3, 4.4, 5; RFC 8414; RFC 7517.
"""

import base64
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from maas_gateway.admin import examples
from maas_gateway.admin.callers import RESPONSES, Gate
from maas_gateway.admin.schemas import TokenAnswer
from maas_gateway.audit.event import ANONYMOUS, AuditEvent, Outcome
from maas_gateway.auth.sign_in import IssuedToken
from maas_gateway.errors import GatewayError, InvalidRequest, Unauthenticated
from maas_gateway.gateway import Gateway
from maas_gateway.identifiers import PLATFORM
from maas_gateway.permissions import Permission
from maas_gateway.web.bodies import read_bytes

router: Final = APIRouter(tags=["OAuth"], responses={status: RESPONSES[status] for status in (500, 503)})

_BEARER: Final = "Bearer"
_MAX_FORM_BYTES: Final = 16_384
_GRANTS: Final = ("password", "client_credentials")
_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_FORM: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/x-www-form-urlencoded": {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "properties": {
                        "grant_type": {"type": "string", "enum": list(_GRANTS)},
                        "username": {"type": "string", "description": "`<name>@<tenant>`, with `password`."},
                        "password": {"type": "string", "format": "password"},
                        "client_id": {"type": "string", "description": "With `client_credentials`; or in Basic."},
                        "client_secret": {"type": "string", "format": "password"},
                        "scope": {"type": "string", "description": "Permissions separated by spaces; all if absent."},
                    },
                },
                "examples": {
                    "user": {"value": {"grant_type": "password", "username": "owner@demo", "password": "…"}},
                    "service account": {
                        "value": {"grant_type": "client_credentials", "client_id": "sa-…", "client_secret": "…"}
                    },
                },
            }
        },
    }
}
_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "description": "An error (RFC 6749 section 5.2).",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
}


def _error_answer(when: str, error: str, description: str) -> dict[str, Any]:
    example = {"error": error, "error_description": description}
    return {"description": when, "content": {"application/json": {"schema": _ERROR, "example": example}}}


class _Refusal(Exception):
    """An error of RFC 6749 section 5.2."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.description = description
        self.status = status


@router.post(
    "/oauth/token",
    summary="Get a token",
    response_model=TokenAnswer,
    openapi_extra=_FORM,
    responses={
        400: _error_answer(
            "The grant, the user's password or the scope is wrong.",
            "invalid_grant",
            "the username or the password is wrong",
        ),
        401: _error_answer(
            "The service account's credential is wrong.",
            "invalid_client",
            "the client id or the client secret is wrong",
        ),
    },
)
async def token(request: Request, gateway: Gate) -> Response:
    """Exchange a password, or a service account's id and secret, for an access token."""
    form: dict[str, str] = {}
    try:
        form = await _form(request)
        issued = await _issue(request, gateway, form)
    except _Refusal as refusal:
        await _record(gateway, refusal.code, form)
        headers = dict(_NO_STORE)
        if refusal.status == 401:  # noqa: PLR2004  RFC 6749 section 5.2 names the number
            headers["WWW-Authenticate"] = 'Basic realm="maas-gateway"'
        body = {"error": refusal.code, "error_description": refusal.description}
        return JSONResponse(body, refusal.status, headers=headers)
    signed_in = AuditEvent("token.issued", issued.principal.name, f"grant {form['grant_type']}")
    await gateway.audit.write_now(issued.principal.tenant, signed_in)
    answer = TokenAnswer(access_token=issued.token, token_type=_BEARER, expires_in=issued.life_s, scope=issued.scope)
    return JSONResponse(answer.model_dump(), headers=_NO_STORE)


@router.get(
    "/.well-known/jwks.json",
    summary="Public keys",
    responses={200: {"content": {"application/json": {"example": examples.JWKS}}}},
)
async def jwks(gateway: Gate) -> dict[str, Any]:
    """Return every public key that may still verify a token."""
    return await gateway.jwks.document()


@router.get(
    "/.well-known/statement-keys.json",
    summary="Public keys of statements",
    responses={200: {"content": {"application/json": {"example": examples.JWKS}}}},
)
async def statement_keys(gateway: Gate) -> dict[str, Any]:
    """Return every public key that signs or once signed manifests and erasure certificates, with its `state`.

    A key that is disabled or destroyed signs nothing any more; what it signed before still verifies.
    """
    return {"keys": await gateway.statements.history()}


@router.get(
    "/.well-known/oauth-authorization-server",
    summary="Where tokens come from",
    responses={200: {"content": {"application/json": {"example": examples.AUTHORIZATION_SERVER}}}},
)
async def metadata(request: Request) -> dict[str, Any]:
    """Describe the token endpoint (RFC 8414)."""
    issuer: str = request.app.state.issuer
    return {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/oauth/token",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "grant_types_supported": list(_GRANTS),
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "scopes_supported": [permission.value for permission in Permission],
        "service_documentation": f"{issuer}/docs",
    }


async def _issue(request: Request, gateway: Gateway, form: dict[str, str]) -> IssuedToken:
    grant = form.get("grant_type")
    basic = _basic(request)
    scope = form.get("scope")
    try:
        if grant == "password":
            if "username" not in form or "password" not in form:
                raise _Refusal("invalid_request", "username and password are needed")
            return await gateway.sign_in.by_password(form["username"], form["password"], scope)
        if grant == "client_credentials":
            if basic is not None and "client_secret" in form:
                raise _Refusal("invalid_request", "the client's credential is given twice")
            client_id, secret = basic or (form.get("client_id", ""), form.get("client_secret", ""))
            return await gateway.sign_in.by_secret(client_id, secret, scope)
    except Unauthenticated as error:
        if grant == "password":
            raise _Refusal("invalid_grant", error.detail) from error
        raise _Refusal("invalid_client", error.detail, 401) from error
    except InvalidRequest as error:
        raise _Refusal("invalid_scope", error.detail) from error
    if grant is None:
        raise _Refusal("invalid_request", "grant_type is needed: password or client_credentials")
    raise _Refusal("unsupported_grant_type", "grant_type: password or client_credentials")


async def _form(request: Request) -> dict[str, str]:
    try:
        text = (await read_bytes(request, _MAX_FORM_BYTES)).decode()
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=20)
    except (GatewayError, ValueError) as cause:
        raise _Refusal("invalid_request", "the body is no form, too large or too slow") from cause
    if len({name for name, _ in pairs}) != len(pairs):
        raise _Refusal("invalid_request", "a parameter is given twice")
    return {name: value for name, value in pairs if value}


def _basic(request: Request) -> tuple[str, str] | None:
    sent = request.headers.getlist("authorization")
    if len(sent) > 1:
        raise _Refusal("invalid_request", "more than one credential was sent")
    scheme, _, credential = (sent[0] if sent else "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, colon, secret = base64.b64decode(credential, validate=True).decode().partition(":")
    except ValueError as cause:  # no base64, no ASCII, no UTF-8
        raise _Refusal("invalid_client", "the Basic credential cannot be read", 401) from cause
    if not colon:
        raise _Refusal("invalid_client", "the Basic credential cannot be read", 401)
    return unquote_plus(client_id), unquote_plus(secret)  # RFC 6749 section 2.3.1


async def _record(gateway: Gateway, reason: str, form: dict[str, str]) -> None:
    grant = form.get("grant_type")
    what = f"grant {grant}" if grant in _GRANTS else "no grant"
    await gateway.audit.write_now(PLATFORM, AuditEvent("token.refused", ANONYMOUS, what, Outcome.REFUSED, reason))
