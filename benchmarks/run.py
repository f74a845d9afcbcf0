"""`make bench`: how fast the gateway is, as ratios of one run.

Rules: what is compared runs in turn, in the same run, and a ratio is the median of the rounds'
ratios: absolute figures say more about the machine than about us. Servers run on one core and the
load generator on another; all traffic stays on loopback; everything that is made lies in `.bench/`.

    python benchmarks/run.py                 all parts, under 5 minutes
    python benchmarks/run.py sealing         one of them: bare, sealing, peers, rotation, access, fairness, login, grpc,
                                             grpc-peers
    python benchmarks/run.py --strict        exit 1 if a target is missed
"""

import argparse
import fcntl
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import access
import fairness
import gateway_vs_bare
import grpc_peers
import grpc_vs_rest
import login_flood
import peers
import rotation
import sealing
from place import Place, made_place
from report import Comparison, PartFailed, machine, print_report, write_results

BENCH: Final = Path(__file__).resolve().parent.parent / ".bench"
PARTS: Final = ("bare", "sealing", "peers", "rotation", "access", "fairness", "login", "grpc", "grpc-peers")


def main() -> int:
    """Run what the command line names; return the exit code."""
    parser = argparse.ArgumentParser(description="How fast the gateway is, as ratios of one run.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; none means all")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a target is missed")
    asked = parser.parse_args()
    unknown = set(asked.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    parts = asked.parts or PARTS

    BENCH.mkdir(exist_ok=True)
    with _alone():
        folder = Path(tempfile.mkdtemp(prefix="run-", dir=BENCH))
        try:
            comparisons, failures = _measured(parts, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print_report(comparisons, failures)
    write_results(BENCH / "results.json", comparisons, failures)
    is_missed = any(comparison.verdict == "missed" for comparison in comparisons)
    return 1 if failures or (asked.strict and is_missed) else 0


@contextmanager
def _alone() -> Iterator[None]:
    """Wait until no other run of this checkout measures: two at once would measure each other."""
    with (BENCH / "lock").open("w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Another run is measuring; waiting for it to end …", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _measured(parts: list[str] | tuple[str, ...], folder: Path) -> tuple[list[Comparison], dict[str, str]]:
    """Return what was measured, and for each part that could not run why."""
    print(f"Machine: {machine()}", flush=True)
    made: list[Place] = []

    def place() -> Place:
        if not made:
            print("Training the seed network and sealing it into a gateway of its own …", flush=True)
            made.append(made_place(folder / "place"))
        return made[0]

    works: dict[str, Callable[[], list[Comparison]]] = {
        "bare": lambda: gateway_vs_bare.measure(place(), folder),
        "sealing": lambda: sealing.measure(folder),
        "peers": lambda: peers.measure(place(), folder, BENCH / "peer"),
        "rotation": lambda: rotation.measure(place(), folder),
        "access": lambda: access.measure(place(), folder),
        "fairness": lambda: fairness.measure(place(), folder),
        "login": lambda: login_flood.measure(place(), folder),
        "grpc": lambda: grpc_vs_rest.measure(place(), folder),
        "grpc-peers": lambda: grpc_peers.measure(place(), folder, BENCH),
    }
    comparisons: list[Comparison] = []
    failures: dict[str, str] = {}
    for part in PARTS:
        if part in parts:
            print(f"Measuring: {part} …", flush=True)
            try:
                comparisons += works[part]()
            except PartFailed as failure:
                failures[part] = str(failure)
    return comparisons, failures


if __name__ == "__main__":
    sys.exit(main())
