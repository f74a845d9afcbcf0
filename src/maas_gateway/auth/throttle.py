"""Sign-ins that keep failing are made to wait, by the rules of `attempts`; so many are looked at at once.

Rules: an attempt is counted before its password is checked, so that a crowd of guesses cannot pass at once, and
taken off again if the password is right or could not be checked; those of one account from one address are
looked at one after the other, so that right ones at once do not count as wrong ones. One that comes too early
is refused before anything is hashed or written; it counts for nothing and makes no wait longer. Its answer is
held for a while, so that whoever tries again as soon as it is answered takes little time from predictions, and
not every time as long, so that a crowd does not come back as one. The counts stand in the database: they survive
a restart, and all processes share them.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from maas_gateway.auth import store
from maas_gateway.auth.attempts import (
    FORGET_AFTER,
    REMEMBER_FOR,
    Attempts,
    Keys,
    Limit,
    keys_of,
    longest_wait_s,
)
from maas_gateway.clock import Clock
from maas_gateway.database.engine import Database
from maas_gateway.errors import Overloaded, TooManyAttempts, Unavailable
from maas_gateway.identifiers import SubjectId, TenantId

HOLD_S: Final = 1.0
"""How long a refusal is held at least; twice that at most."""
MAX_HELD: Final = 1_000
"""Refusals held at once; one more is answered at once."""
_MAX_REFUSED: Final = 10_000
_TRANSACTIONS_AT_ONCE: Final = 2
"""So that a flood leaves the database's connections to others."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt that is being looked at, and counted.

    Attributes:
        keys: what it is counted under.
        is_known: whether the account has signed in from that address before.
    """

    keys: Keys
    is_known: bool

    @property
    def limits(self) -> Mapping[str, Limit]:
        """The keys that it is counted under, and how much that allows."""
        return self.keys.limits(is_known=self.is_known)


class SignInThrottle:
    """Every account's and every address's failed sign-ins.

    Args:
        database: the main database.
        clock: what time it is.
        max_at_once: attempts that may be looked at, or wait for that, at once in this process.
        pause: how a refusal is held.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        max_at_once: int,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._pause = pause
        self._n_held = 0
        self._database = database
        self._clock = clock
        self._max_at_once = max_at_once
        self._n_at_once = 0
        self._transactions = asyncio.Semaphore(_TRANSACTIONS_AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._refused_until_s: dict[str, float] = {}

    @asynccontextmanager
    async def attempt(self, account: str, address: str) -> AsyncIterator[Attempt]:
        """Let one attempt be looked at; it has failed unless `succeeded` says otherwise.

        Args:
            account: what kind it is and its name, also one that nobody has.
            address: the client's; "" where there is none.

        Raises:
            TooManyAttempts: it comes too early after those that failed.
            Overloaded: too many are being looked at.
        """
        try:
            async with self._turn(keys_of(account, address)) as attempt:
                yield attempt
        except (TooManyAttempts, Overloaded):
            await self._hold()
            raise

    async def failed(self, account: str, address: str) -> None:
        """Count an attempt of which it is known that it has failed.

        Raises:
            TooManyAttempts: it comes too early after others that failed.
            Overloaded: too many are being looked at.
        """
        async with self.attempt(account, address):
            pass

    async def succeeded(self, attempt: Attempt, tenant: TenantId, subject: SubjectId) -> None:
        """Forget what failed before of this account at this address, and remember the address."""
        keys, now = attempt.keys, self._clock.now()
        cleared = (keys.pair, keys.account)  # where it was counted there
        address = store.Address(tenant, subject, keys.pair, now)
        async with self._transactions:
            await store.uncount_attempt(self._database, attempt.limits, cleared=cleared, remembered=address)
        if not attempt.is_known:
            self._refused_until_s.clear()  # others may have waited for this account's count

    @asynccontextmanager
    async def _turn(self, keys: Keys) -> AsyncIterator[Attempt]:
        self._refuse_early(keys)
        if self._n_at_once >= self._max_at_once:
            raise Overloaded("too many sign-ins at once", retry_after_s=1)
        self._n_at_once += 1
        try:
            async with self._turns.setdefault(keys.pair, asyncio.Lock()):
                attempt = await self._admit(keys)
                try:
                    yield attempt
                except Unavailable:  # nobody has looked at it
                    async with self._transactions:
                        await store.uncount_attempt(self._database, attempt.limits)
                    raise
        finally:
            self._n_at_once -= 1

    async def _admit(self, keys: Keys) -> Attempt:
        self._refuse_early(keys)  # others of its kind may have failed while it waited for its turn
        async with self._transactions:
            found, is_known = await store.attempts(self._database, keys)
            attempt, now = Attempt(keys, is_known), self._clock.now()
            wait_s = longest_wait_s(attempt.limits, found, now)
            if not wait_s:
                decide = partial(_wait_s, attempt, self._clock)
                wait_s = await store.count_attempt(self._database, list(attempt.limits), now, decide)
        if wait_s:
            self._remember_refusal(keys, wait_s)
            raise _too_many(wait_s)
        return attempt

    async def _hold(self) -> None:
        if self._n_held >= MAX_HELD:
            return
        self._n_held += 1
        try:
            await self._pause(HOLD_S * (1 + secrets.randbelow(1_000) / 1_000))
        finally:
            self._n_held -= 1

    def _refuse_early(self, keys: Keys) -> None:
        """Refuse, without asking the database, what it has refused for longer than until now."""
        left_s = self._refused_until_s.get(keys.pair, 0.0) - self._clock.monotonic_s()
        if left_s > 0:
            raise _too_many(left_s)

    def _remember_refusal(self, keys: Keys, wait_s: float) -> None:
        if len(self._refused_until_s) >= _MAX_REFUSED:
            self._refused_until_s.pop(next(iter(self._refused_until_s)))
        self._refused_until_s[keys.pair] = self._clock.monotonic_s() + wait_s


async def forget_old(database: Database, clock: Clock) -> None:
    """Forget counts that nothing was added to for an hour, and addresses not signed in from for long."""
    now = clock.now()
    await store.drop_old_attempts(database, counted_before=now - FORGET_AFTER, seen_before=now - REMEMBER_FOR)


def _wait_s(attempt: Attempt, clock: Clock, found: Mapping[str, Attempts]) -> float:
    return longest_wait_s(attempt.limits, found, clock.now())


def _too_many(wait_s: float) -> TooManyAttempts:
    return TooManyAttempts("too many failed sign-ins; wait before the next", retry_after_s=wait_s)
