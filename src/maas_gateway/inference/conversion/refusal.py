"""Why a model is not converted, in a sentence that its uploader may read.

Rules: a library's message is cut down to its first telling line, without file paths and control
characters, at most `MAX_CHARACTERS` long.
"""

import re
from typing import Final

MAX_CHARACTERS: Final = 400

_OUT_OF_MEMORY_MARKS: Final = ("bad_alloc", "Unable to allocate", "OOM when allocating", "Cannot allocate memory")

_CALLED: Final = re.compile(r"Exception encountered when calling [^\n]*\n\s*(?P<text>[^\n]+)")
_DESERIALIZED: Final = re.compile(r"\nException encountered: (?P<text>[^\n]+)")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_ERROR_LINE: Final = re.compile(r"\berror: (?P<text>[^\n]+)")
_UNSUPPORTED: Final = re.compile(r"TF Select ops: (?P<names>[^\n]+)")
_PATH: Final = re.compile(r"(?<![\w<])/[\w.+~-]+(?:/[\w.+~-]+)+(?::\d+)*")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\xa0-\uffff]+")


class NotConvertible(Exception):
    """The model cannot be converted, or not faithfully; the message says why."""


def raise_if_out_of_memory(objection: Exception) -> None:
    """Tell the end of memory from a fault of the model: libraries wrap it in exceptions of their own.

    Raises:
        MemoryError: that is what it was.
    """
    message = str(objection)
    if isinstance(objection, MemoryError) or any(mark in message for mark in _OUT_OF_MEMORY_MARKS):
        raise MemoryError from objection


def sentence(message: str) -> str:
    """Return a library's message as one short line that tells nothing about this machine."""
    lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
    line = lines[0] if lines else "no reason was given"
    line = " ".join(_UNPRINTABLE.sub(" ", _PATH.sub("(…)", line)).split())
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"


def keras_reason(message: str) -> str:
    """Return what Keras objects to, out of the layers of words that it puts around it."""
    message = _COLOUR.sub("", message)
    found = _CALLED.search(message) or _DESERIALIZED.search(message)
    return sentence(found["text"] if found else message)


def converter_reason(message: str) -> str:
    """Return what the LiteRT converter objects to, out of its pages of call sites."""
    unsupported = _UNSUPPORTED.search(message)
    if unsupported:
        return sentence(f"LiteRT has no built-in operator for {unsupported['names']}")
    error = _ERROR_LINE.search(message)
    return sentence(error["text"] if error else message)
