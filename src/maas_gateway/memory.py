"""What was found out, kept until anything changes.

Rules: bounded, the oldest goes first; forgotten as a whole; what was still being found out when that
happened is not kept, because it may be out of date already.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """Answers by question.

    Args:
        max_kept: how many, at least 1.
    """

    def __init__(self, max_kept: int) -> None:
        self._max_kept = max_kept
        self._kept: dict[K, V] = {}
        self._n_forgotten = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """Return what is kept for `key`; never waits."""
        return self._kept.get(key)

    async def find(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        """Return what is kept for `key`; else ask, and keep what comes unless it is None or all was forgotten meanwhile."""
        kept = self._kept.get(key)
        if kept is not None:
            return kept
        n_forgotten = self._n_forgotten
        found = await ask()
        if n_forgotten == self._n_forgotten and found is not None:
            if len(self._kept) >= self._max_kept:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = found
        return found

    def drop(self, key: K) -> None:
        """Forget one answer."""
        self._kept.pop(key, None)

    def forget(self) -> None:
        """Forget all."""
        self._kept.clear()
        self._n_forgotten += 1
