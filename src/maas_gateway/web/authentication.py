"""From the Authorization header to a principal, before a byte of the body is read.

Rules: `Authorization: Bearer <token or API key>`, or `X-API-Key: <API key>`; at the prediction doors also
Basic whose password is the token, because it is the one scheme that stock clients have built in; one
credential, once.

Source: RFC 6750 section 2.1; RFC 7617 (Basic); RFC 9110 section 11.6.2.
"""

import base64
from collections.abc import Iterable
from typing import Final

from maas_gateway.auth.api_keys import PREFIX
from maas_gateway.auth.authenticator import Authenticator
from maas_gateway.errors import TokenInvalid, Unauthenticated
from maas_gateway.principal import Principal

Headers = Iterable[tuple[bytes, bytes]]

_BEARER: Final = b"Bearer "


async def authenticate(authenticator: Authenticator, headers: Headers, *, takes_basic: bool) -> Principal:
    """Return who sent these headers.

    Args:
        authenticator: decides who a token's bearer is.
        headers: raw, names in lower case.
        takes_basic: whether Basic with a token as its password counts.

    Raises:
        Unauthenticated: no credential, or none that counts.
    """
    return await authenticator.principal(_token(headers, takes_basic=takes_basic))


def _token(headers: Headers, *, takes_basic: bool) -> str:
    named = [(name, value) for name, value in headers if name in {b"authorization", b"x-api-key"}]
    if not named:
        raise Unauthenticated("send a token: Authorization: Bearer <token>", was_sent=False)
    if len(named) > 1:
        raise TokenInvalid("more than one credential was sent")
    if named[0][0] == b"x-api-key":
        return _api_key(named[0][1])
    sent = named[0][1]
    if sent.startswith(_BEARER) and sent.isascii():  # as nearly everybody sends it
        return sent[len(_BEARER) :].decode("ascii").strip()
    scheme, _, credential = sent.decode("latin-1").strip().partition(" ")
    credential = credential.strip()
    if scheme.lower() == "bearer" and credential:
        return credential
    if takes_basic and scheme.lower() == "basic":
        return _password(credential)
    raise TokenInvalid("the credential is no bearer token")


def _api_key(value: bytes) -> str:
    text = value.decode("latin-1").strip()
    if not text.startswith(PREFIX):
        raise TokenInvalid("X-API-Key holds no API key")
    return text


def _password(credential: str) -> str:
    try:
        return base64.b64decode(credential, validate=True).decode().partition(":")[2]
    except ValueError as cause:  # no base64, no ASCII, no UTF-8
        raise TokenInvalid("the Basic credential cannot be read") from cause
