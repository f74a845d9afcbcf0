"""Real models, built once a session by one process that knows Keras; everything hostile is made from their bytes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from builders.shared import built_once

_BUILDER = Path(__file__).with_name("build_models.py")


@pytest.fixture(scope="session")
def models(shared_folder: Path) -> Path:
    """A folder with `<name>.keras`, `<name>.tflite` and `unresolved.json`."""
    return built_once(shared_folder, "scanned-models", _build)


def _build(folder: Path) -> None:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}
    subprocess.run(
        [sys.executable, str(_BUILDER), str(folder)], check=True, capture_output=True, env={**os.environ, **quiet}
    )


@pytest.fixture(scope="session")
def seed(models: Path) -> bytes:
    """The seed network as Keras saved it."""
    return (models / "seed.keras").read_bytes()
