"""A large upload passes through the gateway: it never holds more than pieces of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = Path(__file__).parents[1] / "builders" / "large_upload.py"
_MOST_BYTES = 64 << 20


@pytest.mark.parametrize(
    "n_mib",
    [
        pytest.param(192, id="192 MiB"),
        pytest.param(1024, id="1 GiB", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
def test_gateway_grows_by_at_most_64_mib_while_it_takes_a_model_in(tmp_path: Path, n_mib: int) -> None:
    command = [sys.executable, str(_PROGRAM), str(tmp_path), str(n_mib)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    _, before, after = json.loads(done.stdout.splitlines()[-1])
    assert after["peak_bytes"] - before["peak_bytes"] < _MOST_BYTES
