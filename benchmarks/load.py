"""Load on a server: the same POST over and over on keep-alive connections, and what came of it.

`wrk` where it is found or may be installed, else `generator.py` of this folder; either runs on the
load generator's core, in a process of its own.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Final

from report import PartFailed
from running import HOST, load_core, on_core

_GENERATOR: Final = Path(__file__).resolve().parent / "generator.py"
_INSTALL_S: Final = 120
_MARK: Final = "BENCH "
_DONE: Final = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '%s{"n_requests":%%d,"took_s":%%.6f,"p50_us":%%.1f,"p99_us":%%.1f,"n_failed":%%d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent; `bearer` is empty where no token is.

    Attributes:
        path: on the server.
        body: JSON.
        bearer: the access token.
    """

    path: str
    body: str
    bearer: str = ""


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of one round.

    Attributes:
        n_requests: answered.
        took_s: seconds.
        p50_us: median time to an answer, in microseconds.
        p99_us: 99th percentile.
        n_failed: how many answers were no 200, or never came.
    """

    n_requests: int
    took_s: float
    p50_us: float
    p99_us: float
    n_failed: int

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return self.n_requests / self.took_s


@cache
def generator() -> str:
    """Return what makes the load: `wrk`, installed if this machine allows it, or our own."""
    if shutil.which("wrk") is None and shutil.which("apt-get") is not None and os.geteuid() == 0:
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "wrk"]):
            try:
                subprocess.run(command, capture_output=True, check=True, timeout=_INSTALL_S)
            except (subprocess.SubprocessError, OSError):
                break
    return "wrk" if shutil.which("wrk") is not None else "generator.py"


def put_on(port: int, request: Request, *, n_clients: int, duration_s: int, folder: Path) -> Answered:
    """Ask as `try_on` does, where no failure is expected.

    Raises:
        PartFailed: an answer was no 200, or none came.
    """
    answered = try_on(port, request, n_clients=n_clients, duration_s=duration_s, folder=folder)
    if answered.n_failed:
        raise PartFailed(
            f"port {port}{request.path}: {answered.n_requests} answers to {n_clients} clients, "
            f"{answered.n_failed} failures"
        )
    return answered


def try_on(port: int, request: Request, *, n_clients: int, duration_s: int, folder: Path) -> Answered:
    """Ask a server for some seconds, each client again as soon as it is answered; count what fails.

    Args:
        port: on loopback.
        request: what to ask.
        n_clients: connections.
        duration_s: for how long; whole seconds, which is what wrk takes.
        folder: for the script that carries the token, so that no command line does.

    Raises:
        PartFailed: nothing was answered at all.
    """
    is_wrk = generator() == "wrk"
    script = folder / "load"
    script.write_text(_script(request) if is_wrk else json.dumps(asdict(request)), encoding="utf-8")
    script.chmod(0o600)
    address = f"http://{HOST}:{port}{request.path}"
    if is_wrk:
        command = ["wrk", "-t1", f"-c{n_clients}", f"-d{duration_s}s", "--timeout", "30s", "-s", str(script), address]
    else:
        command = [sys.executable, str(_GENERATOR), str(port), str(n_clients), str(duration_s), str(script)]
    with on_core(load_core()):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=duration_s + 60)
    line = next((text for text in done.stdout.splitlines() if text.startswith(_MARK)), None)
    if line is None:
        raise PartFailed(f"the load generator failed: {(done.stderr or done.stdout).strip()[-200:]}")
    found = json.loads(line.removeprefix(_MARK))
    if not found["n_requests"]:
        raise PartFailed(f"{address}: no answer to {n_clients} clients, {found['n_failed']} failures")
    return Answered(**found)


def _script(request: Request) -> str:
    headers = {"Content-Type": "application/json"}
    if request.bearer:
        headers["Authorization"] = f"Bearer {request.bearer}"
    lines = ['wrk.method = "POST"', f"wrk.body = {json.dumps(request.body)}"]
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    return "\n".join(lines) + _DONE % _MARK
