"""Passwords: argon2id, off the event loop, a bounded number at a time.

Rules: an unknown user costs what a known one costs (a hash of nothing in particular is checked);
a password is 12 to 1,024 bytes of UTF-8 and is never shortened; a hash made with weaker parameters
is replaced at the next sign-in. So many hashes run at once, so many more wait, and one more is refused.

Source: OWASP Password Storage Cheat Sheet (argon2id, m = 19 MiB, t = 2, p = 1); RFC 9106 section 4.
"""

import secrets
from collections.abc import Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread
from passlib.context import CryptContext

from maas_gateway.errors import InvalidRequest, Overloaded

MIN_BYTES: Final = 12
MAX_BYTES: Final = 1_024
WAITING_FOR_EACH: Final = 32
"""How many may wait for each hash that runs; at 30 ms a hash, about a second."""

_T = TypeVar("_T")


class Passwords:
    """Hashes and checks.

    Args:
        memory_kib: argon2id's memory cost.
        passes: its time cost.
        n_parallel: how many hashes run at once; `WAITING_FOR_EACH` times as many may wait.
    """

    def __init__(self, *, memory_kib: int, passes: int, n_parallel: int) -> None:
        self._context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__memory_cost=memory_kib,
            argon2__time_cost=passes,
            argon2__parallelism=1,
        )
        self._limiter = anyio.CapacityLimiter(n_parallel)
        self._max_waiting = WAITING_FOR_EACH * n_parallel
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """Return the hash of a new password, in PHC string form.

        Raises:
            InvalidRequest: it is too short or too long.
            Overloaded: too many wait.
        """
        if not MIN_BYTES <= len(password.encode()) <= MAX_BYTES:
            raise InvalidRequest(f"password: {MIN_BYTES} to {MAX_BYTES} bytes")
        return await self._run(self._context.hash, password)

    async def check(self, password: str, known_hash: str | None) -> tuple[bool, str | None]:
        """Check a password; None as the hash costs the same time and is never right.

        Returns:
            Whether it is right, and a stronger hash to store in place of the known one, if due.

        Raises:
            Overloaded: too many wait.
        """
        if self._nobodys is None:
            self._nobodys = await self._run(self._context.hash, secrets.token_urlsafe())
        given = password.encode(errors="replace")
        given = given if len(given) <= MAX_BYTES else b""
        is_right, stronger = await self._run(self._context.verify_and_update, given, known_hash or self._nobodys)
        if known_hash is None or not is_right:
            return False, None
        return True, stronger

    async def _run(self, call: Callable[..., _T], *arguments: str | bytes | None) -> _T:
        if self._limiter.statistics().tasks_waiting >= self._max_waiting:
            raise Overloaded("too many sign-ins at once", retry_after_s=1)
        return await anyio.to_thread.run_sync(call, *arguments, limiter=self._limiter)
