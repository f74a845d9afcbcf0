"""ES256: ECDSA on P-256 with SHA-256, signatures and keys in the forms of JOSE.

Rules: a signature is 64 bytes, r ‖ s; a key is named by its thumbprint, so a name cannot be claimed
for another key; a public key is read strictly (32-byte coordinates, canonical base64url, on the
curve); whatever does not verify raises, nothing returns a flag.
"""

import base64
import secrets
from collections.abc import Mapping
from typing import Final, NoReturn, Protocol, SupportsIndex, final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from maas_gateway.crypto.digests import canonical_json, sha256
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import SignatureRejected

SIGNATURE_BYTES: Final = 64

_COORDINATE_BYTES: Final = 32
_ORDER: Final = ec.SECP256R1().group_order
_ALGORITHM: Final = ec.ECDSA(SHA256())
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
        numbers = self._key.public_key().public_numbers()
        self._jwk = {"kty": "EC", "crv": "P-256", "x": _coordinate(numbers.x), "y": _coordinate(numbers.y)}
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
    r = int.from_bytes(signature[:_COORDINATE_BYTES], "big")
    s = int.from_bytes(signature[_COORDINATE_BYTES:], "big")
    try:
        _public_key(jwk).verify(encode_dss_signature(r, s), data, _ALGORITHM)
    except (InvalidSignature, ValueError) as cause:
        raise SignatureRejected("the signature does not verify") from cause


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
