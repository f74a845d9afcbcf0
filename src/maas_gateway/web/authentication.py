"""From the Authorization header to a principal, before a byte of the body is read.

Rules: `Authorization: Bearer <token>`; at the prediction doors also Basic whose password is the
token, because it is the one scheme that stock clients have built in; one credential, once.

Source: RFC 6750 section 2.1; RFC 7617 (Basic); RFC 9110 section 11.6.2.
"""

import base64
from collections.abc import Iterable
from typing import Final

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
    sent = [value for name, value in headers if name in {b"authorization", b"x-api-key"}]
    if not sent:
        raise Unauthenticated("send a token: Authorization: Bearer <token>", was_sent=False)
    if len(sent) > 1:
        raise TokenInvalid("more than one credential was sent")
    if sent[0].startswith(_BEARER) and sent[0].isascii():  # as nearly everybody sends it
        return sent[0][len(_BEARER) :].decode("ascii").strip()
    scheme, _, credential = sent[0].decode("latin-1").strip().partition(" ")
    credential = credential.strip()
    if scheme.lower() == "bearer" and credential:
        return credential
    if takes_basic and scheme.lower() == "basic":
        return _password(credential)
    raise TokenInvalid("the credential is no bearer token")


def _password(credential: str) -> str:
    try:
        return base64.b64decode(credential, validate=True).decode().partition(":")[2]
    except ValueError as cause:  # no base64, no ASCII, no UTF-8
        raise TokenInvalid("the Basic credential cannot be read") from cause
