import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_the_benchmark_names_its_parts() -> None:
    asked = subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "bare, sealing, peers, rotation, access, fairness, login, grpc" in " ".join(asked.stdout.split())


def test_the_benchmark_refuses_a_part_that_it_does_not_have() -> None:
    asked = subprocess.run(
        [sys.executable, str(BENCHMARKS / "run.py"), "fast"], capture_output=True, text=True, check=False, timeout=60
    )
    assert asked.returncode == 2
    assert "there is no part fast" in asked.stderr
