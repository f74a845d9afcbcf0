"""Real SavedModels, built once a session by one process that knows TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

from builders.shared import built_once
from builders.tf_models import tar


def saved_models(shared: Path) -> Path:
    """Return a folder with a folder for every model of `build_saved_models`."""
    return built_once(shared, "saved-models", _build)


def archive_of(folder: Path) -> bytes:
    """Return a SavedModel's folder as one upload."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return tar({str(path.relative_to(folder)): path.read_bytes() for path in files})


def _build(folder: Path) -> None:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
    built = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("build_saved_models.py")), str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=250,
        env={**os.environ, **quiet},
    )
    assert built.returncode == 0, built.stderr
