"""ES256: ECDSA on P-256 with SHA-256, signatures and keys in the forms of JOSE; what others make, in theirs too.

Rules: a signature of ours is 64 bytes, r ‖ s, and another's may be DER; a key is named by its
thumbprint, so a name cannot be claimed for another key; a public key is read strictly (32-byte
coordinates, canonical base64url, on the curve); whatever does not verify raises, nothing returns a flag.
"""

import base64
import secrets
from collections.abc import Mapping
from typing import Final, NoReturn, Protocol, SupportsIndex, final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from maas_gateway.crypto.digests import canonical_json, sha256
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import SignatureRejected

SIGNATURE_BYTES: Final = 64

_COORDINATE_BYTES: Final = 32
_ORDER: Final = ec.SECP256R1().group_order
_ALGORITHM: Final = ec.ECDSA(SHA256())
_PREHASHED: Final = ec.ECDSA(Prehashed(SHA256()))
_PEM_BEGINS: Final = "-----BEGIN PUBLIC KEY-----"
_PEM_ENDS: Final = "-----END PUBLIC KEY-----"
_PRIVATE: Final = "this is a private key: keep it where it is, and give its public half"
_THUMBPRINT_MEMBERS: Final = {
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
    "RSA": ("e", "kty", "n"),
}


class Signer(Protocol):
    """Something that signs under one key, which may be held elsewhere."""

    @property
    def key_id(self) -> str:
        """The name under which a verifier finds the public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte ES256 signature of `data`."""
        ...


@final
class ES256Signer:
    """A signer whose private key is in this process.

    Protects against: forging without the key. Does not protect against: reading this process's
    memory, and does not give unique signatures (r ‖ n - s verifies too), so a signature must never
    serve as an identifier.
    """

    __slots__ = ("_jwk", "_key", "_key_id")

    def __init__(self, key: KeyMaterial) -> None:
        scalar = int.from_bytes(key.expose(), "big")
        if not 1 <= scalar < _ORDER:
            raise ValueError("not a private key of P-256")
        self._key = ec.derive_private_key(scalar, ec.SECP256R1())
        self._jwk = _jwk_of(self._key.public_key())
        self._key_id = jwk_thumbprint(self._jwk)

    @staticmethod
    def generate_key() -> KeyMaterial:
        """Return a private scalar, uniform in 1 … n - 1."""
        scalar = 1 + secrets.randbelow(_ORDER - 1)
        return KeyMaterial.from_bytes(scalar.to_bytes(_COORDINATE_BYTES, "big"))

    @property
    def key_id(self) -> str:
        """The thumbprint of the public key (RFC 7638)."""
        return self._key_id

    def public_jwk(self) -> dict[str, str]:
        """Return the public key: kty, crv, x and y, nothing else (RFC 7518 section 6.2.1)."""
        return dict(self._jwk)

    def sign(self, data: bytes) -> bytes:
        """Return r ‖ s, 32 bytes each, big-endian.

        Source: RFC 7518 section 3.4.
        """
        r, s = decode_dss_signature(self._key.sign(data, _ALGORITHM))
        return r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")

    def __repr__(self) -> str:
        return f"<ES256Signer {self._key_id}>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a signer is neither pickled nor copied")


def verify_es256(jwk: Mapping[str, object], data: bytes, signature: bytes) -> None:
    """Return only if `signature` is an ES256 signature of `data` under the public key `jwk`.

    Members other than kty, crv, x and y are not looked at.

    Raises:
        SignatureRejected: it is not, or the key is not a well-formed P-256 public key.

    Source: RFC 7518 section 3.4.
    """
    if len(signature) != SIGNATURE_BYTES:
        raise SignatureRejected("the signature does not verify")
    try:
        _public_key(jwk).verify(_der(signature), data, _ALGORITHM)
    except (InvalidSignature, ValueError) as cause:
        raise SignatureRejected("the signature does not verify") from cause


def verify_es256_digest(jwk: Mapping[str, object], digest: bytes, signature: bytes) -> None:
    """Return only if `signature` is an ES256 signature of the data that has this digest.

    Args:
        jwk: the public key; members other than kty, crv, x and y are not looked at.
        digest: SHA-256 of the data, 32 bytes; the data themselves are not needed.
        signature: r ‖ s if it has 64 bytes, else DER, as `openssl dgst -sha256 -sign` writes it. DER of
            exactly 64 bytes, which chance does not make once in 2**40 signatures, is refused.

    Raises:
        SignatureRejected: it is not, or the key is not a well-formed P-256 public key.

    Source: RFC 7518 section 3.4 for r ‖ s; RFC 3279 section 2.2.3 for DER.
    """
    der = _der(signature) if len(signature) == SIGNATURE_BYTES else signature
    try:
        _public_key(jwk).verify(der, digest, _PREHASHED)
    except (InvalidSignature, ValueError) as cause:
        raise SignatureRejected("the signature does not verify") from cause


def public_jwk(jwk: Mapping[str, object]) -> dict[str, str]:
    """Return a public key's four members, kty, crv, x and y, of a JWK that may have more.

    Raises:
        ValueError: it is no well-formed public key of P-256, or holds the private half.

    Source: RFC 7518 section 6.2.
    """
    if "d" in jwk:
        raise ValueError(_PRIVATE)
    return _jwk_of(_public_key(jwk))


def jwk_of_pem(pem: str) -> dict[str, str]:
    """Return the public key that a PEM text holds, and nothing beside it, as a JWK.

    Raises:
        ValueError: it is not one SubjectPublicKeyInfo of a key of P-256, or is a private key.

    Source: RFC 7468 section 13; RFC 5480 section 2.
    """
    text = pem.strip()
    if "PRIVATE KEY" in text:
        raise ValueError(f"{_PRIVATE}: openssl pkey -in key.pem -pubout")
    if not text.startswith(_PEM_BEGINS) or not text.endswith(_PEM_ENDS) or text.count("-----BEGIN") != 1:
        raise ValueError(f"one public key, from '{_PEM_BEGINS}' to '{_PEM_ENDS}'")
    try:
        key = serialization.load_pem_public_key(text.encode("ascii"))
    except (ValueError, UnsupportedAlgorithm) as cause:
        raise ValueError("not a public key that can be read") from cause
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("not a key of P-256: openssl ecparam -name prime256v1 -genkey -noout -out key.pem")  # noqa: TRY004 - one kind of failure for a key that is none of ours
    return _jwk_of(key)


def pem_of_jwk(jwk: Mapping[str, object]) -> bytes:
    """Return a public key as PEM: SubjectPublicKeyInfo, lines of 64 characters, a line feed behind the last.

    Raises:
        ValueError: it is no well-formed public key of P-256.

    Source: RFC 7468 section 13.
    """
    return _public_key(jwk).public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk_thumbprint(jwk: Mapping[str, object]) -> str:
    """Return the name of a public key: SHA-256 of its required members, base64url without padding.

    Raises:
        ValueError: the key type is not EC, OKP or RSA, or a required member is missing or not text.

    Source: RFC 7638 section 3; RFC 8037 section 2 for OKP.
    """
    kty = jwk.get("kty")
    names = _THUMBPRINT_MEMBERS.get(kty) if isinstance(kty, str) else None
    if names is None:
        raise ValueError("not a key that has a thumbprint here")
    members = {name: jwk.get(name) for name in names}
    if not all(isinstance(member, str) for member in members.values()):
        raise ValueError("a required member of the key is missing")
    return _base64url(sha256(canonical_json(members)))


def _der(signature: bytes) -> bytes:
    """Return r ‖ s in the spelling that the library takes."""
    r = int.from_bytes(signature[:_COORDINATE_BYTES], "big")
    s = int.from_bytes(signature[_COORDINATE_BYTES:], "big")
    return encode_dss_signature(r, s)


def _jwk_of(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    return {"kty": "EC", "crv": "P-256", "x": _coordinate(numbers.x), "y": _coordinate(numbers.y)}


def _public_key(jwk: Mapping[str, object]) -> ec.EllipticCurvePublicKey:
    if (jwk.get("kty"), jwk.get("crv")) != ("EC", "P-256"):
        raise ValueError("not a P-256 key")
    numbers = ec.EllipticCurvePublicNumbers(
        _read_coordinate(jwk.get("x")), _read_coordinate(jwk.get("y")), ec.SECP256R1()
    )
    return numbers.public_key()


def _coordinate(value: int) -> str:
    return _base64url(value.to_bytes(_COORDINATE_BYTES, "big"))


def _read_coordinate(text: object) -> int:
    if not isinstance(text, str):
        raise ValueError("a coordinate is text")  # noqa: TRY004 - one kind of failure for a malformed key
    coordinate = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(coordinate) != _COORDINATE_BYTES or _base64url(coordinate) != text:
        raise ValueError("a coordinate is 32 bytes in base64url without padding")
    return int.from_bytes(coordinate, "big")


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
