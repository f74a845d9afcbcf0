"""Noticing that something changed: at once for this process's own acts, soon for other processes'.

Rules: whoever changes a topic raises its counter in the same transaction; every process asks for
the counters a few times a second and tells who listens. A listener drops what it remembers; it
never takes the news itself for the truth.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence

from maas_gateway.clock import Clock
from maas_gateway.database.engine import Database


class Changes:
    """The change counters of some databases, followed.

    Args:
        databases: whose counters.
        clock: what time it is.
        pause_s: how long to wait between two looks.
    """

    def __init__(self, databases: Sequence[Database], clock: Clock, *, pause_s: float = 0.25) -> None:
        self._databases = databases
        self._pause_s = pause_s
        self._listeners: dict[str, list[Callable[[], None]]] = defaultdict(list)
        self._seen: dict[tuple[int, str], int] = {}
        self._looking = asyncio.Lock()
        self._looked_at_s = clock.monotonic_s()
        self._clock = clock

    def listen(self, topic: str, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever `topic` may have changed."""
        self._listeners[topic].append(listener)

    def announce(self, topic: str) -> None:
        """Tell listeners of a change that this process has just committed."""
        for listener in self._listeners[topic]:
            listener()

    async def look(self) -> None:
        """Ask for the counters now and tell listeners what changed since the last look."""
        async with self._looking:
            began_s = self._clock.monotonic_s()
            for number, database in enumerate(self._databases):
                for topic, counter in (await database.counters()).items():
                    if self._seen.get((number, topic)) != counter:
                        self._seen[number, topic] = counter
                        self.announce(topic)
            self._looked_at_s = began_s

    def seen(self) -> dict[str, int]:
        """Return every topic's counter as it was at the last look; listeners have been told of it."""
        return {topic: counter for (_, topic), counter in self._seen.items()}

    def age_s(self) -> float:
        """Return for how many seconds nothing of other processes could have been noticed."""
        return self._clock.monotonic_s() - self._looked_at_s

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._pause_s)
