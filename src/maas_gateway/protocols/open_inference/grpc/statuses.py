"""From an error's class to a canonical status of gRPC, and what goes with it.

Rules: a class stands for its children; the trailers are the headers that HTTP would have (`retry-after`,
`www-authenticate`, `ratelimit-…`) and the request's id.

Source: gRPC, "Status codes and their use in gRPC"; NVIDIA Triton's choice for the errors that it has too.
"""

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import Final

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


class Status(IntEnum):
    """Canonical status codes. Source: gRPC, "Status codes and their use in gRPC"."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


CODES: Final[Mapping[type[GatewayError], Status]] = MappingProxyType(
    {
        GatewayError: Status.INTERNAL,
        InvalidRequest: Status.INVALID_ARGUMENT,
        Unauthenticated: Status.UNAUTHENTICATED,
        PermissionDenied: Status.PERMISSION_DENIED,
        NotFound: Status.NOT_FOUND,
        MethodNotAllowed: Status.UNIMPLEMENTED,
        Conflict: Status.FAILED_PRECONDITION,
        VersionExists: Status.ALREADY_EXISTS,
        PayloadTooLarge: Status.RESOURCE_EXHAUSTED,
        Refused: Status.INVALID_ARGUMENT,
        QuotaExceeded: Status.RESOURCE_EXHAUSTED,
        Unsupported: Status.UNIMPLEMENTED,
        Unavailable: Status.UNAVAILABLE,
        DeadlineExceeded: Status.DEADLINE_EXCEEDED,
    }
)
REQUEST_ID: Final = "x-request-id"
MAX_DETAIL: Final = 1_000
"""Characters of a status's sentence: clients bound a call's metadata at 8 KiB."""

Trailers = tuple[tuple[str, str], ...]


def code_of(error: GatewayError) -> Status:
    """Return the status code of an error."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)


def detail_of(error: GatewayError) -> str:
    """Return the sentence of an error as a status may hold it."""
    printable = error.detail.encode("utf-8", "replace").decode()
    return printable if len(printable) <= MAX_DETAIL else f"{printable[:MAX_DETAIL]}…"


def trailers_of(error: GatewayError, request_id: str) -> Trailers:
    """Return the trailing metadata of a refusal."""
    headers = ((name.decode("ascii"), value.decode("ascii", "replace")) for name, value in headers_of(error))
    return ((REQUEST_ID, request_id), *headers)
