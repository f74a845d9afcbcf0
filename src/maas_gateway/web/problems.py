"""From an error's class to an HTTP status; the only place where those numbers stand.

Source: RFC 9110 section 15; RFC 9457 (problem details); RFC 6750 section 3 (WWW-Authenticate);
draft-ietf-httpapi-ratelimit-headers-06 section 3 (RateLimit-Limit, -Remaining, -Reset); RFC 9110 section 12.5.3 for an
Accept-Encoding that tells what a request may be encoded by.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from maas_gateway.errors import (
    Conflict,
    DeadlineExceeded,
    GatewayError,
    IntegrityFailure,
    InvalidRequest,
    MethodNotAllowed,
    Misconfigured,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    QuotaExceeded,
    Refused,
    Unauthenticated,
    Unavailable,
    Unsupported,
    UnsupportedEncoding,
)

STATUS: Final[Mapping[type[GatewayError], int]] = MappingProxyType(
    {
        InvalidRequest: 400,
        Unauthenticated: 401,
        PermissionDenied: 403,
        NotFound: 404,
        MethodNotAllowed: 405,
        Conflict: 409,
        PayloadTooLarge: 413,
        Refused: 422,
        QuotaExceeded: 429,
        IntegrityFailure: 500,
        Misconfigured: 500,
        Unsupported: 501,
        Unavailable: 503,
        DeadlineExceeded: 504,
    }
)
"""By the branch of the error tree; a class stands for its children."""

UNEXPECTED: Final = "an unexpected fault; give the operator the request id"
REALM: Final = "maas-gateway"


def status_of(error: GatewayError) -> int:
    """Return the HTTP status of an error."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return 500


def headers_of(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """Return the headers that an error's answer carries."""
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, Unauthenticated):
        challenge = f'Bearer realm="{REALM}"'
        if error.was_sent:
            challenge += f', error="invalid_token", error_description="{error.detail}"'
        headers.append((b"www-authenticate", challenge.encode("ascii", "replace")))
    if isinstance(error, PermissionDenied):
        challenge = f'Bearer realm="{REALM}", error="insufficient_scope"'
        headers.append((b"www-authenticate", challenge.encode()))
    if isinstance(error, UnsupportedEncoding):
        headers.append((b"accept-encoding", b"gzip, deflate"))
    wait = str(max(1, math.ceil(error.retry_after_s or 1))).encode()
    if error.retry_after_s is not None or isinstance(error, Unavailable | QuotaExceeded):
        headers.append((b"retry-after", wait))
    if type(error) is QuotaExceeded:
        headers += [
            (b"ratelimit-limit", str(error.limit).encode()),
            (b"ratelimit-remaining", str(error.remaining).encode()),
            (b"ratelimit-reset", wait),
        ]
    return headers


def problem(error: GatewayError, *, instance: str, request_id: str) -> dict[str, object]:
    """Return the body of RFC 9457 for an error."""
    return {
        "type": f"/problems/{error.slug}",
        "title": error.title,
        "status": status_of(error),
        "detail": error.detail,
        "instance": instance,
        "request_id": request_id,
    }
