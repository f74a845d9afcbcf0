"""Where a runtime's calls run: away from the event loop.

Rules:

* a call is handed over on the event loop and its future is settled on the event loop;
* a call that has begun is not interrupted: giving its future up only means that nobody listens;
* whoever hands calls over sees that no two calls to one runtime run at once.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from maas_gateway.identifiers import PLATFORM, TenantId

T = TypeVar("T")


class Executor(Protocol):
    """Runs blocking calls somewhere else."""

    def submit(self, call: Callable[[], T], tenant: TenantId = PLATFORM) -> asyncio.Future[T]:
        """Hand a call over and return at once; to be called on the event loop.

        Args:
            call: may block; runs exactly once, on one thread, unless the executor is closed first.
            tenant: for whom; where calls wait, it decides which is next.

        Returns:
            A future of the running loop with what `call` returns or raises.

        Raises:
            ModelNotReady: the executor is closed.
        """
        ...

    async def run(self, call: Callable[[], T]) -> T:
        """Hand a call over and wait for what it returns or raises.

        Raises:
            ModelNotReady: the executor is closed, or was before the call began.
        """
        ...

    def close(self) -> None:
        """Take no more calls and fail the ones not settled; does not wait."""
        ...
