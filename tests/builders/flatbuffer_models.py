"""Real flatbuffers, built once a test session in a process of their own: tests need no TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

from builders.shared import built_once

_PROGRAM = Path(__file__).parents[1] / "unit" / "inference" / "build_flatbuffers.py"


def flatbuffers_of(shared_folder: Path) -> Path:
    """Return a directory of `<name>.tflite`; see `build_flatbuffers`."""
    return built_once(shared_folder, "flatbuffers", _build)


def _build(directory: Path) -> None:
    built = subprocess.run(
        [sys.executable, str(_PROGRAM), str(directory)],
        check=False,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"},
    )
    assert built.returncode == 0, built.stderr
