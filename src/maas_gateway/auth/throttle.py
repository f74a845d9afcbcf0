"""Sign-ins that keep failing are made to wait, by the rules of `attempts`; so many are looked at at once.

Rules:
- an attempt is counted before its password is checked, so that a crowd of guesses cannot pass at once, and taken off
  again if the password is right or could not be checked; those of one account from one address are looked at one after
  the other, so that right ones at once do not count as wrong ones;
- one that comes too early is refused before anything is hashed or written; it counts for nothing and makes no wait
  longer. Its answer is held for a while, so that whoever tries again as soon as it is answered takes little time from
  predictions, and not every time as long, so that a crowd does not come back as one;
- where an account has signed in from before, its password is checked although anybody else's would be refused, because
  of others' failures or because others take all their places: some are kept for it. If it is wrong, the answer is what
  anybody else would have been given;
- what is counted stands in the database: it survives a restart, and all processes share it. Tickets are each process's.
"""

import asyncio
import hmac
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from maas_gateway.auth import store
from maas_gateway.auth.attempts import (
    ACCOUNT,
    FORGET_AFTER,
    OWN,
    PAIR,
    REMEMBER_FOR,
    Address,
    Attempts,
    Counted,
    Keys,
    Limit,
    keys_of,
)
from maas_gateway.clock import Clock
from maas_gateway.database.engine import Database
from maas_gateway.errors import GatewayError, Overloaded, TooManyAttempts, Unavailable
from maas_gateway.identifiers import SubjectId, TenantId

HOLD_S: Final = 1.0
"""How long a refusal is held at least, from when the attempt came; twice that at most."""
MAX_HELD: Final = 1_000
"""Refusals held at once; one more is answered at once."""
MAX_IN: Final = 1_000
"""Attempts of which it is being found out whether they are looked at, or that are; one more is refused."""
KEPT: Final = 3
"""One in so many places is kept for accounts where they have signed in before."""
_MAX_REFUSED: Final = 10_000
_TRANSACTIONS_AT_ONCE: Final = 2
"""So that a flood leaves the database's connections to others."""

Draw = Callable[[str], float]


@dataclass(slots=True)
class Attempt:
    """An attempt that is being looked at, and counted.

    Attributes:
        keys: what it is counted under.
        is_known: whether the account has signed in from that address before.
        counted: what was counted before it under each key that it is counted under, and what is with it.
        instead: what anybody else would have been told; told if it fails.
        has_succeeded: whether it was right.
    """

    keys: Keys
    is_known: bool
    counted: Counted
    instead: GatewayError | None = None
    has_succeeded: bool = False


class SignInThrottle:
    """Every account's and every address's failed sign-ins.

    Args:
        database: the main database.
        clock: what time it is.
        max_at_once: attempts that may be looked at at once in this process, and that may wait for each other's end.
        pause: how a refusal is held.
        draw: from a text to a ticket, a number from 0 to 1 that nobody outside can tell beforehand.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        max_at_once: int,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Draw | None = None,
    ) -> None:
        self._pause = pause
        self._draw = draw or _keyed(secrets.token_bytes(32))
        self._n_held = 0
        self._database = database
        self._clock = clock
        self._max_at_once = max_at_once
        self._max_strangers = max_at_once - max_at_once // KEPT
        self._n_in: Counter[str] = Counter()
        self._n_at_once = 0
        self._n_strangers = 0
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
            TooManyAttempts: it comes too early after those that failed; or it has failed, and anybody else's would have.
            Overloaded: too many are being looked at; or it has failed, and too many of others are.
        """
        came_at_s = self._clock.monotonic_s()
        try:
            async with self._turn(keys_of(account, address)) as attempt:
                yield attempt
        except (TooManyAttempts, Overloaded):
            await self._hold(came_at_s)
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
        attempt.has_succeeded = True
        keys, now = attempt.keys, self._clock.now()
        cleared = {keys.pair, keys.own} if attempt.is_known else {keys.pair, keys.own, keys.turn, keys.account}
        address = Address(tenant, subject, keys.pair, now)
        async with self._transactions:
            counted = _without_those_from_there(attempt)
            await store.uncount_attempt(self._database, counted, cleared=cleared, remembered=address)
        if not attempt.is_known:
            self._refused_until_s.clear()  # others may have waited for this account's count

    async def forget(self, tenant: TenantId, subject: SubjectId) -> None:
        """Begin the count of an account anew, because it was given a new secret."""
        found = await store.account(self._database, tenant, subject)
        if found is not None:
            account = keys_of(f"user {found.account.name}@{found.slug}", "").account
            await store.forget_attempts(self._database, account)
            self._refused_until_s.clear()

    @asynccontextmanager
    async def _turn(self, keys: Keys) -> AsyncIterator[Attempt]:
        self._refuse_early(keys)
        if self._n_in.total() >= MAX_IN or self._n_in[keys.pair] >= self._max_at_once:
            raise _overloaded()
        self._n_in[keys.pair] += 1
        try:
            async with self._turns.setdefault(keys.pair, asyncio.Lock()), self._admitted(keys) as attempt:
                try:
                    yield attempt
                except Unavailable:  # nobody has looked at it
                    async with self._transactions:
                        await store.uncount_attempt(self._database, attempt.counted)
                    raise
                if attempt.instead is not None and not attempt.has_succeeded:
                    raise attempt.instead
        finally:
            self._n_in[keys.pair] -= 1
            if not self._n_in[keys.pair]:
                del self._n_in[keys.pair]

    @asynccontextmanager
    async def _admitted(self, keys: Keys) -> AsyncIterator[Attempt]:
        """Count an attempt and give it a place, or refuse it."""
        self._refuse_early(keys)  # others of its kind may have failed while it waited for its turn
        async with self._transactions:
            found, is_known = await store.attempts(self._database, keys)
        refusal = self._refusal(keys, found)
        try:
            if refusal is not None and (not is_known or self._own_wait_s(keys, found)):
                raise refusal
            with self._place(is_known=is_known):
                yield await self._counted(keys, refusal, is_known=is_known)
        except TooManyAttempts as told:
            if not is_known:  # what they are told earlier would differ from what a stranger is told
                self._remember_refusal(keys, told.retry_after_s or 0.0)
            raise

    def _refusal(self, keys: Keys, found: Mapping[str, Attempts]) -> GatewayError | None:
        """Return what anybody is told whose account has not signed in from there, None where it is looked at."""
        wait_s = self._wait_s(keys, found)
        if wait_s:
            return _too_many(wait_s)
        is_full = self._n_strangers >= self._max_strangers or self._n_at_once >= self._max_at_once
        return _overloaded() if is_full else None

    @contextmanager
    def _place(self, *, is_known: bool) -> Iterator[None]:
        if self._n_at_once >= self._max_at_once:
            raise _overloaded()
        self._n_at_once += 1
        self._n_strangers += not is_known
        try:
            yield
        finally:
            self._n_at_once -= 1
            self._n_strangers -= not is_known

    async def _counted(self, keys: Keys, refusal: GatewayError | None, *, is_known: bool) -> Attempt:
        if refusal is None:
            try:
                return Attempt(keys, is_known, await self._count(keys.limits, partial(self._wait_s, keys)))
            except TooManyAttempts as told:  # others have failed since
                if not is_known:
                    raise
                refusal = told
        try:
            counted = await self._count({keys.own: OWN}, partial(self._own_wait_s, keys))
        except TooManyAttempts:
            raise refusal from None
        return Attempt(keys, is_known, counted, instead=refusal)

    async def _count(self, limits: Mapping[str, Limit], wait_s: Callable[[Mapping[str, Attempts]], float]) -> Counted:
        def following(found: Mapping[str, Attempts]) -> Mapping[str, Attempts]:
            now, left_s = self._clock.now(), wait_s(found)
            if left_s:
                raise _too_many(left_s)
            return {key: limit.after(found[key], now) for key, limit in limits.items()}

        async with self._transactions:
            return await store.count_attempt(self._database, limits, self._clock.now(), following)

    def _wait_s(self, keys: Keys, found: Mapping[str, Attempts]) -> float:
        now = self._clock.now()
        return keys.wait_s(found, now, drawn=self._draw(f"{keys.account} {keys.site} {ACCOUNT.period(now)}"))

    def _own_wait_s(self, keys: Keys, found: Mapping[str, Attempts]) -> float:
        """Return how long an account waits for its own failures where it has signed in before."""
        now = self._clock.now()
        own = {keys.pair: PAIR, keys.own: OWN}
        return max([0.0, *(limit.wait_s(found[key], now, 0.0) for key, limit in own.items() if key in found)])

    async def _hold(self, came_at_s: float) -> None:
        """Answer at a time that does not tell whether a password was checked."""
        if self._n_held >= MAX_HELD:
            return
        self._n_held += 1
        try:
            hold_s = HOLD_S * (1 + secrets.randbelow(1_000) / 1_000)
            await self._pause(max(0.0, came_at_s + hold_s - self._clock.monotonic_s()))
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


def _without_those_from_there(attempt: Attempt) -> Counted:
    """Return what was counted, what failed before from that address taken off the account's."""
    keys, counted = attempt.keys, dict(attempt.counted)
    if keys.account in counted:
        before, after = counted[keys.account]
        n_others = before.n_failed - counted[keys.pair][0].n_failed
        counted[keys.account] = (replace(before, n_failed=max(0, n_others)), after)
    return counted


def _keyed(secret: bytes) -> Draw:
    def draw(text: str) -> float:
        return int.from_bytes(hmac.digest(secret, text.encode(), "sha256")[:6]) / 2**48

    return draw


def _too_many(wait_s: float) -> TooManyAttempts:
    return TooManyAttempts("too many failed sign-ins; wait before the next", retry_after_s=wait_s)


def _overloaded() -> Overloaded:
    return Overloaded("too many sign-ins at once", retry_after_s=1)
