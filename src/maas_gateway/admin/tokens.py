"""OAuth: the token endpoint, revocation, introspection, metadata, the published keys.

Source: RFC 6749 sections 2.3, 4.3, 4.4, 5, 6; RFC 7009; RFC 7662; RFC 8414; RFC 7517.
"""

import base64
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from maas_gateway.admin import examples
from maas_gateway.admin.callers import RESPONSES, Caller, Gate, address_of
from maas_gateway.admin.schemas import Introspection, TokenAnswer
from maas_gateway.audit.event import ANONYMOUS, AuditEvent, Outcome
from maas_gateway.auth.sign_in import IssuedToken
from maas_gateway.errors import GatewayError, InvalidRequest, TokenReused, TooManyAttempts, Unauthenticated
from maas_gateway.gateway import Gateway
from maas_gateway.identifiers import PLATFORM, TenantId
from maas_gateway.permissions import Permission
from maas_gateway.web.bodies import read_bytes
from maas_gateway.web.description import needs
from maas_gateway.web.problems import headers_of, status_of

router: Final = APIRouter(tags=["OAuth"], responses={status: RESPONSES[status] for status in (500, 503)})

_BEARER: Final = "Bearer"
_MAX_FORM_BYTES: Final = 16_384
_GRANTS: Final = ("password", "client_credentials", "refresh_token")
_GRANTS_TEXT: Final = "password, client_credentials or refresh_token"
_TOO_MANY: Final = "temporarily_unavailable"
"""RFC 6749 section 5.2 has no code for it; this one is section 4.1.2.1's."""
_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}


def _form_of(required: list[str], properties: dict[str, Any], **examples: Any) -> dict[str, Any]:
    """Return the OpenAPI description of a form; every parameter is a string."""
    members = {name: {"type": "string", **said} for name, said in properties.items()}
    schema = {"type": "object", "required": required, "properties": members}
    return {
        "requestBody": {
            "required": True,
            "content": {"application/x-www-form-urlencoded": {"schema": schema, **examples}},
        }
    }


_FORM: Final = _form_of(
    ["grant_type"],
    {
        "grant_type": {"enum": list(_GRANTS)},
        "username": {"description": "`<name>@<tenant>`, with `password`."},
        "password": {"format": "password"},
        "refresh_token": {"description": "With `refresh_token`; spent by it."},
        "client_id": {"description": "With `client_credentials`; or in Basic."},
        "client_secret": {"format": "password"},
        "scope": {"description": "Permissions separated by spaces; all if absent."},
    },
    examples={
        "user": {"value": {"grant_type": "password", "username": "owner@demo", "password": "…"}},
        "service account": {"value": {"grant_type": "client_credentials", "client_id": "sa-…", "client_secret": "…"}},
    },
)
_TOKEN_FORM: Final = _form_of(["token"], {"token": {}, "token_type_hint": {}}, example={"token": "mgr_…"})
_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "description": "An error (RFC 6749 section 5.2).",
    "required": ["error"],
    "properties": {"error": {"type": "string"}, "error_description": {"type": "string"}},
}


def _error_answer(when: str, error: str, description: str) -> dict[str, Any]:
    example = {"error": error, "error_description": description}
    return {"description": when, "content": {"application/json": {"schema": _ERROR, "example": example}}}


_OF_CALLERS: Final[dict[int | str, dict[str, Any]]] = {
    400: _error_answer("The form is wrong.", "invalid_request", "token is needed"),
    401: RESPONSES[401],
}


class _Refusal(Exception):
    """An error of RFC 6749 section 5.2."""

    def __init__(
        self, code: str, description: str, status: int = 400, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(code)
        self.headers = headers or {}
        self.code = code
        self.description = description
        self.status = status


@router.post(
    "/oauth/token",
    summary="Get a token",
    response_model=TokenAnswer,
    openapi_extra=needs("public", _FORM),
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
        429: _error_answer(
            "Sign-ins to this account, or from this address, failed too often; see Retry-After.",
            _TOO_MANY,
            "too many failed sign-ins; wait before the next",
        ),
    },
)
async def token(request: Request, gateway: Gate) -> Response:
    """Exchange a password, or a service account's id and secret, for an access token.

    Who keeps failing waits longer and longer between attempts that are looked at; a service account's right secret
    always counts.
    """
    form: dict[str, str] = {}
    try:
        form = await _form(request)
        issued = await _issue(request, gateway, form)
    except _Refusal as refusal:
        await _record(gateway, refusal.code, form)
        return _refused(refusal)
    signed_in = AuditEvent("token.issued", issued.principal.name, f"grant {form['grant_type']}")
    await gateway.audit.write_now(issued.principal.tenant, signed_in)
    answer = TokenAnswer(
        access_token=issued.token,
        token_type=_BEARER,
        expires_in=issued.life_s,
        scope=issued.scope,
        refresh_token=issued.refresh_token or None,
    )
    return JSONResponse(answer.model_dump(exclude_none=True), headers=_NO_STORE)


@router.post(
    "/oauth/revoke",
    summary="End a token",
    openapi_extra=needs("any", _TOKEN_FORM),
    response_class=Response,
    responses={200: {"description": "It is worth nothing, or never was."}, **_OF_CALLERS},
)
async def revoke(request: Request, gateway: Gate, caller: Caller) -> Response:
    """End one of your tokens; a refresh token ends with all that came from its sign-in (RFC 7009).

    It answers 200 also for a token that does not exist, or is not yours to end.
    """
    try:
        await gateway.tokens.revoke(caller, await _token_in(request))
    except _Refusal as refusal:
        return _refused(refusal)
    except InvalidRequest as error:
        return _refused(_Refusal("unsupported_token_type", error.detail))
    return Response(headers=_NO_STORE)


@router.post(
    "/oauth/introspect",
    summary="What a token is good for",
    openapi_extra=needs("any", _TOKEN_FORM),
    response_model=Introspection,
    responses=_OF_CALLERS,
)
async def introspect(request: Request, gateway: Gate, caller: Caller) -> Response:
    """Tell what a token of your own tenant is good for now (RFC 7662); of any other, `{"active": false}`."""
    try:
        told = await gateway.tokens.introspect(caller, await _token_in(request))
    except _Refusal as refusal:
        return _refused(refusal)
    return JSONResponse(told, headers=_NO_STORE)


@router.get(
    "/.well-known/jwks.json",
    openapi_extra=needs("public"),
    summary="Public keys",
    responses={200: {"content": {"application/json": {"example": examples.JWKS}}}},
)
async def jwks(gateway: Gate) -> dict[str, Any]:
    """Return every public key that may still verify a token."""
    return await gateway.jwks.document()


@router.get(
    "/.well-known/statement-keys.json",
    openapi_extra=needs("public"),
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
    openapi_extra=needs("public"),
    summary="Where tokens come from",
    responses={200: {"content": {"application/json": {"example": examples.AUTHORIZATION_SERVER}}}},
)
async def metadata(request: Request) -> dict[str, Any]:
    """Describe the token endpoint (RFC 8414)."""
    issuer: str = request.app.state.issuer
    return {
        "issuer": issuer,
        "token_endpoint": f"{issuer}/oauth/token",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "grant_types_supported": list(_GRANTS),
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "scopes_supported": [permission.value for permission in Permission],
        "service_documentation": f"{issuer}/docs",
    }


async def _issue(request: Request, gateway: Gateway, form: dict[str, str]) -> IssuedToken:
    grant = form.get("grant_type")
    if grant not in _GRANTS:
        code = "invalid_request" if grant is None else "unsupported_grant_type"
        raise _Refusal(code, f"grant_type: {_GRANTS_TEXT}")
    try:
        return await _exchange(request, gateway, form)
    except TokenReused as error:
        alarm = AuditEvent("token.reused", f"account {error.subject}", "refresh token", Outcome.ALARM, error.slug)
        await gateway.audit.write_now(PLATFORM if error.tenant is None else TenantId(error.tenant), alarm)
        raise _Refusal("invalid_grant", error.detail) from error
    except TooManyAttempts as error:
        headers = {name.decode(): value.decode() for name, value in headers_of(error)}
        raise _Refusal(_TOO_MANY, error.detail, status_of(error), headers) from error
    except Unauthenticated as error:
        if grant == "client_credentials":
            raise _Refusal("invalid_client", error.detail, 401) from error
        raise _Refusal("invalid_grant", error.detail) from error
    except InvalidRequest as error:
        raise _Refusal("invalid_scope", error.detail) from error


async def _exchange(request: Request, gateway: Gateway, form: dict[str, str]) -> IssuedToken:
    basic, scope, address = _basic(request), form.get("scope"), address_of(request)
    if form["grant_type"] == "password":
        username, password = _needed(form, "username", "password")
        return await gateway.sign_in.by_password(username, password, scope, address=address)
    if form["grant_type"] == "refresh_token":
        (refresh_token,) = _needed(form, "refresh_token")
        return await gateway.sign_in.by_refresh(refresh_token, scope)
    if basic is not None and "client_secret" in form:
        raise _Refusal("invalid_request", "the client's credential is given twice")
    client_id, secret = basic or (form.get("client_id", ""), form.get("client_secret", ""))
    return await gateway.sign_in.by_secret(client_id, secret, scope, address=address)


def _needed(form: dict[str, str], *names: str) -> list[str]:
    if any(name not in form for name in names):
        raise _Refusal("invalid_request", f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} needed")
    return [form[name] for name in names]


async def _token_in(request: Request) -> str:
    token = (await _form(request)).get("token")
    if token is None:
        raise _Refusal("invalid_request", "token is needed")
    return token


def _refused(refusal: _Refusal) -> Response:
    headers = {**_NO_STORE, **refusal.headers}
    if refusal.status == 401:  # noqa: PLR2004  RFC 6749 section 5.2 names the number
        headers["WWW-Authenticate"] = 'Basic realm="maas-gateway"'
    return JSONResponse(
        {"error": refusal.code, "error_description": refusal.description}, refusal.status, headers=headers
    )


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
    """Have a refusal recorded, without a name or an address, which a stranger may have made up."""
    grant = form.get("grant_type")
    what = f"grant {grant}" if grant in _GRANTS else "no grant"
    event = AuditEvent("token.refused", ANONYMOUS, what, Outcome.REFUSED, reason)
    if reason == _TOO_MANY:  # however many there are, they share a record, and none waits for it
        gateway.audit.write_soon(PLATFORM, event)
    else:
        await gateway.audit.write_now(PLATFORM, event)
