"""From an error's class to a canonical status of gRPC, and what goes with it.

Rules: a class stands for its children; the trailers are the headers that HTTP would have (`retry-after`,
`www-authenticate`, `ratelimit-…`) and the request's id.

Source: gRPC, "Status codes and their use in gRPC"; NVIDIA Triton's choice for the errors that it has too.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from grpc import StatusCode

from maas_gateway.errors import (
    Conflict,
    DeadlineExceeded,
    GatewayError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    PermissionDenied,
    QuotaExceeded,
    Refused,
    Unauthenticated,
    Unavailable,
    Unsupported,
    VersionExists,
)
from maas_gateway.web.problems import headers_of

CODES: Final[Mapping[type[GatewayError], StatusCode]] = MappingProxyType(
    {
        GatewayError: StatusCode.INTERNAL,
        InvalidRequest: StatusCode.INVALID_ARGUMENT,
        Unauthenticated: StatusCode.UNAUTHENTICATED,
        PermissionDenied: StatusCode.PERMISSION_DENIED,
        NotFound: StatusCode.NOT_FOUND,
        MethodNotAllowed: StatusCode.UNIMPLEMENTED,
        Conflict: StatusCode.FAILED_PRECONDITION,
        VersionExists: StatusCode.ALREADY_EXISTS,
        PayloadTooLarge: StatusCode.RESOURCE_EXHAUSTED,
        Refused: StatusCode.INVALID_ARGUMENT,
        QuotaExceeded: StatusCode.RESOURCE_EXHAUSTED,
        Unsupported: StatusCode.UNIMPLEMENTED,
        Unavailable: StatusCode.UNAVAILABLE,
        DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    }
)
REQUEST_ID: Final = "x-request-id"
MAX_DETAIL: Final = 1_000
"""Characters of a status's sentence: clients bound a call's metadata at 8 KiB."""

Trailers = tuple[tuple[str, str], ...]


def code_of(error: GatewayError) -> StatusCode:
    """Return the status code of an error."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def number_of(code: StatusCode) -> int:
    """Return a code's number, as metrics have it."""
    number: int = code.value[0]
    return number


def detail_of(error: GatewayError) -> str:
    """Return the sentence of an error as a status may hold it."""
    printable = error.detail.encode("utf-8", "replace").decode()
    return printable if len(printable) <= MAX_DETAIL else f"{printable[:MAX_DETAIL]}…"


def trailers_of(error: GatewayError, request_id: str) -> Trailers:
    """Return the trailing metadata of a refusal."""
    headers = ((name.decode("ascii"), value.decode("ascii", "replace")) for name, value in headers_of(error))
    return ((REQUEST_ID, request_id), *headers)
