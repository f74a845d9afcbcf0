"""Real flatbuffers, built once a session in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from builders.shared import built_once


@pytest.fixture(scope="session")
def flatbuffers(shared_folder: Path) -> Path:
    """A directory of `<name>.tflite`, see `build_flatbuffers`."""
    return built_once(shared_folder, "flatbuffers", _build)


def _build(directory: Path) -> None:
    built = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("build_flatbuffers.py")), str(directory)],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert built.returncode == 0, built.stderr
