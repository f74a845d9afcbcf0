"""What Triton's clients make of a refusal; run by a Python of its own."""

from typing import Any

from tritonclient.utils import InferenceServerException


def refused(ask: Any) -> tuple[str, str]:
    """Return status and message of a call that must be refused."""
    try:
        ask()
    except InferenceServerException as error:
        return str(error.status()), error.message()
    raise AssertionError("it was not refused")
