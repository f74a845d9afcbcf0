"""Predictions while strangers try passwords: how much longer they take, at the worst.

Two floods, each of so many clients that try again as soon as they are answered: from one address, which the
throttle of sign-ins stops; and from many, each with an account of its own, which it does not stop for long, so
that argon2id runs all the time. Predictions are asked at a steady rate, far below what the gateway can answer:
what is measured is how much longer one waits, and not how two crowds share a core that is full anyway.
A round is predictions at rest and then predictions within a flood; a flood that was not refused, or hashed
nothing where it should, is no result.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway_vs_bare import PATH, body_of, check_answer, token
from load import Request
from place import TENANT, Place
from report import Comparison, PartFailed
from running import Running, gateway, load_core, on_core

ROUNDS: Final = 7
ROUND_S: Final = 4
PER_S: Final = 150
N_FLOODING: Final = 50
P99_TARGET: Final = 1.5

_WARM_UP_S: Final = 2
_FLOOD: Final = Path(__file__).resolve().parent / "flood.py"
_STEADY: Final = Path(__file__).resolve().parent / "steady.py"


@dataclass(frozen=True, slots=True)
class Waited:
    """How long predictions took in one round, in milliseconds."""

    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Flooded:
    """What came of a flood: how many answers of each status, and over how many seconds."""

    by_status: dict[str, int]
    took_s: float

    def per_s(self, *statuses: int) -> float:
        """Return answers of these statuses a second."""
        return sum(self.by_status.get(str(status), 0) for status in statuses) / self.took_s


def measure(place: Place, folder: Path) -> list[Comparison]:
    """Return how long predictions take within each flood, against at rest.

    Raises:
        PartFailed: a prediction failed, or a flood was none.
    """
    with gateway(place, folder) as server:
        request = Request(PATH, body_of(place), token(server, place))
        check_answer(server, request, place.expected)
        _steady(server, request, _WARM_UP_S, folder)
        lines: list[Comparison] = []
        for name, n_addresses in (("from one address", 1), ("from an address each", N_FLOODING)):
            rounds: list[tuple[Waited, Waited, Flooded]] = []
            for number in range(ROUNDS):
                quiet = _steady(server, request, ROUND_S, folder)
                with _flood(server, n_addresses, number) as flood:
                    flooded = _steady(server, request, ROUND_S, folder)
                rounds.append((quiet, flooded, flood[0]))
            lines += _lines(name, n_addresses, rounds)
    return lines


def _steady(server: Running, request: Request, duration_s: float, folder: Path) -> Waited:
    script = folder / "steady"
    sent = {"path": request.path, "body": request.body, "bearer": request.bearer}
    script.write_text(json.dumps(sent), encoding="utf-8")
    script.chmod(0o600)
    command = [sys.executable, str(_STEADY), str(server.port), str(PER_S), str(duration_s), str(script)]
    with on_core(load_core()):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=duration_s + 60)
    if done.returncode:
        raise PartFailed(f"predictions failed: {done.stderr.strip()[-200:]}")
    times_ms = sorted(json.loads(done.stdout))
    return Waited(times_ms[len(times_ms) // 2], times_ms[len(times_ms) * 99 // 100])


@contextmanager
def _flood(server: Running, n_addresses: int, number: int) -> Iterator[list[Flooded]]:
    """Try passwords meanwhile; what came of it is in the list afterwards."""
    names = f"{TENANT} {number}"
    command = [sys.executable, str(_FLOOD), str(server.port), str(N_FLOODING), str(n_addresses), names]
    found: list[Flooded] = []
    with on_core(load_core()):
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        time.sleep(1)
        yield found
    finally:
        told, _ = process.communicate("\n", timeout=60)
    found.append(Flooded(**json.loads(told)))


def _lines(name: str, n_addresses: int, rounds: list[tuple[Waited, Waited, Flooded]]) -> Iterator[Comparison]:
    quiet, flooded, floods = zip(*rounds, strict=True)
    checked, refused = [
        statistics.median(flood.per_s(*statuses) for flood in floods) for statuses in ((400,), (429, 503))
    ]
    if not (refused if n_addresses == 1 else checked):
        raise PartFailed(f"the flood {name} was none: {floods[-1].by_status}")
    part = f"Predictions, {PER_S} a second, while {N_FLOODING} clients try passwords"
    what = f"{name}: {checked:,.0f} passwords checked and {refused:,.0f} refused a second"

    def line(which: str, sides: list[list[float]], at_most: float | None = None) -> Comparison:
        what_of = f"{which}, {what}"
        return Comparison.of_rounds(part, what_of, "ms", sides, reads="of at rest", digits=2, at_most=at_most)

    yield line("median", [[one.p50_ms for one in side] for side in (flooded, quiet)])
    yield line("99th percentile", [[one.p99_ms for one in side] for side in (flooded, quiet)], P99_TARGET)
