"""Publishers: a key of their own, and signatures as openssl and OpenSSF model signing write them."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from maas_gateway.crypto.signatures import jwk_of_pem, jwk_thumbprint

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Pen:
    """What a publisher signs with.

    Attributes:
        key: private, on P-256.
    """

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def pem(self) -> str:
        """The public half, as `openssl pkey -pubout` prints it."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    @property
    def private_pem(self) -> str:
        """The private half."""
        form, lock = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, form, lock).decode()

    @property
    def jwk(self) -> dict[str, str]:
        return jwk_of_pem(self.pem)

    @property
    def key_id(self) -> str:
        return jwk_thumbprint(self.jwk)

    def der(self, content: bytes) -> bytes:
        """Sign as `openssl dgst -sha256 -sign` does."""
        return self.key.sign(content, ec.ECDSA(SHA256()))

    def raw(self, content: bytes) -> bytes:
        """Sign as JOSE does: r ‖ s."""
        r, s = decode_dss_signature(self.der(content))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def bundle(self, content: bytes) -> dict[str, Any]:
        """Sign as `model_signing sign key` does; `tests/vectors` has bundles of its own making."""
        return self.bundle_of(statement(content))

    def bundle_of(self, said: object) -> dict[str, Any]:
        """Sign a statement; bytes as they are."""
        payload = said if isinstance(said, bytes) else json.dumps(said, indent=2).encode()
        encoded = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
        return {
            "mediaType": MEDIA_TYPE,
            "verificationMaterial": {
                "publicKey": {"hint": hashlib.sha256(self.pem.encode()).hexdigest()},
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(self.der(encoded)).decode(), "keyid": ""}],
            },
        }


def statement(content: bytes) -> dict[str, Any]:
    """Return what model signing states about one file."""
    digest = hashlib.sha256(content)
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model.keras", "digest": {"sha256": hashlib.sha256(digest.digest()).hexdigest()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "resources": [{"digest": digest.hexdigest(), "algorithm": "sha256", "name": "."}],
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
        },
    }


def signature_field(signature: bytes, key_id: str | None = None) -> dict[str, str]:
    """Return the header that carries a plain signature."""
    named = "" if key_id is None else f', keyid="{key_id}"'
    return {"model-signature": f"sig=:{base64.b64encode(signature).decode()}:{named}"}


def bundle_field(bundle: object) -> dict[str, str]:
    """Return the header that carries a bundle."""
    return {"model-signature-bundle": f":{base64.b64encode(json.dumps(bundle).encode()).decode()}:"}
