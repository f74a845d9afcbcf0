"""Servers under measurement: started on one core, asked what they have used, stopped."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from place import Place
from report import PartFailed

HOST: Final = "127.0.0.1"
SERVERS: Final = Path(__file__).resolve().parent / "servers"

_READY_S: Final = 90.0
_STOP_S: Final = 30.0


def server_core() -> int:
    """Return the core that servers run on."""
    return min(os.sched_getaffinity(0))


def load_core() -> int:
    """Return the core that the load generator runs on; the same one on a machine with one."""
    return max(os.sched_getaffinity(0))


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Have what is started meanwhile run on one core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes:
        port: on loopback.
        pid: its process.
        grpc_port: of the gRPC door, 0 where there is none.
    """

    port: int
    pid: int
    grpc_port: int = 0

    def cpu_s(self) -> float:
        """Return the processor time used so far, in seconds."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def gateway(place: Place, folder: Path) -> Iterator[Running]:
    """Run the gateway as `maas-gateway serve` does, one worker."""
    port, metrics_port, grpc_port = free_port(), free_port(), free_port()
    command = [sys.executable, "-m", "maas_gateway", "serve", "--data-dir", str(place.data_dir), "--port", str(port)]
    environment = {
        "MAAS_METRICS__PORT": str(metrics_port),
        "MAAS_GRPC__PORT": str(grpc_port),
        "MAAS_LOGS__LEVEL": "warning",
    }
    with running(command, port, folder / "gateway.log", path="/v2/health/ready", environment=environment) as server:
        yield replace(server, grpc_port=grpc_port)


@contextmanager
def running(
    command: Sequence[str], port: int, log: Path, *, path: str, environment: Mapping[str, str] | None = None
) -> Iterator[Running]:
    """Run a server on the servers' core until the block ends.

    Args:
        command: what to start; it listens on `port`.
        port: on loopback.
        log: where its output goes.
        path: answers 200 once it is ready.
        environment: variables besides our own, of which MAAS_… are left out.

    Raises:
        PartFailed: it does not answer.
    """
    own = {name: value for name, value in os.environ.items() if not name.startswith("MAAS_")}
    with log.open("wb") as output, on_core(server_core()):
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**own, **(environment or {})})
    try:
        _wait_until_ready(process, f"http://{HOST}:{port}{path}", log)
        yield Running(port, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port on loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline_s = time.monotonic() + _READY_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    raise PartFailed(f"{Path(process.args[0]).name} did not come to answer: {' '.join(last)}")  # type: ignore[index,arg-type]  # a list
