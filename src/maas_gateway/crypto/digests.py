"""Canonical JSON and SHA-256: one value has one spelling, and so one digest.

Rules of the canonical form (RFC 8785): no white space; keys sorted by UTF-16 code units; only the
escapes that JSON demands; UTF-8. It holds objects, arrays, texts, booleans, null and integers
from -(2**53 - 1) to 2**53 - 1 (RFC 7493 section 2.2: every reader agrees on those). There are no
floats: their spelling is the one part of RFC 8785 that implementations get wrong, and we sign none.
"""

import hashlib
import json
from typing import Final

MAX_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 32


def canonical_json(value: object) -> bytes:
    """Return the one UTF-8 spelling of `value`.

    Args:
        value: dict with str keys, list, str, int, bool or None, nested at most 32 deep.

    Raises:
        TypeError: a float, a tuple, a key that is not text, or any other type.
        ValueError: an integer beyond 2**53 - 1, text that is no valid Unicode, or nested too deep.

    Source: RFC 8785 section 3.2. Deviation: floats are refused rather than spelt.
    """
    ordered = _ordered(value, MAX_DEPTH)
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode()


def parse_canonical(data: bytes) -> object:
    """Return the value whose canonical spelling `data` is.

    Raises:
        ValueError: it is not JSON, not the canonical spelling, says a key twice, or holds what
            `canonical_json` refuses. What that means for the caller (an altered header, a malformed
            statement) only the caller knows.
    """
    try:
        value: object = json.loads(data.decode(), object_pairs_hook=_without_duplicates)
        spelling = canonical_json(value)
    except (TypeError, ValueError, RecursionError) as cause:
        raise ValueError("not canonical JSON") from cause
    if spelling != data:
        raise ValueError("not canonical JSON")
    return value


def sha256(data: bytes) -> bytes:
    """Return the 32 bytes of SHA-256 of `data` (FIPS 180-4)."""
    return hashlib.sha256(data).digest()


def sha256_hex(data: bytes) -> str:
    """Return SHA-256 of `data` as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _ordered(value: object, depth_left: int) -> object:
    if depth_left < 0:
        raise ValueError("canonical JSON: nested too deep")
    match value:
        case None | bool() | str():
            return value
        case int():
            if not -MAX_INTEGER <= value <= MAX_INTEGER:
                raise ValueError("canonical JSON: integers are between -(2**53 - 1) and 2**53 - 1")
            return value
        case list():
            return [_ordered(item, depth_left - 1) for item in value]
        case dict():
            for key in value:
                if not isinstance(key, str):
                    raise TypeError("canonical JSON: keys are text")
            return {key: _ordered(value[key], depth_left - 1) for key in sorted(value, key=_utf16)}
        case _:
            raise TypeError("canonical JSON: only objects, arrays, text, integers, booleans and null")


def _utf16(key: str) -> bytes:
    return key.encode("utf-16-be")


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("canonical JSON: a key is said twice")
    return members
