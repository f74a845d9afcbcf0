"""Every error has a status of gRPC."""

from collections.abc import Iterator

import pytest
from grpc import StatusCode

from maas_gateway import errors
from maas_gateway.protocols.open_inference.grpc.statuses import CODES, code_of, detail_of, trailers_of


def _tree(kind: type[errors.GatewayError]) -> Iterator[type[errors.GatewayError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


EXPECTED = {
    errors.GatewayError: StatusCode.INTERNAL,
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.MalformedBody: StatusCode.INVALID_ARGUMENT,
    errors.UnknownField: StatusCode.INVALID_ARGUMENT,
    errors.SignatureMismatch: StatusCode.INVALID_ARGUMENT,
    errors.Unauthenticated: StatusCode.UNAUTHENTICATED,
    errors.TokenInvalid: StatusCode.UNAUTHENTICATED,
    errors.TokenExpired: StatusCode.UNAUTHENTICATED,
    errors.TokenReused: StatusCode.UNAUTHENTICATED,
    errors.CredentialRevoked: StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: StatusCode.PERMISSION_DENIED,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.ModelNotFound: StatusCode.NOT_FOUND,
    errors.LabelNotFound: StatusCode.NOT_FOUND,
    errors.TenantNotFound: StatusCode.NOT_FOUND,
    errors.KeyNotFound: StatusCode.NOT_FOUND,
    errors.Conflict: StatusCode.FAILED_PRECONDITION,
    errors.VersionExists: StatusCode.ALREADY_EXISTS,
    errors.StorageFull: StatusCode.FAILED_PRECONDITION,
    errors.IllegalTransition: StatusCode.FAILED_PRECONDITION,
    errors.PayloadTooLarge: StatusCode.RESOURCE_EXHAUSTED,
    errors.MethodNotAllowed: StatusCode.UNIMPLEMENTED,
    errors.Refused: StatusCode.INVALID_ARGUMENT,
    errors.IdempotencyKeyReused: StatusCode.INVALID_ARGUMENT,
    errors.InputRefused: StatusCode.INVALID_ARGUMENT,
    errors.OutputRefused: StatusCode.INVALID_ARGUMENT,
    errors.ArtifactRefused: StatusCode.INVALID_ARGUMENT,
    errors.QuotaExceeded: StatusCode.RESOURCE_EXHAUSTED,
    errors.TooManyAttempts: StatusCode.RESOURCE_EXHAUSTED,
    errors.IntegrityFailure: StatusCode.INTERNAL,
    errors.CiphertextRejected: StatusCode.INTERNAL,
    errors.SignatureRejected: StatusCode.INTERNAL,
    errors.AuditChainBroken: StatusCode.INTERNAL,
    errors.Unavailable: StatusCode.UNAVAILABLE,
    errors.ModelNotReady: StatusCode.UNAVAILABLE,
    errors.Overloaded: StatusCode.UNAVAILABLE,
    errors.KeyHolderUnavailable: StatusCode.UNAVAILABLE,
    errors.Unsupported: StatusCode.UNIMPLEMENTED,
    errors.UnsupportedDatatype: StatusCode.UNIMPLEMENTED,
    errors.UnsupportedEncoding: StatusCode.UNIMPLEMENTED,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.NeverBegun: StatusCode.DEADLINE_EXCEEDED,
    errors.Misconfigured: StatusCode.INTERNAL,
}


@pytest.mark.parametrize("kind", list(_tree(errors.GatewayError)), ids=lambda kind: kind.__name__)
def test_each_error_has_the_status_that_was_decided(kind: type[errors.GatewayError]) -> None:
    if not kind.__module__.startswith("maas_gateway.errors"):
        pytest.skip("a class of another room or of a test, which is one of these to a client")
    assert code_of(kind("why")) is EXPECTED[kind]


def test_no_status_is_given_to_what_is_no_error() -> None:
    assert set(CODES) <= set(EXPECTED)


def test_trailers_tell_when_to_come_again() -> None:
    error = errors.QuotaExceeded("too many", retry_after_s=2.2, limit=5, remaining=0)
    assert trailers_of(error, "r1") == (
        ("x-request-id", "r1"),
        ("retry-after", "3"),
        ("ratelimit-limit", "5"),
        ("ratelimit-remaining", "0"),
        ("ratelimit-reset", "3"),
    )


def test_sentences_are_printable_and_short() -> None:
    assert detail_of(errors.NotFound("a\ud800b")) == "a?b"
    assert len(detail_of(errors.NotFound("x" * 100_000))) == 1_001
