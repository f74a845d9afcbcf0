"""One row over gRPC against the same row as JSON at the same gateway, 32 clients, one worker on one core.

Load on the gRPC door is `h2load`'s, which is installed where this machine allows it (nghttp2-client); each client has a
connection of its own and asks again as soon as it is answered. Which generator asks does not show in processor time.
"""

import json
import os
import re
import shutil
import struct
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from gateway_vs_bare import token
from load import Answered, Request, generator, put_on
from place import MODEL, Place
from report import Comparison, PartFailed
from running import HOST, Running, gateway, load_core, on_core

CLIENTS: Final = 32
ROUNDS: Final = 5
ROUND_S: Final = 2
TARGET: Final = 0.8
METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"

_INSTALL_S: Final = 120
_WARM_UP_S: Final = 1
_TOLERANCE: Final = 1e-5
_DONE: Final = re.compile(r"finished in ([0-9.]+)(m?s),.*?(\d+) succeeded, (\d+) failed", re.DOTALL)
_TIME: Final = re.compile(r"time for request:\s+\S+\s+(\S+?)(us|ms|s)\s+(\S+?)(us|ms|s)\s")
_US: Final = {"us": 1.0, "ms": 1e3, "s": 1e6}


def measure(place: Place, folder: Path) -> list[Comparison]:
    """Return throughput and processor time of both doors.

    Raises:
        PartFailed: there is no h2load, or an answer is wrong.
    """
    install_h2load()
    with ExitStack() as stack:
        server = stack.enter_context(gateway(place, folder))
        bearer = token(server, place)
        tensor = {"name": "measurements", "shape": [1, 30], "datatype": "FP32", "data": list(place.example)}
        rest = Request(f"/v2/models/{MODEL}/infer", json.dumps({"inputs": [tensor]}, separators=(",", ":")), bearer)
        message = folder / "message"
        message.write_bytes(framed(infer_message(place.example)))
        _check(server, bearer, message, place.expected)
        put_on(server.port, rest, n_clients=CLIENTS, duration_s=_WARM_UP_S, folder=folder)
        put_on_grpc(server, bearer, message, _WARM_UP_S)
        found: dict[str, list[tuple[Answered, float]]] = {"grpc": [], "rest": []}
        for number in range(ROUNDS):
            for door in ("grpc", "rest") if number % 2 else ("rest", "grpc"):
                before_s = server.cpu_s()
                if door == "grpc":
                    answered = put_on_grpc(server, bearer, message, ROUND_S)
                else:
                    answered = put_on(server.port, rest, n_clients=CLIENTS, duration_s=ROUND_S, folder=folder)
                found[door].append((answered, (server.cpu_s() - before_s) / answered.n_requests * 1e6))
    return _lines(found["grpc"], found["rest"])


def infer_message(row: tuple[float, ...]) -> bytes:
    """Return a `ModelInferRequest` of one row as raw bytes, written by hand: no client library is needed here."""
    tensor = _field(1, b"measurements") + _field(2, b"FP32") + _field(3, bytes((1, len(row))))
    raw = struct.pack(f"<{len(row)}f", *row)
    return _field(1, MODEL.encode()) + _field(5, tensor) + _field(7, raw)


def framed(message: bytes) -> bytes:
    """Return a message as gRPC frames it."""
    return b"\0" + struct.pack(">I", len(message)) + message


def _field(number: int, content: bytes) -> bytes:
    return bytes((number << 3 | 2, len(content))) + content


def install_h2load() -> None:
    """Have h2load, where this machine lets us.

    Raises:
        PartFailed: there is none.
    """
    if shutil.which("h2load") is None and shutil.which("apt-get") is not None and os.geteuid() == 0:
        for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", "nghttp2-client"]):
            subprocess.run(command, capture_output=True, check=False, timeout=_INSTALL_S)
    if shutil.which("h2load") is None:
        raise PartFailed("there is no h2load: apt-get install nghttp2-client")


def _headers(bearer: str) -> list[str]:
    return [f"authorization: Bearer {bearer}", "content-type: application/grpc", "te: trailers"]


def _check(server: Running, bearer: str, message: Path, expected: float) -> None:
    """Refuse to time a door that answers something else."""
    command = ["curl", "--silent", "--http2-prior-knowledge", "--data-binary", f"@{message}"]
    for header in _headers(bearer):
        command += ["--header", header]
    done = subprocess.run([*command, _address(server)], capture_output=True, check=False, timeout=30)
    scores = struct.unpack("<f", done.stdout[-4:]) if len(done.stdout) > 4 else ()
    if not scores or abs(scores[0] - expected) > _TOLERANCE:
        raise PartFailed(
            f"the gRPC door answered {scores} where {expected} was expected: {done.stderr.decode()[-200:]}"
        )


def put_on_grpc(server: Running, bearer: str, message: Path, duration_s: int) -> Answered:
    """Ask the method of prediction again and again for so many seconds; return what came of it.

    Raises:
        PartFailed: h2load failed, or a request did.
    """
    command = ["h2load", f"--clients={CLIENTS}", "--max-concurrent-streams=1", "--threads=1"]
    command += [f"--duration={duration_s}", f"--data={message}"]
    for header in _headers(bearer):
        command.append(f"--header={header}")
    with on_core(load_core()):
        done = subprocess.run([*command, _address(server)], capture_output=True, text=True, check=False, timeout=90)
    finished, times = _DONE.search(done.stdout), _TIME.search(done.stdout)
    if finished is None or times is None:
        raise PartFailed(f"h2load failed: {(done.stderr or done.stdout).strip()[-200:]}")
    n_answered, n_failed = int(finished[3]), int(finished[4])
    if not n_answered or n_failed:
        raise PartFailed(f"the gRPC door: {n_answered} answers and {n_failed} failures")
    took_s = float(finished[1]) * _US[finished[2]] / 1e6
    # h2load tells the mean and the largest, no percentiles.
    return Answered(n_answered, took_s, float(times[3]) * _US[times[4]], float(times[1]) * _US[times[2]], n_failed)


def _address(server: Running) -> str:
    return f"http://{HOST}:{server.grpc_port}{METHOD}"


def _lines(ours: list[tuple[Answered, float]], theirs: list[tuple[Answered, float]]) -> list[Comparison]:
    part = (
        f"gRPC (raw bytes; load by h2load) against JSON at /v2 (load by {generator()}), one row of 30, the same gateway"
    )

    def line(what: str, unit: str, values: list[list[float]], target: float | None = None) -> Comparison:
        return Comparison.of_rounds(part, f"{what}, {CLIENTS} clients", unit, values, reads="of JSON", at_least=target)

    sides = (ours, theirs)
    return [
        line("throughput", "/s", [[answered.per_s for answered, _ in side] for side in sides], TARGET),
        line("processor time a request", "µs", [[cpu_us for _, cpu_us in side] for side in sides]),
    ]
