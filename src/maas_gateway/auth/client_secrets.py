"""Secrets of service accounts: made by us, random, so that a plain digest keeps them safe."""

import hmac
import secrets
from typing import Final

from maas_gateway.crypto.digests import sha256_hex

_NO_DIGEST: Final = "0" * 64


def new_client_id() -> str:
    """Return a client id: random, so that it tells nothing and collides with none."""
    return f"sa-{secrets.token_hex(10)}"


def new_secret() -> str:
    """Return a secret of 256 random bits."""
    return f"mgs_{secrets.token_urlsafe(32)}"


def new_password() -> str:
    """Return a one-time password of 144 random bits."""
    return secrets.token_urlsafe(18)


def digest_of(secret: str) -> str:
    """Return what is stored of a secret."""
    return sha256_hex(secret.encode(errors="replace"))


def is_right(secret: str, digest: str | None) -> bool:
    """Check a secret in constant time; None as the digest is never right."""
    return hmac.compare_digest(digest_of(secret), digest or _NO_DIGEST) and digest is not None
