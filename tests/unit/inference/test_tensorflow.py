"""The runtime of frozen graphs, tested in a program of its own, which may load TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

TESTS = Path(__file__).with_name("tensorflow_in_process.py")


def test_runtime_of_frozen_graphs_passes_its_tests() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", str(TESTS)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=200, env={**os.environ, **quiet}
    )
    assert done.returncode == 0, done.stdout + done.stderr
