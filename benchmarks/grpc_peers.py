"""One row over gRPC, raw bytes: the gateway against the servers that KServe and MLServer bring, 32 clients.

Each server has one core. Theirs ask nobody who calls, check nothing and multiply a row by thirty numbers, where the
gateway verifies a token, a role, quotas and guards, and runs a network of three layers. A second reading sets the
gateway beside them for the processor's time of a call.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from environments import made_environment
from gateway_vs_bare import token
from grpc_vs_rest import CLIENTS, ROUND_S, framed, infer_message, install_h2load, put_on_grpc
from load import Answered
from place import MODEL, Place
from report import Comparison
from running import SERVERS, Running, free_port, gateway, running

ROUNDS: Final = 3
TARGET: Final = 1.0
PINS: Final = Path(__file__).resolve().parent.parent / "tests" / "clients"

_WARM_UP_S: Final = 1


def measure(place: Place, folder: Path, environments: Path) -> list[Comparison]:
    """Return throughput and processor time of each.

    Args:
        place: of a gateway that serves the seed network.
        folder: for logs and settings.
        environments: where the peers' are made.

    Raises:
        PartFailed: there is no h2load, a peer cannot be installed or does not start, or a request fails.
    """
    install_h2load()
    pythons = {
        "KServe": _made(environments / "kserve", "requirements.txt"),
        "MLServer": _made(environments / "mlserver", "requirements_mlserver.txt"),
    }
    message = folder / "message"
    message.write_bytes(framed(infer_message(place.example)))
    found: dict[str, list[tuple[Answered, float]]] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(gateway(place, folder))
        bearer = token(ours, place)
        servers = {
            "gateway": ours,
            "KServe": stack.enter_context(_kserve(pythons["KServe"], folder)),
            "MLServer": stack.enter_context(_mlserver(pythons["MLServer"], folder)),
        }
        for server in servers.values():
            put_on_grpc(server, bearer, message, _WARM_UP_S)
        for number in range(ROUNDS):
            for name in sorted(servers, reverse=bool(number % 2)):
                before_s = servers[name].cpu_s()
                answered = put_on_grpc(servers[name], bearer, message, ROUND_S)
                cpu_us = (servers[name].cpu_s() - before_s) / answered.n_requests * 1e6
                found.setdefault(name, []).append((answered, cpu_us))
    return [line for peer in pythons for line in _lines(peer, found["gateway"], found[peer])]


def _made(environment: Path, pins: str) -> Path:
    return made_environment(environment, ["--require-hashes", "-r", str(PINS / pins)], what=environment.name)


@contextmanager
def _kserve(python: Path, folder: Path) -> Iterator[Running]:
    port, grpc_port = free_port(), free_port()
    command = [str(python), str(SERVERS / "kserve_model.py"), str(port), str(grpc_port)]
    with running(command, port, folder / "kserve.log", path="/v2/health/ready") as server:
        yield replace(server, grpc_port=grpc_port)


@contextmanager
def _mlserver(python: Path, folder: Path) -> Iterator[Running]:
    port, grpc_port, metrics_port = free_port(), free_port(), free_port()
    place = folder / "mlserver"
    place.mkdir()
    settings = {"http_port": port, "grpc_port": grpc_port, "metrics_port": metrics_port, "parallel_workers": 0}
    (place / "settings.json").write_text(json.dumps({**settings, "host": "127.0.0.1", "debug": False}))
    model = {"name": MODEL, "implementation": "mlserver_model.Peer", "parameters": {"version": "1"}}
    (place / "model-settings.json").write_text(json.dumps(model))
    command = [str(python.with_name("mlserver")), "start", str(place)]
    environment = {"PYTHONPATH": str(SERVERS)}
    with running(command, port, folder / "mlserver.log", path="/v2/health/ready", environment=environment) as server:
        yield replace(server, grpc_port=grpc_port)


def _lines(peer: str, ours: list[tuple[Answered, float]], theirs: list[tuple[Answered, float]]) -> list[Comparison]:
    part = "gRPC, one row of 30 as raw bytes: the gateway, security on, against servers that ask nobody; load by h2load"
    sides = (ours, theirs)

    def line(what: str, unit: str, values: list[list[float]], target: float | None = None) -> Comparison:
        return Comparison.of_rounds(
            part, f"{what} against {peer}, {CLIENTS} clients", unit, values, reads=f"of {peer}", at_least=target
        )

    return [
        line("throughput", "/s", [[answered.per_s for answered, _ in side] for side in sides], TARGET),
        line("processor time a call", "µs", [[cpu_us for _, cpu_us in side] for side in sides]),
    ]
