"""The gateway, security and all, against a bare ASGI server that does nothing but compute the same answer.

The target is held against throughput at 32 clients, which counts on an idle machine only: where
something else takes turns on the core, the servers are held back alike and the ratio rises (0.83 was
seen where 0.43 was true). "Throughput of the whole core" does not: if the two differ, believe that one.
"""

import json
import sys
import urllib.parse
import urllib.request
from collections import defaultdict
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Final

from load import Answered, Request, generator, put_on
from place import MODEL, Place
from report import Comparison, PartFailed
from running import HOST, SERVERS, Running, free_port, gateway, running

ROUNDS: Final = 5
ROUND_S: Final = 2
CLIENTS: Final = (1, 32)
PATH: Final = f"/v1/models/{MODEL}:predict"
TARGET: Final = 0.5

_WARM_UP_S: Final = 1
_TOLERANCE: Final = 1e-5


def measure(place: Place, folder: Path) -> list[Comparison]:
    """Return throughput, time to an answer and processor time, at 1 and at 32 clients."""
    with ExitStack() as stack:
        servers = {
            "gateway": stack.enter_context(gateway(place, folder)),
            "bare": stack.enter_context(_bare(place, folder)),
        }
        body = body_of(place)
        requests = {"gateway": Request(PATH, body, token(servers["gateway"], place)), "bare": Request(PATH, body)}
        for name, server in servers.items():
            check_answer(server, requests[name], place.expected)
            put_on(server.port, requests[name], n_clients=CLIENTS[-1], duration_s=_WARM_UP_S, folder=folder)
        found: dict[tuple[str, int], list[tuple[Answered, float]]] = defaultdict(list)
        for number in range(ROUNDS):
            for n_clients in CLIENTS:
                for name in ("gateway", "bare") if number % 2 else ("bare", "gateway"):
                    found[name, n_clients].append(_round(servers[name], requests[name], n_clients, folder))
    return [line for n in CLIENTS for line in _lines(n, found["gateway", n], found["bare", n])]


def body_of(place: Place) -> str:
    """Return the request's body: one row of 30 numbers."""
    return json.dumps({"instances": [list(place.example)]}, separators=(",", ":"))


def token(server: Running, place: Place) -> str:
    """Return an access token of the invoker."""
    return token_of(server, place.client_id, place.client_secret)


def token_of(server: Running, client_id: str, client_secret: str) -> str:
    """Return an access token of a service account."""
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
    address = f"http://{HOST}:{server.port}/oauth/token"
    with urllib.request.urlopen(address, data=urllib.parse.urlencode(form).encode(), timeout=30) as answer:
        return str(json.load(answer)["access_token"])


def check_answer(server: Running, request: Request, expected: float) -> None:
    """Refuse to time a server that answers something else.

    Raises:
        PartFailed: it does.
    """
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {request.bearer}"}
    asked = urllib.request.Request(f"http://{HOST}:{server.port}{request.path}", request.body.encode(), headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        got = json.load(answer)["predictions"]
    if abs(got[0][0] - expected) > _TOLERANCE:
        raise PartFailed(f"port {server.port} answered {got} where {expected} was expected")


def _bare(place: Place, folder: Path) -> AbstractContextManager[Running]:
    port = free_port()
    command = [sys.executable, str(SERVERS / "bare.py"), str(place.data_dir), str(port)]
    return running(command, port, folder / "bare.log", path="/")


def _round(server: Running, request: Request, n_clients: int, folder: Path) -> tuple[Answered, float]:
    """Return what came of one round, and the server's processor time for each request in microseconds."""
    before_s = server.cpu_s()
    answered = put_on(server.port, request, n_clients=n_clients, duration_s=ROUND_S, folder=folder)
    return answered, (server.cpu_s() - before_s) / answered.n_requests * 1e6


def _lines(
    n_clients: int, ours: list[tuple[Answered, float]], theirs: list[tuple[Answered, float]]
) -> list[Comparison]:
    part = (
        "Gateway (token checked, authorised; 1 worker) against a bare ASGI server with the same engine, "
        f"one row of 30; load by {generator()}"
    )
    clients = "1 client" if n_clients == 1 else f"{n_clients} clients"

    def line(what: str, unit: str, values: list[list[float]], target: float | None = None) -> Comparison:
        return Comparison.of_rounds(part, f"{what}, {clients}", unit, values, reads="of bare", at_least=target)

    sides = (ours, theirs)
    is_many = n_clients == CLIENTS[-1]
    return [
        line("throughput", "/s", [[a.per_s for a, _ in side] for side in sides], TARGET if is_many else None),
        # What each could answer if the other core's load were endless: stricter, because it hides no idle time.
        line("throughput of the whole core", "/s", [[1e6 / us for _, us in side] for side in sides]),
        line("time to answer, median", "µs", [[a.p50_us for a, _ in side] for side in sides]),
        line("time to answer, 99th percentile", "µs", [[a.p99_us for a, _ in side] for side in sides]),
        line("processor time a request", "µs", [[cpu_us for _, cpu_us in side] for side in sides]),
    ]
