"""SIGTERM under load: first health says not ready, then the ports close, and nobody's request fails."""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import httpx
import pytest

from builders.grpc_clients import HEALTH, SERVICE
from builders.processes import Served, run_command, serving
from maas_gateway.protocols.open_inference.grpc.messages import message_class, written

DRAIN_S = 1.0
N_CLIENTS = 4
NOT_SERVING = 2
CLOSED_WITHIN_S = 6.0
"""Less than a body may take to come."""
HOST = "127.0.0.1"
BODY = b"grant_type=password&username=x%40y&password=z"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place without models: health and refusals are load enough for ports."""
    folder = tmp_path_factory.mktemp("drain") / "place"
    assert run_command("init", "--data-dir", str(folder)).returncode == 0
    return folder


@dataclass
class Load:
    """Clients that ask on kept connections until they are told that the gateway leaves and have asked on for a while.

    Attributes:
        n: requests answered.
        failures: what went wrong.
        not_ready: moments at which an answer said not ready.
        closes: answers that said that their connection ends.
    """

    n: int = 0
    failures: list[str] = field(default_factory=list)
    not_ready: list[float] = field(default_factory=list)
    closes: int = 0

    def over_http(self, url: str, until: threading.Event) -> None:
        """Ask for health and for a refusal, in turn."""
        with httpx.Client(base_url=url, timeout=10) as client:
            while not until.is_set():
                try:
                    ready, refused = client.get("/v2/health/ready"), client.get("/v2/models")
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    return
                self.n += 2
                if ready.status_code == 503:
                    self.not_ready.append(time.monotonic())
                    assert ready.json() == {"ready": False, "live": True}
                if (ready.status_code, refused.status_code) not in {(200, 401), (503, 401)}:
                    self.failures.append(f"{ready.status_code} {refused.status_code}")
                self.closes += refused.headers.get("connection") == "close"

    def over_grpc(self, address: str, until: threading.Event) -> None:
        """Ask for health, both of its kinds."""
        check = written("grpc.health.v1.HealthCheckRequest", {})
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            while not until.is_set():
                try:
                    status = channel.unary_unary(f"/{HEALTH}/Check")(check, timeout=10)
                    ready = channel.unary_unary(f"/{SERVICE}/ServerReady")(b"", timeout=10)
                except grpc.RpcError as error:
                    self.failures.append(str(error.code()))
                    return
                self.n += 2
                found = message_class("grpc.health.v1.HealthCheckResponse").FromString(status).status
                is_ready = message_class("inference.ServerReadyResponse").FromString(ready).ready
                if found == NOT_SERVING or not is_ready:
                    self.not_ready.append(time.monotonic())


@pytest.mark.parametrize(
    "workers", [pytest.param("1", marks=pytest.mark.slow, id="one worker"), pytest.param("2", id="two workers")]
)
def test_a_gateway_says_that_it_leaves_then_closes_its_ports_and_no_request_fails(place: Path, workers: str) -> None:
    with serving(place, "--workers", workers, MAAS_HTTP__DRAIN_S=str(DRAIN_S)) as served, _half_sent(served) as half:
        http, over_grpc, until = Load(), Load(), threading.Event()
        clients = _begun(served, http, over_grpc, until)
        _wait(lambda: min(http.n, over_grpc.n) > 100)
        assert (http.not_ready, http.closes, over_grpc.not_ready) == ([], 0, [])
        served.process.send_signal(signal.SIGTERM)
        began_s = time.monotonic()
        _wait(lambda: bool(http.not_ready and over_grpc.not_ready))
        n_before = http.n, over_grpc.n
        served.process.send_signal(signal.SIGTERM)  # once more, which must not shorten it
        _wait(lambda: time.monotonic() > max(http.not_ready[0], over_grpc.not_ready[0]) + DRAIN_S / 2)
        until.set()
        for client in clients:
            client.join()
        assert (http.failures, over_grpc.failures) == ([], [])
        assert http.n > n_before[0]
        assert over_grpc.n > n_before[1]
        assert http.closes
        for port in _ports(served):
            _wait(lambda port=port: not _listens(port), CLOSED_WITHIN_S)  # type: ignore[misc]
        assert time.monotonic() - began_s >= DRAIN_S
        half.sendall(BODY[10:])
        answer = half.recv(65_536).lower()
        assert answer.startswith(b"http/1.1 4")
        assert b"connection: close" in answer
        assert served.process.wait(20) in {0, -signal.SIGTERM}


def _begun(served: Served, http: Load, over_grpc: Load, until: threading.Event) -> list[threading.Thread]:
    """Start clients of both ports."""
    asking: list[tuple[Callable[[str, threading.Event], None], str]] = [
        *[(http.over_http, served.url)] * N_CLIENTS,
        *[(over_grpc.over_grpc, f"{HOST}:{_ports(served)[1]}")] * N_CLIENTS,
    ]
    clients = [threading.Thread(target=ask, args=(where, until)) for ask, where in asking]
    for client in clients:
        client.start()
    return clients


@contextmanager
def _half_sent(served: Served) -> Iterator[socket.socket]:
    """Send a part of a request, whose rest the caller sends."""
    head = (
        f"POST /oauth/token HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n"
    )
    with socket.create_connection((HOST, _ports(served)[0]), timeout=20) as connection:
        connection.sendall(head.encode() + BODY[:10])
        yield connection


def _ports(served: Served) -> tuple[int, int]:
    """Return the ports of HTTP and of gRPC."""
    port = int(served.url.rpartition(":")[2])
    return port, port + 1


@pytest.mark.slow
def test_a_person_at_a_terminal_does_not_wait_for_clients(place: Path) -> None:
    with serving(place, MAAS_HTTP__DRAIN_S="300") as served:
        served.process.send_signal(signal.SIGTERM)
        _wait(lambda: httpx.get(f"{served.url}/v2/health/ready").status_code == 503)
        served.process.send_signal(signal.SIGINT)
        assert served.process.wait(20) is not None


def _listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


def _wait(is_so: Callable[[], bool], within_s: float = 20) -> None:
    ends_s = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < ends_s
        time.sleep(0.01)
