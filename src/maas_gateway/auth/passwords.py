"""Passwords: argon2id, off the event loop, a bounded number at a time.

Rules: an unknown user costs what a known one costs (a hash of nothing in particular is checked);
a password is 12 to 1,024 bytes of UTF-8 and is never shortened; however its letters were composed when it was
typed (a keyboard may send an accent apart from its letter), it is the same password; a hash made with weaker
parameters is replaced at the next sign-in. So many hashes run at once, so many more wait, and one more is
refused. The threads that hash give way to all others of this machine, where its scheduler knows priorities of
threads, so that a flood of sign-ins takes the time that predictions leave.

Source: OWASP Password Storage Cheat Sheet (argon2id, m = 19 MiB, t = 2, p = 1); RFC 9106 section 4; RFC 8265
section 4.2.2 (spaces, form C). Deviation: control characters are taken as they are, because passwords that hold
one were taken before.
"""

import asyncio
import os
import secrets
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from passlib.context import CryptContext

from maas_gateway.errors import InvalidRequest, Overloaded

MIN_BYTES: Final = 12
MAX_BYTES: Final = 1_024
WAITING_FOR_EACH: Final = 32
"""How many may wait for each hash that runs; at 30 ms a hash, about a second."""
NICENESS: Final = 10
"""What the threads that hash add to the process's own; on Linux, a thread at 10 gets a tenth of one at 0."""

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
        self._pool = ThreadPoolExecutor(n_parallel, thread_name_prefix="passwords", initializer=_give_way)
        self._n_asked = 0
        self._nobodys: str | None = None
        self.max_at_once = (1 + WAITING_FOR_EACH) * n_parallel

    def close(self) -> None:
        """Hash no more; does not wait for a thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def hash(self, password: str) -> str:
        """Return the hash of a new password, in PHC string form.

        Raises:
            InvalidRequest: it is too short or too long.
            Overloaded: too many wait.
        """
        given = _prepared(password)
        if given is None or len(given) < MIN_BYTES:
            raise InvalidRequest(f"password: {MIN_BYTES} to {MAX_BYTES} bytes")
        return await self._run(self._context.hash, given)

    async def check(self, password: str, known_hash: str | None) -> tuple[bool, str | None]:
        """Check a password; None as the hash costs the same time and is never right.

        Returns:
            Whether it is right, and a stronger hash to store in place of the known one, if due.

        Raises:
            Overloaded: too many wait.
        """
        if self._nobodys is None:
            self._nobodys = await self._run(self._context.hash, secrets.token_urlsafe())
        given = _prepared(password) or b""
        is_right, stronger = await self._run(self._context.verify_and_update, given, known_hash or self._nobodys)
        if known_hash is None or not is_right:
            return False, None
        return True, stronger

    async def _run(self, call: Callable[..., _T], *arguments: str | bytes | None) -> _T:
        if self._n_asked >= self.max_at_once:
            raise Overloaded("too many sign-ins at once", retry_after_s=1)
        self._n_asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)
        finally:
            self._n_asked -= 1


def _prepared(password: str) -> bytes | None:
    """Return the bytes that are hashed, one spelling of what may be typed in several; None of what is too long.

    What is too long is not composed, because that takes time by the square of how many accents follow each other.
    """
    if len(password) > MAX_BYTES:
        return None
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in password)
    given = unicodedata.normalize("NFC", spaced).encode(errors="surrogatepass")  # half a pair is a letter like others
    return given if len(given) <= MAX_BYTES else None


def _give_way() -> None:
    """Have this thread give way to others; elsewhere than on Linux a priority is a whole process's."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)
