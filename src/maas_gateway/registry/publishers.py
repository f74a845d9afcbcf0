"""Who has signed a model before it was uploaded: keys that a tenant has registered, and what they verify.

Rules: a signature is verified by a key that the tenant itself has registered and by nothing that the
signature brings along; it is of the file's bytes, so it says who made the file, not under which name or
number it may be published; whatever does not verify is refused with a sentence for the uploader.
"""

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self

from maas_gateway.crypto.digests import sha256
from maas_gateway.crypto.signatures import verify_es256_digest
from maas_gateway.errors import ArtifactRefused, SignatureRejected
from maas_gateway.identifiers import TenantId
from maas_gateway.registry.openssf import check_statement, hint_of, read_bundle

MAX_KEYS: Final = 32
"""Keys of one tenant: a signature that names none is tried with each."""

_UNKNOWN: Final = "the signature's key is not registered with this tenant; ask an owner to add it"


class SignatureForm(StrEnum):
    """How a signature is made."""

    ES256 = "es256"
    """ECDSA on P-256 with SHA-256 over the file: `openssl dgst -sha256 -sign key.pem`."""
    OPENSSF_BUNDLE = "openssf-bundle"
    """What `model_signing sign key` writes."""


@dataclass(frozen=True, slots=True)
class PublishingRules:
    """What a tenant demands before a version is taken in, and before it is served.

    Attributes:
        requires_signature: whether an upload must be signed with a registered key.
        requires_second_person: whether who releases or promotes a version must be another than who uploaded it.
    """

    requires_signature: bool = False
    requires_second_person: bool = False


@dataclass(frozen=True, slots=True)
class PublisherKey:
    """A public key by which a tenant knows a publisher.

    Attributes:
        key_id: its thumbprint (RFC 7638).
        tenant: whose.
        name: what the tenant calls it; unique there.
        jwk: kty, crv, x and y, of P-256.
        created_at: when it was registered.
    """

    key_id: str
    tenant: TenantId
    name: str
    jwk: Mapping[str, str]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class PublisherSignature:
    """A signature as it came with an upload; nothing of it is verified.

    Attributes:
        form: how it was made.
        content: DER or r ‖ s for `es256`; the bundle's JSON for `openssf-bundle`.
        key_id: the key that it names, or None for whichever it is; a bundle names its own.
    """

    form: SignatureForm
    content: bytes
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who has signed a version, as its manifest says it.

    Attributes:
        key_id: the key that verified the signature.
        name: what the tenant called that key then.
        form: how the signature was made.
        signature: the signature as it came.
    """

    key_id: str
    name: str
    form: SignatureForm
    signature: bytes

    def to_json(self) -> dict[str, object]:
        """Return the stored form."""
        return {
            "key_id": self.key_id,
            "name": self.name,
            "form": self.form.value,
            "signature": base64.b64encode(self.signature).decode("ascii"),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        signature = base64.b64decode(value["signature"], validate=True)
        return cls(value["key_id"], value["name"], SignatureForm(value["form"]), signature)


def verify_publisher(keys: Iterable[PublisherKey], digest: bytes, signature: PublisherSignature) -> PublisherKey:
    """Return the key whose signature of a file that is.

    Protects against: a file that no registered publisher has signed. Does not protect against: a
    signed file that is uploaded under another name, or again once a newer one is there.

    Args:
        keys: the tenant's.
        digest: SHA-256 of the file, 32 bytes.
        signature: as it came with the file.

    Raises:
        ArtifactRefused: it is of another file, of a key that is not among these, altered or malformed.
    """
    if signature.form is SignatureForm.OPENSSF_BUNDLE:
        bundle = read_bundle(signature.content)
        named = [key for key in keys if hint_of(key.jwk) == bundle.hint]
        key = _verified(named, sha256(bundle.signed), bundle.signature)
        check_statement(bundle.payload, digest)
        return key
    return _verified([key for key in keys if signature.key_id in {None, key.key_id}], digest, signature.content)


def _verified(keys: Iterable[PublisherKey], digest: bytes, signature: bytes) -> PublisherKey:
    candidates = list(keys)
    if not candidates:
        raise ArtifactRefused(_UNKNOWN)
    for key in candidates:
        try:
            verify_es256_digest(key.jwk, digest, signature)
        except SignatureRejected:
            continue
        return key
    raise ArtifactRefused("the signature does not verify: it is of another file or another key, or was altered")
