"""JSON with one reading: what another parser could read differently, or only at great cost, is refused.

Rules:
    * UTF-8 without byte order mark, and no lone surrogate in any string.
    * No key twice in one object (parsers keep the first or the last).
    * No NaN, Infinity or number that overflows to it; integers of at most 20 characters.
    * At most `MAX_DEPTH` levels and `MAX_NODES` values, counted before anything is parsed.

Source: RFC 8259; RFC 7493 (I-JSON) section 2.
"""

import json
import math
import re
from typing import Final, NoReturn

from maas_gateway.scanning.scanner import Refusal, clip

MAX_DEPTH: Final = 64
MAX_NODES: Final = 1_000_000
_MAX_INT_CHARS: Final = 20
_MAX_FLOAT_CHARS: Final = 64
# Possessive, so linear: a string as a whole, or one character that opens, closes or separates values.
_TOKENS: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},]', re.DOTALL)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")

JSON = None | bool | int | float | str | list["JSON"] | dict[str, "JSON"]


class _Strict(ValueError):
    """A rule of this module is broken."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


def read_json(raw: bytes, *, where: str) -> JSON:
    """Return the parsed value.

    Args:
        raw: the whole document.
        where: the member's name, for findings.

    Raises:
        Refusal: the document breaks a rule of this module.
    """
    _check_nesting(raw, where)
    try:
        text = raw.decode("utf-8")
        parsed: JSON = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_number,
        )
    except UnicodeDecodeError as cause:
        raise Refusal("json-encoding", where, "it is not UTF-8.") from cause
    except _Strict as cause:
        raise Refusal(cause.rule, where, str(cause)) from cause
    except (ValueError, RecursionError) as cause:
        raise Refusal("json-syntax", where, "it is not JSON.") from cause
    return parsed


def _check_nesting(raw: bytes, where: str) -> None:
    """Count levels and values by brackets and commas outside strings; exact as far as the document is JSON at all."""
    depth, n_nodes = 0, 0
    for token in _TOKENS.finditer(raw):
        first = raw[token.start()]
        if first in b"[{":
            depth += 1
            n_nodes += 1
        elif first in b"]}":
            depth -= 1
        elif first in b",":
            n_nodes += 1
        if depth > MAX_DEPTH:
            raise Refusal("json-depth", where, f"it nests more than {MAX_DEPTH} levels deep.")
        if n_nodes > MAX_NODES:
            raise Refusal("json-size", where, f"it holds more than {MAX_NODES} values.")


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    """Return the object of `pairs` if no key comes twice and every string can be written as UTF-8."""
    found: dict[str, JSON] = {}
    for key, value in pairs:
        if key in found:
            raise _Strict("json-duplicate-key", f"the key {clip(key)} stands twice in one object.")
        if _SURROGATE.search(key) or _is_torn(value):
            raise _Strict("json-encoding", f"a string near {clip(key)} holds half a character.")
        found[key] = value
    return found


def _is_torn(value: JSON) -> bool:
    """Return whether a string in `value` holds a lone surrogate; objects have been looked at already."""
    if isinstance(value, list):
        return any(_is_torn(item) for item in value)
    return isinstance(value, str) and _SURROGATE.search(value) is not None


def _constant(name: str) -> NoReturn:
    raise _Strict("json-number", f"{name} is not a number of JSON.")


def _integer(digits: str) -> int:
    if len(digits) > _MAX_INT_CHARS:
        raise _Strict("json-number", f"an integer of {len(digits)} digits is not accepted.")
    return int(digits)


def _number(digits: str) -> float:
    if len(digits) > _MAX_FLOAT_CHARS or not math.isfinite(float(digits)):
        raise _Strict("json-number", f"the number {clip(digits)} is too long or too large.")
    return float(digits)
