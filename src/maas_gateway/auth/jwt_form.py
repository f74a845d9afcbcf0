"""The form of a JWT, whoever signed it: three parts in their one spelling, two of them strict JSON.

Rules: at most 8 KiB; each part is canonical base64url, so that a token has one text; a name said twice, a
number that is no integer, an infinite nesting, invalid UTF-8: refused. Nothing is verified here.

Source: RFC 7515 sections 3.1, 4 and 5.2; RFC 8725 section 3.
"""

import base64
import json
import re
from typing import Any, Final

from maas_gateway.errors import TokenInvalid

MAX_TOKEN_BYTES: Final = 8_192

_SHAPE: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_WRONG: Final = "the token is not a JWT of ours"


def read(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the claims that a token says, verified in nothing but their form.

    Raises:
        TokenInvalid: it is not a signed JWT in compact form.
    """
    if len(token) > MAX_TOKEN_BYTES or not _SHAPE.fullmatch(token):
        raise TokenInvalid(_WRONG)
    try:
        header, claims, _ = map(_canonical, token.split("."))
        return strict_object(header), strict_object(claims)
    except ValueError as cause:
        raise TokenInvalid(_WRONG) from cause


def strict_object(content: bytes) -> dict[str, Any]:
    """Return the object that a JSON text says, read strictly.

    Raises:
        ValueError: it is no JSON in UTF-8, no object, says a name twice, or holds a number that is no integer.
    """
    try:
        value = json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_refuse)
    except RecursionError as cause:
        raise ValueError("it is nested too deeply") from cause
    if not isinstance(value, dict):
        raise ValueError("it is no object")  # noqa: TRY004  one kind of failure for what cannot be read
    return value


def _canonical(part: str) -> bytes:
    """Return what a part encodes; the same bytes spelt otherwise are refused, so that a token has one text."""
    content = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(content).rstrip(b"=").decode() != part:
        raise ValueError("it is spelt in another way than its own")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is said twice")
    return found


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no integer")
