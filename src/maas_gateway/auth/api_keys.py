"""API keys: their form, their secrets, and which of them count now.

Layout of a key: `maas_<id>_<secret>`, an identifier of 16 hexadecimal digits and 256 random bits in
base64url, so that what is stored of the secret is a plain digest.

Rules: an unknown identifier and a wrong secret take the same time and give the same text; that a key is
disabled or has expired is told only to who has its secret.
"""

import re
import secrets
from datetime import datetime
from typing import Final

from maas_gateway.accounts.api_key import APIKey
from maas_gateway.auth import store
from maas_gateway.auth.client_secrets import is_right
from maas_gateway.clock import Clock
from maas_gateway.database.engine import Database
from maas_gateway.errors import CredentialRevoked, TokenExpired, TokenInvalid

PREFIX: Final = "maas_"
_SHAPE: Final = re.compile(r"maas_([0-9a-f]{16})_([A-Za-z0-9_-]{43})", re.ASCII)
_WRONG: Final = "the API key is not one of ours"


def new_key_id() -> str:
    """Return an identifier: random, so that it tells nothing and collides with none."""
    return secrets.token_hex(8)


def new_key_secret() -> str:
    """Return a secret of 256 random bits."""
    return secrets.token_urlsafe(32)


def text_of(key_id: str, secret: str) -> str:
    """Return a key as its bearer sends it."""
    return f"{PREFIX}{key_id}_{secret}"


class APIKeys:
    """Every tenant's API keys, as authentication needs them."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def verify(self, text: str) -> tuple[APIKey, datetime | None]:
        """Return the key that a text is, and until when it certainly counts.

        Raises:
            TokenInvalid: there is no such key, or its secret is another.
            TokenExpired: it has expired.
            CredentialRevoked: it is disabled.
        """
        shape = _SHAPE.fullmatch(text)
        if shape is None:
            raise TokenInvalid(_WRONG)
        key_id, secret = shape.groups()
        key = await store.api_key(self._database, key_id)
        now = self._clock.now()
        is_current = is_right(secret, None if key is None else key.digest)
        is_former = is_right(secret, None if key is None else key.former_digest)
        if key is not None and is_former and (key.former_until is None or key.former_until <= now):
            raise TokenExpired("the API key's secret was rotated, and its time of grace is over")
        if key is None or not (is_current or is_former):
            raise TokenInvalid(_WRONG)
        if not key.is_enabled:
            raise CredentialRevoked("the API key is disabled")
        if key.expires_at is not None and key.expires_at <= now:
            raise TokenExpired("the API key has expired")
        ends = [at for at in (key.expires_at, key.former_until if is_former else None) if at is not None]
        return key, min(ends, default=None)
