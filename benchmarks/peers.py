"""One row through the gateway against Flask and `model.predict`, the way tutorials serve the same model.

Flask and waitress live in an environment of their own, `.bench/peer`; TensorFlow and Keras it takes
from the gateway's by a `.pth` file, to spare a second copy of 2 GB.
"""

import statistics
import sysconfig
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from environments import made_environment
from gateway_vs_bare import PATH, body_of, check_answer, token
from load import Answered, Request, generator, put_on
from place import Place
from report import Comparison, paired
from running import SERVERS, free_port, gateway, running

ROUNDS: Final = 3
ROUND_S: Final = 3
CLIENTS: Final = (1, 32)

_PACKAGES: Final = ("flask>=3.1,<4", "waitress>=3,<4")
_WARM_UP_REQUESTS: Final = 10


def measure(place: Place, folder: Path, environment: Path) -> list[Comparison]:
    """Return time to an answer and throughput.

    Raises:
        PartFailed: the peer cannot be installed or does not start.
    """
    python = _python(environment)
    port = free_port()
    command = [str(python), str(SERVERS / "flask_predict.py"), str(place.archive), str(port)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
    found: dict[tuple[str, int], list[Answered]] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(gateway(place, folder))
        theirs = stack.enter_context(running(command, port, folder / "flask.log", path="/", environment=quiet))
        servers = {"gateway": ours, "flask": theirs}
        body = body_of(place)
        requests = {"gateway": Request(PATH, body, token(ours, place)), "flask": Request("/predict", body)}
        for name, server in servers.items():
            for _ in range(_WARM_UP_REQUESTS):  # Keras traces at the first calls, for seconds
                check_answer(server, requests[name], place.expected)
        for number in range(ROUNDS):
            for n_clients in CLIENTS:
                for name in ("gateway", "flask") if number % 2 else ("flask", "gateway"):
                    answered = put_on(
                        servers[name].port, requests[name], n_clients=n_clients, duration_s=ROUND_S, folder=folder
                    )
                    found.setdefault((name, n_clients), []).append(answered)
    return [_line(n, found["gateway", n], found["flask", n]) for n in CLIENTS]


def _python(environment: Path) -> Path:
    """Return the interpreter of the peer's environment, which finds the gateway's TensorFlow and Keras."""
    python = made_environment(environment, _PACKAGES, what="Flask and waitress")
    site = sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    (Path(site) / "gateway.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


def _line(n_clients: int, ours: list[Answered], theirs: list[Answered]) -> Comparison:
    part = (
        "Gateway against Flask with waitress (4 threads) and model.predict, the same model, one row; "
        f"load by {generator()}"
    )
    if n_clients == 1:
        mine, other = [a.p50_us / 1e3 for a in ours], [a.p50_us / 1e3 for a in theirs]
        texts = [f"{statistics.median(values):,.2f} ms" for values in (mine, other)]
        return Comparison(part, "time to answer, median, 1 client", *texts, paired(other, mine), "times faster")
    mine, other = [a.per_s for a in ours], [a.per_s for a in theirs]
    return Comparison.of_rounds(part, f"throughput, {n_clients} clients", "/s", (mine, other), reads="times more")
