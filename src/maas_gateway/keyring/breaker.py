"""A guard around a root-key holder: no call outlives its deadline, and one that is down is left alone.

Rules:
- a call that does not end within the deadline counts as not answered;
- after so many calls in a row that were not answered the breaker is open: calls are refused at once,
  and told how long that lasts;
- after the pause one call is let through as a probe, the others are still refused: an answer closes
  the breaker, none opens it again for as long;
- each root key has a breaker of its own, and making keys has one: a key that is disabled at its holder
  keeps no other from opening;
- a refusal that says something about what was asked (a rejected ciphertext, a conflict) is an answer;
- a call that was cancelled, or ended in an error that is not ours, says nothing either way: a probe
  that ends so makes room for the next;
- a call counts only for the state in which it was let through, so that stragglers from before the
  breaker opened neither close it nor prolong the pause.

Protects against requests that pile up behind a holder that is down, and the holder against them.
Does not protect against a holder that answers wrongly.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

from maas_gateway.clock import Clock
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import GatewayError, KeyHolderUnavailable
from maas_gateway.keyring.holder import Reference, RootKeyHolder

RETRY_S: Final = 5.0
"""After how many seconds it is worth asking again a holder that did not answer."""

_T = TypeVar("_T")


@asynccontextmanager
async def answered_within(deadline_s: float) -> AsyncIterator[None]:
    """Give up what stands within after `deadline_s` seconds.

    Raises:
        KeyHolderUnavailable: it took longer.
    """
    try:
        async with asyncio.timeout(deadline_s):
            yield
    except TimeoutError as cause:
        raise KeyHolderUnavailable("the root-key holder did not answer in time", retry_after_s=RETRY_S) from cause


@dataclass(frozen=True, slots=True)
class _Pass:
    """Leave for one call.

    Attributes:
        era: how often the breaker had opened or closed when it was given.
        is_probe: whether the call decides on an open breaker.
    """

    era: int
    is_probe: bool


class _Breaker:
    """Whether one root key is asked for; the limits are `GuardedHolder`'s."""

    def __init__(self, clock: Clock, *, deadline_s: float, n_failures: int, pause_s: float) -> None:
        self._clock = clock
        self._deadline_s = deadline_s
        self._n_failures = n_failures
        self._pause_s = pause_s
        self._n_unanswered = 0
        self._open_until_s: float | None = None
        self._is_probing = False
        self._era = 0

    def admit(self) -> _Pass:
        if self._open_until_s is None:
            return _Pass(self._era, is_probe=False)
        left_s = self._open_until_s - self._clock.monotonic_s()
        if left_s > 0 or self._is_probing:
            # A probe is under way at most for its deadline.
            retry_s = left_s if left_s > 0 else self._deadline_s
            raise KeyHolderUnavailable("the root-key holder did not answer lately", retry_after_s=retry_s)
        self._is_probing = True
        return _Pass(self._era, is_probe=True)

    def count_answered(self, leave: _Pass) -> None:
        if leave.era != self._era:
            return
        self._n_unanswered = 0
        if self._open_until_s is not None:
            self._open_until_s = None
            self._era += 1

    def count_unanswered(self, leave: _Pass) -> None:
        if leave.era != self._era:
            return
        self._n_unanswered += 1
        if leave.is_probe or self._n_unanswered >= self._n_failures:
            self._open_until_s = self._clock.monotonic_s() + self._pause_s
            self._era += 1

    def end(self, leave: _Pass) -> None:
        """Make room for the next probe, however this one ended."""
        if leave.is_probe:
            self._is_probing = False


class GuardedHolder:
    """A holder behind a deadline and circuit breakers.

    Args:
        holder: the one that is guarded.
        clock: what the pause is measured by.
        deadline_s: how long a call may take, > 0.
        n_failures: how many calls in a row may go unanswered, >= 1.
        pause_s: how long calls are then refused before the next is tried.
    """

    def __init__(
        self,
        holder: RootKeyHolder,
        clock: Clock,
        *,
        deadline_s: float,
        n_failures: int = 3,
        pause_s: float = 5.0,
    ) -> None:
        self._holder = holder
        self._deadline_s = deadline_s
        self._breakers: defaultdict[frozenset[tuple[str, str]], _Breaker] = defaultdict(
            lambda: _Breaker(clock, deadline_s=deadline_s, n_failures=n_failures, pause_s=pause_s)
        )

    @property
    def kind(self) -> str:
        """The kind of the guarded holder."""
        return self._holder.kind

    async def create(self, name: str) -> Reference:
        """Have the holder make a root key.

        Raises:
            KeyHolderUnavailable: it does not answer, or did not lately.
        """
        return await self._guard({}, lambda: self._holder.create(name))

    async def wrap(self, reference: Reference, key: KeyMaterial, associated_data: bytes) -> bytes:
        """Have the holder wrap.

        Raises:
            KeyHolderUnavailable: it does not answer, or did not lately.
        """
        return await self._guard(reference, lambda: self._holder.wrap(reference, key, associated_data))

    async def unwrap(self, reference: Reference, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        """Have the holder unwrap.

        Raises:
            CiphertextRejected: what it says of `wrapped`.
            KeyHolderUnavailable: it does not answer, or did not lately.
        """
        return await self._guard(reference, lambda: self._holder.unwrap(reference, wrapped, associated_data))

    async def destroy(self, reference: Reference) -> None:
        """Have the holder destroy a root key.

        Raises:
            KeyHolderUnavailable: it does not answer, or did not lately.
        """
        await self._guard(reference, lambda: self._holder.destroy(reference))

    async def close(self) -> None:
        """Close the holder, whether it answers or not."""
        with contextlib.suppress(KeyHolderUnavailable):
            async with answered_within(self._deadline_s):
                await self._holder.close()

    async def _guard(self, reference: Reference, call: Callable[[], Awaitable[_T]]) -> _T:
        breaker = self._breakers[frozenset(reference.items())]
        leave = breaker.admit()
        try:
            async with answered_within(self._deadline_s):
                answer = await call()
        except KeyHolderUnavailable:
            breaker.count_unanswered(leave)
            raise
        except GatewayError:
            breaker.count_answered(leave)
            raise
        finally:
            breaker.end(leave)
        breaker.count_answered(leave)
        return answer
