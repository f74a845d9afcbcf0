"""Real flatbuffers, built once a session in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def flatbuffers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of `<name>.tflite`, see `build_flatbuffers`."""
    directory = tmp_path_factory.mktemp("flatbuffers")
    built = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("build_flatbuffers.py")), str(directory)],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert built.returncode == 0, built.stderr
    return directory
