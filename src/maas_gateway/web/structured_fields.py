"""Structured fields of HTTP, as far as any are taken here: strings and byte sequences, alone or in a dictionary.

Rules: what is not one of these is refused, parameters and every other type included; base64 may lack
its padding, as the standard asks of readers.

Source: RFC 9651 sections 4.2, 4.2.2, 4.2.5 and 4.2.7. Deviation: a key that comes twice is refused,
where the standard takes the last: no two readers shall read one signature differently.
"""

import base64
import re
from typing import Final

Item = str | bytes

_KEY: Final = re.compile(r"[a-z*][a-z0-9_.*-]*", re.ASCII)
_STRING: Final = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"', re.ASCII)
_BYTES: Final = re.compile(r":([A-Za-z0-9+/]*={0,2}):", re.ASCII)
_COMMA: Final = re.compile(r"[ \t]*,[ \t]*", re.ASCII)
_ESCAPED: Final = re.compile(r"\\(.)", re.ASCII)


def parse_item(text: str) -> Item:
    """Return the one string or byte sequence that a field holds.

    Raises:
        ValueError: it holds anything else.
    """
    stripped = text.strip(" ")
    item, end = _item(stripped, 0)
    if end != len(stripped):
        raise ValueError("something follows the item")
    return item


def parse_dictionary(text: str) -> dict[str, Item]:
    """Return the members of a dictionary whose values are strings and byte sequences.

    Args:
        text: the field; where it came in several lines, joined by commas.

    Raises:
        ValueError: it is anything else, or says a key twice.
    """
    stripped = text.strip(" ")
    members: dict[str, Item] = {}
    at = 0
    while True:
        key = _KEY.match(stripped, at)
        if key is None or not stripped.startswith("=", key.end()):
            raise ValueError("a key and its value are missing")
        if key[0] in members:
            raise ValueError("a key comes twice")
        members[key[0]], at = _item(stripped, key.end() + 1)
        if at == len(stripped):
            return members
        comma = _COMMA.match(stripped, at)
        if comma is None:
            raise ValueError("something follows a member")
        at = comma.end()


def _item(text: str, at: int) -> tuple[Item, int]:
    """Return the item that begins there, and where it ends."""
    string = _STRING.match(text, at)
    if string is not None:
        return _ESCAPED.sub(r"\1", string[1]), string.end()
    sequence = _BYTES.match(text, at)
    if sequence is None:
        raise ValueError("neither a string nor a byte sequence")
    spelt = sequence[1].rstrip("=")
    return base64.b64decode(spelt + "=" * (-len(spelt) % 4), validate=True), sequence.end()
