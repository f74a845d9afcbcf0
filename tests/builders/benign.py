"""Benign Keras models as Keras saved them, made once a session by a process that knows Keras."""

import json
import os
import subprocess
import sys
from pathlib import Path

from builders.shared import built_once

_PROGRAM = Path(__file__).with_name("benign_keras.py")


def built(shared: Path, folder: str, *arguments: str) -> Path:
    """Return the folder that `benign_keras` has filled, called with these arguments."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}

    def build(made: Path) -> None:
        command = [sys.executable, str(_PROGRAM), str(made), *arguments]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, **quiet})

    return built_once(shared, folder, build)


def small_archives(shared: Path) -> dict[str, bytes]:
    """Return every small model of `benign_layers` and `benign_operations`, by what it shows."""
    folder = built(shared, "benign-layers", "layers")
    names = json.loads((folder / "names.json").read_text())
    return {name: (folder / f"{number}.keras").read_bytes() for number, name in enumerate(names)}
