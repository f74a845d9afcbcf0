"""Real flatbuffers, built once a session in a process of their own."""

from pathlib import Path

import pytest

from builders.flatbuffer_models import flatbuffers_of


@pytest.fixture(scope="session")
def flatbuffers(shared_folder: Path) -> Path:
    """A directory of `<name>.tflite`, see `build_flatbuffers`."""
    return flatbuffers_of(shared_folder)
