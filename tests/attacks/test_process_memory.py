"""Whoever runs as the gateway's user, or makes a process of it crash, does not get at its memory."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from builders.gateways import gateway_settings
from builders.processes import Served, drop_privileges, run_command, serving

_SECRETS = ("maps", "mem", "environ")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    settings = gateway_settings(tmp_path_factory.mktemp("memory"))
    assert run_command("init", "--data-dir", str(settings.data_dir)).returncode == 0
    with serving(settings.data_dir, "--workers", "2", is_privileged=False) as running:
        yield running


def _keyholders(served: Served) -> list[int]:
    """Return the processes that may hold keys: all but the standard library's tracker of named resources."""
    pids = [pid for pid in served.pids() if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(pids) >= 3, "the first process and two workers"
    return pids


def _can_read(pid: int, what: str) -> bool:
    """Tell whether another process of the same user can open what shows a process's memory."""
    program = f"open('/proc/{pid}/{what}', 'rb', buffering=0).read(0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, preexec_fn=drop_privileges, check=False)
    assert done.returncode == 0 or b"PermissionError" in done.stderr, done.stderr
    return done.returncode == 0


@contextmanager
def _unprotected() -> Iterator[int]:
    """Run a process that does nothing to protect itself."""
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    process = subprocess.Popen(command, preexec_fn=drop_privileges)  # noqa: PLW1509  nothing but system calls
    try:
        time.sleep(0.2)
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("what", _SECRETS)
def test_no_other_process_of_the_same_user_reads_a_serving_process(served: Served, what: str) -> None:
    with _unprotected() as pid:
        assert _can_read(pid, what), "whose memory is not protected can be read here"
    deadline = time.monotonic() + 20
    while (readable := [pid for pid in _keyholders(served) if _can_read(pid, what)]) and time.monotonic() < deadline:
        time.sleep(0.1)  # a worker that has just begun protects itself before it opens a key
    assert readable == []


def test_no_serving_process_may_write_a_core_file_and_each_may_lock_all_that_it_can(served: Served) -> None:
    for pid in served.pids():
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
    for pid in _keyholders(served):
        soft, hard = resource.prlimit(pid, resource.RLIMIT_MEMLOCK)
        assert soft == hard


def test_a_serving_process_that_crashes_leaves_no_core_file(served: Served) -> None:
    victim = _keyholders(served)[-1]
    began = time.time()
    os.kill(victim, signal.SIGSEGV)
    deadline = time.monotonic() + 10
    while victim in served.pids() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert victim not in served.pids()
    cores = [path for path in Path.cwd().glob("core*") if path.is_file() and path.stat().st_mtime >= began - 1]
    assert cores == []
