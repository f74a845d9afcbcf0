"""Signature bundles as OpenSSF model signing writes them with a key, for a model that is one file.

Rules:
    * A bundle is a Sigstore bundle 0.3 around a DSSE envelope with one signature. Of what it brings along
      to verify by, only the hint is used, and only to find a key that was registered before; bundles made
      with a certificate or an identity are refused.
    * What is signed is the envelope's pre-authentication encoding, whose type is checked; the payload is
      read after its signature was verified.
    * The statement is about exactly one file, by its SHA-256; under which name is not looked at, since a
      model has its name from whoever uploads it.
    * JSON has one reading (`scanning.strict_json`); members that are not named here are passed over, as the
      specification of the predicate demands.

Source: github.com/sigstore/model-transparency, release 1.1.1: `_signing/sign_ec_key.py` (the hint, the
signature), `_signing/signing.py` (the statement); DSSE 1.0.0, protocol.md (the encoding); in-toto
Statement v1; sigstore/protobuf-specs, `sigstore_bundle.proto`. Deviations: bundles from before
release 1.1, which have no hint, and from before 1.0, which sign another encoding, are refused.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from maas_gateway.crypto.digests import sha256_hex
from maas_gateway.crypto.signatures import pem_of_jwk
from maas_gateway.errors import ArtifactRefused
from maas_gateway.scanning.scanner import Refusal, clip
from maas_gateway.scanning.strict_json import JSON, read_json

MAX_BUNDLE_BYTES: Final = 16_384
"""About ten times what one file's bundle takes."""

_MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://model_signing/signature/v1.0"
_BUNDLE: Final = "the signature's bundle"
_STATED: Final = "the signed statement"

T = TypeVar("T", bound=JSON)


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """What a bundle holds; nothing of it is verified.

    Attributes:
        hint: names the key: SHA-256, hexadecimal, of its PEM.
        payload: the statement, as it was signed.
        signature: DER, of `signed`.
    """

    hint: str
    payload: bytes
    signature: bytes

    @property
    def signed(self) -> bytes:
        """The bytes that are signed: DSSE's pre-authentication encoding of type and payload."""
        return b"DSSEv1 %d %s %d %s" % (
            len(_PAYLOAD_TYPE),
            _PAYLOAD_TYPE.encode("ascii"),
            len(self.payload),
            self.payload,
        )


def hint_of(jwk: Mapping[str, object]) -> str:
    """Return how a bundle names a key: SHA-256, hexadecimal, of its PEM."""
    return sha256_hex(pem_of_jwk(jwk))


def read_bundle(raw: bytes) -> SignedStatement:
    """Read a bundle; nothing of it is verified.

    Raises:
        ArtifactRefused: it is too large, malformed, of another version, or was not made with a key.
    """
    if len(raw) > MAX_BUNDLE_BYTES:
        raise ArtifactRefused(f"{_BUNDLE} is larger than the {MAX_BUNDLE_BYTES} bytes that are accepted")
    bundle = _read(raw, _BUNDLE)
    _expect(bundle, "mediaType", _MEDIA_TYPE, _BUNDLE)
    material = _member(bundle, "verificationMaterial", dict, _BUNDLE)
    if "publicKey" not in material:
        raise ArtifactRefused(f"{_BUNDLE} was not made with a key: model_signing sign key")
    envelope = _member(bundle, "dsseEnvelope", dict, _BUNDLE)
    _expect(envelope, "payloadType", _PAYLOAD_TYPE, _BUNDLE)
    signature = _only(_member(envelope, "signatures", list, _BUNDLE), "signatures", _BUNDLE)
    return SignedStatement(
        hint=_member(_member(material, "publicKey", dict, _BUNDLE), "hint", str, _BUNDLE),
        payload=_decoded(envelope, "payload"),
        signature=_decoded(signature, "sig"),
    )


def check_statement(payload: bytes, digest: bytes) -> None:
    """Refuse a statement that is not about exactly the file that has this digest.

    Args:
        payload: what was signed, verified already.
        digest: SHA-256 of the file, 32 bytes.

    Raises:
        ArtifactRefused: it is about another file, about several, or is another kind of statement.
    """
    statement = _read(payload, _STATED)
    _expect(statement, "_type", _STATEMENT, _STATED)
    _expect(statement, "predicateType", _PREDICATE, _STATED)
    predicate = _member(statement, "predicate", dict, _STATED)
    serialization = _member(predicate, "serialization", dict, _STATED)
    _expect(serialization, "method", "files", _STATED)
    _expect(serialization, "hash_type", "sha256", _STATED)
    resource = _only(_member(predicate, "resources", list, _STATED), "resources", _STATED)
    _expect(resource, "algorithm", "sha256", _STATED)
    signed = _member(resource, "digest", str, _STATED)
    if signed != digest.hex():
        raise ArtifactRefused(f"the signature is of another file, with SHA-256 {clip(signed)}; this is {digest.hex()}")
    subject = _only(_member(statement, "subject", list, _STATED), "subject", _STATED)
    _expect(_member(subject, "digest", dict, _STATED), "sha256", sha256_hex(digest), _STATED)


def _read(raw: bytes, where: str) -> dict[str, JSON]:
    try:
        value = read_json(raw, where=where)
    except Refusal as cause:
        raise ArtifactRefused(f"{where}: {cause}") from cause
    if not isinstance(value, dict):
        raise ArtifactRefused(f"{where}: it is no JSON object")
    return value


def _member(value: Mapping[str, JSON], name: str, kind: type[T], where: str) -> T:
    found = value.get(name)
    if not isinstance(found, kind):
        raise ArtifactRefused(f"{where}: '{name}' is missing or of another type")
    return found


def _expect(value: Mapping[str, JSON], name: str, expected: str, where: str) -> None:
    if _member(value, name, str, where) != expected:
        raise ArtifactRefused(f"{where}: '{name}' is not {expected}")


def _only(values: list[JSON], name: str, where: str) -> dict[str, JSON]:
    if len(values) != 1 or not isinstance(values[0], dict):
        raise ArtifactRefused(f"{where}: '{name}' has {len(values)} members and must have one")
    return values[0]


def _decoded(value: Mapping[str, JSON], name: str) -> bytes:
    try:
        return base64.b64decode(_member(value, name, str, _BUNDLE), validate=True)
    except ValueError as cause:
        raise ArtifactRefused(f"{_BUNDLE}: '{name}' is not base64") from cause
