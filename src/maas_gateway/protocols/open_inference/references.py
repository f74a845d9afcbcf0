"""What a request calls a model, and the sentence where there is none of that name.

Rules: a version is a number; what is no number of ours names no version.

Source: the sentences are NVIDIA Triton's, which clients look for.
"""

from typing import Final

from maas_gateway.identifiers import MAX_VERSION, ModelRef

_MAX_SHOWN: Final = 64


def of_version(name: str, version: str) -> ModelRef:
    """Return what a model's name and a version, as text, refer to."""
    if version.isascii() and version.isdigit() and len(version) <= len(str(MAX_VERSION)):
        return ModelRef(name, int(version))
    # It is looked up as a label that cannot exist.
    return ModelRef(name, None, f"versions/{version[:_MAX_SHOWN]}")


def not_found(ref: ModelRef) -> str:
    """Return the sentence that a model, version or label is not there."""
    if ref.version is not None:
        return f"Request for unknown model: '{ref.name}' version {ref.version} is not found"
    if ref.label is not None:
        what = ref.label if "/" in ref.label else f"label {ref.label}"
        return f"Request for unknown model: '{ref.name}' {what} is not found"
    return f"Request for unknown model: '{ref.name}' is not found"
