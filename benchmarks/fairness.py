"""One tenant's flood, and what another tenant notices of it: the same model, own connections, own token.

A flood is many clients that ask again as soon as they are answered, with one row or with many; the guest, to whose
tenant the model is shared, asks with few. Rounds alternate: the guest alone, then within the flood. Its share says
how its answers within the flood compare with the flooding tenant's, where both want more than there is.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from gateway_vs_bare import PATH, body_of, check_answer, token, token_of
from load import Answered, Request, generator, put_on
from place import MODEL, TENANT, Place
from report import Comparison
from running import HOST, Running, gateway

FLOOD: Final = 64
GUESTS: Final = 1
CONTENDERS: Final = 16
MANY_ROWS: Final = 64
ROUNDS: Final = 5
ROUND_S: Final = 2
SHARE_TARGET: Final = 0.7

_WARM_UP_S: Final = 1
_SHARED: Final = f"/v1/models/{TENANT}.{MODEL}:predict"

Pair = tuple[Answered, Answered]


def measure(place: Place, folder: Path) -> list[Comparison]:
    """Return what the guest notices of floods of one row and of many rows."""
    with ExitStack() as stack:
        server = stack.enter_context(gateway(place, folder))
        pool = stack.enter_context(ThreadPoolExecutor(1))
        row = body_of(place)
        rows = json.dumps({"instances": [list(place.example)] * MANY_ROWS}, separators=(",", ":"))
        bearer = token(server, place)
        guest = Request(_SHARED, row, token_of(server, *place.guest))
        check_answer(server, guest, place.expected)
        put_on(server.port, Request(PATH, row, bearer), n_clients=FLOOD, duration_s=_WARM_UP_S, folder=folder)
        lines: list[Comparison] = []
        for what, body in (("one row", row), (f"{MANY_ROWS} rows", rows)):
            bench = _Bench(server, Request(PATH, body, bearer), guest, pool=pool, folder=folder)
            alone, within = zip(*(bench.round() for _ in range(ROUNDS)), strict=True)
            contended = [bench.contest() for _ in range(ROUNDS)]
            lines += _lines(what, list(alone), list(within), contended)
    return lines


class _Bench:
    def __init__(
        self, server: Running, flood: Request, guest: Request, *, pool: ThreadPoolExecutor, folder: Path
    ) -> None:
        self._port = server.port
        self._flood = flood
        self._guest = guest
        self._pool = pool
        self._folder = folder
        (folder / "flood").mkdir(exist_ok=True)

    def round(self) -> Pair:
        """Return what came of the guest alone, and within the flood."""
        alone = self._ask(GUESTS)
        return alone, self._within(GUESTS)[0]

    def contest(self) -> Pair:
        """Return what came of the guest, asking much, and of the flood."""
        return self._within(CONTENDERS)

    def _within(self, n_guests: int) -> Pair:
        flooding = self._pool.submit(
            put_on,
            self._port,
            self._flood,
            n_clients=FLOOD,
            duration_s=ROUND_S,
            folder=self._folder / "flood",
        )
        guest = self._ask(n_guests)
        return guest, flooding.result()

    def _ask(self, n_clients: int) -> Answered:
        return put_on(self._port, self._guest, n_clients=n_clients, duration_s=ROUND_S, folder=self._folder)


def _lines(what: str, alone: list[Answered], within: list[Answered], contended: list[Pair]) -> Iterator[Comparison]:
    part = f"A flood of another tenant: {FLOOD} clients, {what} each (1 worker, {HOST}); load by {generator()}"
    for name, unit in (("p50_us", "median"), ("p99_us", "99th percentile")):
        ours, theirs = ([getattr(one, name) for one in side] for side in (within, alone))
        what = f"time to answer {GUESTS} guest with one row, {unit}, within the flood against alone"
        yield Comparison.of_rounds(part, what, "µs", (ours, theirs), reads="of alone")
    share = sorted(guest.per_s / flood.per_s for guest, flood in contended)[ROUNDS // 2]
    yield Comparison(
        part,
        f"answers to {CONTENDERS} guests with one row each against those to the flood",
        f"{sorted(guest.per_s for guest, _ in contended)[ROUNDS // 2]:,.0f} /s",
        f"{sorted(flood.per_s for _, flood in contended)[ROUNDS // 2]:,.0f} /s",
        share,
        "of the flood's",
        at_least=SHARE_TARGET,
    )
