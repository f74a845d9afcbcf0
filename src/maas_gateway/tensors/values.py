"""Parsed JSON values as an error sentence shows them: short, printable, of bounded size."""

import json
from typing import Final

_MAX_SHOWN: Final = 64
_TYPES: Final = ((str, "String"), (list, "Array"), (dict, "Object"))


def json_type(value: object) -> str:
    """Return JSON's name of a parsed value's type: Null, True, False, Number, String, Array or Object."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "True" if value else "False"
    return next((name for kind, name in _TYPES if isinstance(value, kind)), "Number")


def shown(value: object) -> str:
    """Return a parsed JSON value as JSON, cut after 64 characters; of lists and objects only the brackets."""
    if isinstance(value, list):
        return "[…]" if value else "[]"
    if isinstance(value, dict):
        return "{…}" if value else "{}"
    if isinstance(value, str):
        return json.dumps(value) if len(value) <= _MAX_SHOWN else f"{json.dumps(value[:_MAX_SHOWN])}…"
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def quoted(text: str) -> str:
    """Return a name that a client sent in single quotes, escaped as in JSON and cut after 64 characters."""
    return f"'{json.dumps(text[:_MAX_SHOWN])[1:-1]}{'…' if len(text) > _MAX_SHOWN else ''}'"
