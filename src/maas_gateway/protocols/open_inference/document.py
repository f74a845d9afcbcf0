"""A request body as strict JSON.

Rules: RFC 8259 and nothing beside it: no NaN or Infinity, no byte order mark, nothing behind the
document, no number beyond FP64. A body that is refused for a number of that kind is read a second
time, leniently, only to name the input that holds it.

Source: RFC 8259, sections 6 and 8.1. Deviation from NVIDIA Triton, which takes bare NaN: the protocol
has no such token, and other implementations refuse it.
"""

import json
import math

import orjson

from maas_gateway.errors import MalformedBody
from maas_gateway.tensors.values import json_type, quoted


def parse_document(body: bytes) -> dict[str, object]:
    """Parse a body.

    Raises:
        MalformedBody: it is no JSON document, or no object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        place = _place_of_non_finite(body) if _may_be_non_finite(body, error) else None
        if place is not None:
            raise MalformedBody(
                f"{place}: JSON has no NaN and no Infinity, and no number beyond FP64; "
                "the /v1 address of the model reads the tokens NaN, Infinity and -Infinity"
            ) from error
        raise MalformedBody(f"the body is not JSON: {error.msg} at character {error.pos}") from error
    if isinstance(document, dict):
        return document
    raise MalformedBody(f"the body must be a JSON object and is of type {json_type(document)}")


def _may_be_non_finite(body: bytes, error: orjson.JSONDecodeError) -> bool:
    """Whether a second reading may find such a number: what is merely malformed is not read twice."""
    return "infinity" in error.msg or b"NaN" in body or b"Infinity" in body


def _place_of_non_finite(body: bytes) -> str | None:
    """Return the first input that holds a number JSON has not, or None where that is not the fault."""
    try:
        document = json.loads(body.decode())
    except (ValueError, RecursionError):
        return None
    inputs = document.get("inputs") if isinstance(document, dict) else None
    for position, entry in enumerate(inputs if isinstance(inputs, list) else ()):
        if isinstance(entry, dict) and _has_non_finite(entry.get("data")):
            name = entry.get("name")
            return f"input {quoted(name)}" if isinstance(name, str) else f"inputs[{position}]"
    return None


def _has_non_finite(value: object) -> bool:
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, float) and not math.isfinite(value):
            return True
    return False
