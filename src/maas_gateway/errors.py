"""The one error tree: what may go wrong, named by what the caller can do about it.

    GatewayError
      InvalidRequest      MalformedBody, UnknownField, SignatureMismatch
      Unauthenticated     TokenInvalid, TokenExpired, TokenReused, CredentialRevoked
      PermissionDenied
      NotFound            ModelNotFound (LabelNotFound), TenantNotFound, KeyNotFound
      Conflict            VersionExists, IllegalTransition, StorageFull
      PayloadTooLarge
      MethodNotAllowed
      Refused             IdempotencyKeyReused, InputRefused, OutputRefused, ArtifactRefused
      QuotaExceeded       TooManyAttempts
      IntegrityFailure    CiphertextRejected, SignatureRejected, AuditChainBroken
      Unavailable         ModelNotReady, Overloaded, KeyHolderUnavailable
      Unsupported         UnsupportedDatatype, UnsupportedEncoding
      DeadlineExceeded    NeverBegun
      Misconfigured

Rules: a class has a fixed `slug` and `title`; an instance has a `detail` that is written for the
client (no secret, no path, no other tenant's name) and perhaps `retry_after_s`. HTTP numbers stand
in `web/problems.py` only.
"""

from typing import ClassVar
from uuid import UUID


class GatewayError(Exception):
    """The root: something ours, with a sentence for the caller."""

    slug: ClassVar[str] = "gateway-error"
    title: ClassVar[str] = "The gateway refused"

    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


class InvalidRequest(GatewayError):
    """The request cannot be understood as sent."""

    slug = "invalid-request"
    title = "Invalid request"


class MalformedBody(InvalidRequest):
    """The body is not what its door's codec reads."""

    slug = "malformed-body"
    title = "Malformed body"


class UnknownField(InvalidRequest):
    """The body names a field that does not exist."""

    slug = "unknown-field"
    title = "Unknown field"


class SignatureMismatch(InvalidRequest):
    """The tensors do not fit the model's signature."""

    slug = "signature-mismatch"
    title = "Tensors do not fit the model's signature"


class Unauthenticated(GatewayError):
    """No credential, or none that counts.

    `was_sent` tells whether the caller sent one: RFC 6750 section 3.1 gives an error code only then.
    """

    slug = "unauthenticated"
    title = "Authentication required"

    def __init__(self, detail: str, *, was_sent: bool = True) -> None:
        super().__init__(detail)
        self.was_sent = was_sent


class TokenInvalid(Unauthenticated):
    """The token is not one of ours, or was altered."""

    slug = "token-invalid"
    title = "Invalid token"


class TokenExpired(Unauthenticated):
    """The token's life is over."""

    slug = "token-expired"
    title = "Expired token"


class TokenReused(Unauthenticated):
    """A refresh token was spent twice: it was stolen, or its owner's program is at fault."""

    slug = "token-reused"
    title = "Token used twice"

    def __init__(self, detail: str, *, tenant: UUID | None = None, subject: UUID | None = None) -> None:
        super().__init__(detail)
        self.tenant = tenant
        self.subject = subject


class CredentialRevoked(Unauthenticated):
    """The credential was good once and is not any more."""

    slug = "credential-revoked"
    title = "Revoked credential"


class PermissionDenied(GatewayError):
    """The caller may see the thing and may not do this to it."""

    slug = "permission-denied"
    title = "Permission denied"


class NotFound(GatewayError):
    """It does not exist, or the caller may not know that it does."""

    slug = "not-found"
    title = "Not found"


class ModelNotFound(NotFound):
    """No such model, version or label for this caller."""

    slug = "model-not-found"
    title = "Model not found"


class LabelNotFound(ModelNotFound):
    """The model is there and has no such label."""

    slug = "label-not-found"
    title = "Label not found"


class TenantNotFound(NotFound):
    """No such tenant for this caller."""

    slug = "tenant-not-found"
    title = "Tenant not found"


class KeyNotFound(NotFound):
    """No such keyring or key version for this caller."""

    slug = "key-not-found"
    title = "Key not found"


class Conflict(GatewayError):
    """The state of the thing does not allow it now."""

    slug = "conflict"
    title = "Conflict"


class VersionExists(Conflict):
    """This version number is taken by other content."""

    slug = "version-exists"
    title = "Version exists"


class IllegalTransition(Conflict):
    """The thing's life has no such step from where it is."""

    slug = "illegal-transition"
    title = "Illegal transition"


class StorageFull(Conflict):
    """The tenant has stored as much as it may; something must go before more is taken."""

    slug = "storage-full"
    title = "Storage full"


class PayloadTooLarge(GatewayError):
    """The body is larger than this deployment accepts."""

    slug = "payload-too-large"
    title = "Payload too large"


class MethodNotAllowed(GatewayError):
    """The path exists and does not answer this method."""

    slug = "method-not-allowed"
    title = "Method not allowed"


class Refused(GatewayError):
    """Understood, and refused for what it contains."""

    slug = "refused"
    title = "Refused"


class IdempotencyKeyReused(Refused):
    """One Idempotency-Key came with two different requests."""

    slug = "idempotency-key-reused"
    title = "Idempotency key reused"


class InputRefused(Refused):
    """A guard refused the input."""

    slug = "input-refused"
    title = "Input refused"


class OutputRefused(Refused):
    """A guard refused to let the output leave."""

    slug = "output-refused"
    title = "Output refused"


class ArtifactRefused(Refused):
    """An uploaded model is unsafe, broken, or cannot be served faithfully."""

    slug = "artifact-refused"
    title = "Artifact refused"


class QuotaExceeded(GatewayError):
    """A limit of the caller's is reached, for now or for good.

    Attributes:
        limit: how much it allows, in what its sentence names.
        remaining: how much of that is left.
    """

    slug = "quota-exceeded"
    title = "Quota exceeded"

    def __init__(self, detail: str, *, retry_after_s: float | None = None, limit: int = 0, remaining: int = 0) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self.limit = limit
        self.remaining = remaining


class TooManyAttempts(QuotaExceeded):
    """Too many sign-ins failed; the next one is looked at after a while."""

    slug = "too-many-attempts"
    title = "Too many attempts"


class IntegrityFailure(GatewayError):
    """Stored or signed bytes are not what was stored or signed: raise the alarm."""

    slug = "integrity-failure"
    title = "Integrity failure"


class CiphertextRejected(IntegrityFailure):
    """A ciphertext, its header or its wrapped key was altered, moved or cut."""

    slug = "ciphertext-rejected"
    title = "Ciphertext rejected"


class SignatureRejected(IntegrityFailure):
    """A signature does not verify."""

    slug = "signature-rejected"
    title = "Signature rejected"


class AuditChainBroken(IntegrityFailure):
    """The audit log's hash chain does not verify."""

    slug = "audit-chain-broken"
    title = "Audit chain broken"


class Unavailable(GatewayError):
    """Not now; later perhaps."""

    slug = "unavailable"
    title = "Unavailable"


class ModelNotReady(Unavailable):
    """The model version is not loaded: still loading, or it failed to."""

    slug = "model-not-ready"
    title = "Model not ready"


class Overloaded(Unavailable):
    """A bounded queue is full."""

    slug = "overloaded"
    title = "Overloaded"


class KeyHolderUnavailable(Unavailable):
    """The root-key holder does not answer."""

    slug = "key-holder-unavailable"
    title = "Key holder unavailable"


class Unsupported(GatewayError):
    """A part of the protocol that this gateway does not offer."""

    slug = "unsupported"
    title = "Unsupported"


class UnsupportedDatatype(Unsupported):
    """A datatype that this door cannot carry."""

    slug = "unsupported-datatype"
    title = "Unsupported datatype"


class UnsupportedEncoding(Unsupported):
    """A content encoding that this door cannot read."""

    slug = "unsupported-encoding"
    title = "Unsupported encoding"


class DeadlineExceeded(GatewayError):
    """Time ran out before the answer was ready."""

    slug = "deadline-exceeded"
    title = "Deadline exceeded"


class NeverBegun(DeadlineExceeded):
    """Time ran out before anything was computed."""

    slug = "never-begun"
    title = "Deadline exceeded in line"


class Misconfigured(GatewayError):
    """The configuration or the place does not allow a safe start."""

    slug = "misconfigured"
    title = "Misconfigured"
