"""A request with a key, and the answer that is kept of it.

Rules: the key is the caller's secret: the database holds its digest, and the answer sealed under it, because an answer
may tell a secret once. What was asked for is told by its HMAC under the key, because a request may hold a password: a mere
digest of it could be tried at the speed of SHA-256. Whoever reads the database gains as little as from a secret's digest.

Source: draft-ietf-httpapi-idempotency-key-header-07.
"""

import base64
import hmac
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Self

from maas_gateway.crypto.aead import frame
from maas_gateway.crypto.bearer import open_for_bearer, seal_for_bearer
from maas_gateway.crypto.digests import sha256_hex
from maas_gateway.errors import InvalidRequest

LIFE: Final = timedelta(hours=24)
"""How long an answer is kept."""
PATIENCE: Final = timedelta(seconds=60)
"""After that a request without an answer counts as broken off."""

_KEY: Final = re.compile(r"[!-~]{16,255}", re.ASCII)
_LABEL: Final = b"mgw1 idempotency "


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered.

    Attributes:
        status: the HTTP status.
        headers: names in lower case, and values.
        body: its bytes.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def sealed(self, key: str) -> str:
        """Return it as the database keeps it, sealed under the caller's key."""
        headers = [list(header) for header in self.headers]
        told = {"status": self.status, "headers": headers, "body": base64.b64encode(self.body).decode()}
        return base64.b64encode(seal_for_bearer(key, json.dumps(told).encode(), _LABEL)).decode()

    @classmethod
    def opened(cls, key: str, sealed: str) -> Self:
        """Return what was sealed.

        Raises:
            CiphertextRejected: it was altered, or sealed under another key.
        """
        told = json.loads(open_for_bearer(key, base64.b64decode(sealed), _LABEL))
        headers = tuple((str(name), str(value)) for name, value in told["headers"])
        return cls(int(told["status"]), headers, base64.b64decode(told["body"]))


@dataclass(frozen=True, slots=True)
class Kept:
    """What the database knows of a request.

    Attributes:
        is_new: whether it was written just now.
        fingerprint: of what was asked, see `fingerprint_of`.
        began_at: when it came.
        answer: sealed; None as long as there is none.
    """

    is_new: bool
    fingerprint: str
    began_at: datetime
    answer: str | None


def check_key(text: str) -> str:
    """Return the key that a header holds, as it is or as a string of RFC 9651.

    Raises:
        InvalidRequest: it is too short to be a secret, too long, or no visible ASCII.
    """
    key = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if _KEY.fullmatch(key) is None:
        raise InvalidRequest("Idempotency-Key: 16 to 255 visible ASCII characters that nobody guesses, such as a UUID")
    return key


def digest_of(caller: str, key: str) -> str:
    """Return what a request of that caller with that key is found by."""
    return sha256_hex(frame("idempotency key", caller, key))


def fingerprint_of(key: str, method: str, target: str, body: bytes) -> str:
    """Return what two requests with one key have in common that ask for the same: HMAC-SHA-256, hexadecimal."""
    return hmac.digest(key.encode(), frame(method, target) + body, "sha256").hex()
