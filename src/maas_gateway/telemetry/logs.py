"""Log lines: one JSON object each on standard error, or short coloured lines on a terminal.

Rules: an event is a noun with fields; a field whose name suggests a secret is blanked, whatever it
holds; exceptions are logged by type and place, without the values in them.
"""

import logging
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal

import structlog

_SECRETS: Final = ("password", "secret", "token", "authorization", "key_bytes", "body", "tensor")
_BLANK: Final = "[hidden]"


def configure(*, form: Literal["json", "console"], level: str = "info") -> None:
    """Set up logging for this process."""
    renderer: Any
    if form == "json":
        renderer = structlog.processors.JSONRenderer(sort_keys=True)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _place_of_exception,
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank every field whose name suggests a secret, also within fields."""
    for name, value in event.items():
        event[name] = value if name == "event" else _redacted(name, value)
    return event


def _redacted(name: str, value: Any) -> Any:
    if any(part in name.lower() for part in _SECRETS):
        return _BLANK
    if isinstance(value, Mapping):
        return {key: _redacted(str(key), within) for key, within in value.items()}
    if isinstance(value, (list, tuple)):
        return [_redacted("", within) for within in value]
    return value


def _place_of_exception(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exception()
    if isinstance(error, BaseException):
        event["error"] = type(error).__name__
        frames = traceback.extract_tb(error.__traceback__)[-6:]
        event["at"] = [f"{frame.name} ({frame.filename.rpartition('/')[2]}:{frame.lineno})" for frame in frames]
    return event
