"""A request body as TensorFlow Serving parses it.

Rules: UTF-8, with or without a byte order mark; reading stops where the document ends; NaN, Infinity
and -Infinity are numbers; a number beyond FP64 is refused; the document is an object. What every JSON
parser takes is read by the fast one; only where that refuses does the lenient one decide.

Source: TensorFlow Serving RESTful API, "JSON conformance".
"""

import codecs
import json
import math
import re
from typing import Final

import orjson

from maas_gateway.errors import MalformedBody
from maas_gateway.tensors.values import json_type


def parse_document(body: bytes) -> dict[str, object]:
    """Parse a body.

    Raises:
        MalformedBody: it is no JSON document of this kind, or no object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_leniently(body)
    if isinstance(document, dict):
        return document
    raise MalformedBody(f"JSON Value Type: {json_type(document)} where the body must be an Object")


def _parse_leniently(body: bytes) -> object:
    start = len(codecs.BOM_UTF8) if body.startswith(codecs.BOM_UTF8) else 0
    text, invalid_at = _decoded(body[start:])
    space = _SPACE.match(text)
    first = space.end() if space else 0
    if first == len(text) and invalid_at is None:
        raise MalformedBody(f"JSON Parse error: The document is empty at offset: {start + first}")
    try:
        return _DECODER.raw_decode(text, first)[0]
    except json.JSONDecodeError as error:
        if invalid_at is not None:
            raise MalformedBody(
                f"JSON Parse error: Invalid encoding in string. at offset: {start + invalid_at}"
            ) from error
        offset = start + len(text[: error.pos].encode())
        raise MalformedBody(f"JSON Parse error: {error.msg} at offset: {offset}") from error
    except RecursionError as error:
        raise MalformedBody("JSON Parse error: Nested too deeply") from error
    except ValueError as error:  # from `_number`, or Python's own bound on the digits of an integer
        raise MalformedBody("JSON Parse error: Number too big to be stored in double.") from error


def _decoded(body: bytes) -> tuple[str, int | None]:
    """Return the text, up to the first byte that is not UTF-8, and where that one is."""
    try:
        return body.decode(), None
    except UnicodeDecodeError as error:
        return body[: error.start].decode(), error.start


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(text)
    return value


_SPACE: Final = re.compile(r"[ \t\r\n]*")
_DECODER: Final = json.JSONDecoder(parse_float=_number)
