"""A gateway as its operator runs it: real processes, a real port, killed when asked."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from builders.gateways import Account

PROGRAM = str(Path(sys.executable).parent / "maas-gateway")
READY_WITHIN_S = 60.0

_PR_CAPBSET_DROP = 24
_N_CAPABILITIES = 64


@dataclass
class Served:
    """A running gateway.

    Attributes:
        process: its first process; workers are in its process group.
        url: its address.
        log: what it printed.
    """

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def headers(self, account: Account) -> dict[str, str]:
        """Sign an account in over HTTP; return the header that bears its token."""
        answer = httpx.post(f"{self.url}/oauth/token", data=account.form(), timeout=30)
        assert answer.status_code == 200, answer.text
        return {"authorization": f"Bearer {answer.json()['access_token']}"}

    def kill(self) -> None:
        """Kill -9 every process of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)

    def pids(self) -> list[int]:
        """Return every process of it."""
        found = subprocess.run(["pgrep", "-g", str(self.process.pid)], capture_output=True, text=True, check=True)
        return [int(pid) for pid in found.stdout.split()]


def free_port() -> int:
    """Return a port that is free, as are the gRPC port, its successor, and the metrics port, its thousandth one."""
    while True:
        with socket.socket() as probe, socket.socket() as grpc, socket.socket() as metrics:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port < 64_000:
                with contextlib.suppress(OSError):
                    grpc.bind(("127.0.0.1", port + 1))
                    metrics.bind(("127.0.0.1", port + 1_000))
                    return port


def environment(**more: str) -> dict[str, str]:
    """Return the environment without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAAS_")}
    cheap = {"MAAS_PASSWORDS__MEMORY_KIB": "8192", "MAAS_PASSWORDS__PASSES": "1"}
    return {**kept, **cheap, **more}


def drop_privileges() -> None:
    """Have what this process executes next be an ordinary program of its user, even if that is root."""
    for capability in range(_N_CAPABILITIES):
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


@contextmanager
def serving(
    data_dir: Path, *arguments: str, command: str = "serve", is_privileged: bool = True, **variables: str
) -> Iterator[Served]:
    """Run a gateway on a prepared place until the block is left; it is killed then, if it still runs.

    Args:
        data_dir: the place.
        arguments: further ones of the command.
        command: which.
        is_privileged: whether it has what root may beyond an ordinary user, if root runs the tests.
        variables: of the environment.
    """
    port = free_port()
    log = data_dir.parent / f"{command}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [PROGRAM, command, "--data-dir", str(data_dir), "--port", str(port), *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(**variables),
            start_new_session=True,
            preexec_fn=None if is_privileged else drop_privileges,  # noqa: PLW1509  nothing but system calls
        )
    served = Served(process, f"http://127.0.0.1:{port}", log)
    try:
        _wait_until_ready(served)
        yield served
    finally:
        served.kill()


def run_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the program to its end."""
    return subprocess.run(
        [PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=120, env=environment(**variables)
    )


def _wait_until_ready(served: Served) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        assert served.process.poll() is None, served.log.read_text()
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{served.url}/v2/health/ready", timeout=2).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"not ready: {served.log.read_text()}")
