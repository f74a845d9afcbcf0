"""Keeps one tenant's flood from filling the event loop: while several tenants ask, each has only so many requests inside.

What a request costs this process is mostly reading and writing it, which happens on one thread in the order of
arrival; a fair order on the engines alone would come too late. So while more than one tenant has had a request inside
lately, a tenant's further ones wait outside, their bodies unread, until one of its own has left. A tenant alone never
waits. Costs two looks into a dictionary.

Rules: a tenant's requests enter in their order; one whose deadline passes outside, or whose caller goes, leaves its
place to the next; only so many may wait.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from maas_gateway.clock import Deadline
from maas_gateway.errors import DeadlineExceeded, Overloaded
from maas_gateway.identifiers import TenantId

INSIDE: Final = 4
"""Requests of a tenant of weight 1 that are inside while others ask too."""
LATELY_S: Final = 0.25


class Turnstile:
    """Counts who is inside; lives on one event loop.

    Args:
        weight_of: how many times `INSIDE` a tenant may have, at least 1.
        max_waiting: requests of one tenant that may wait.
    """

    def __init__(self, weight_of: Callable[[TenantId], int], *, max_waiting: int) -> None:
        self._weight_of = weight_of
        self._max_waiting = max_waiting
        self._inside: dict[TenantId, int] = {}
        self._waiting: dict[TenantId, deque[asyncio.Future[None]]] = {}
        self._shared_until_s = 0.0

    async def enter(self, tenant: TenantId, deadline: Deadline) -> None:
        """Let a request in, now or when it is its turn; whoever is let in leaves again.

        Raises:
            DeadlineExceeded: time ran out outside.
            Overloaded: too many of this tenant's requests wait.
        """
        n_inside = self._inside.get(tenant, 0)
        if len(self._inside) > (n_inside > 0):
            self._shared_until_s = time.monotonic() + LATELY_S
        if n_inside >= INSIDE and not self._may_enter(tenant, n_inside):
            await self._wait(tenant, deadline)
        else:
            self._inside[tenant] = n_inside + 1

    def leave(self, tenant: TenantId) -> None:
        """Have a request gone, and let in those of its tenant that may come now."""
        n_inside = self._inside[tenant] - 1
        line = self._waiting.get(tenant)
        while line and self._may_enter(tenant, n_inside):
            turn = line.popleft()
            if not turn.done():
                turn.set_result(None)
                n_inside += 1
        if line is not None and not line:
            del self._waiting[tenant]
        if n_inside:
            self._inside[tenant] = n_inside
        else:
            del self._inside[tenant]

    def _may_enter(self, tenant: TenantId, n_inside: int) -> bool:
        if n_inside < INSIDE * self._weight_of(tenant):
            return True
        return len(self._inside) <= 1 and time.monotonic() > self._shared_until_s

    async def _wait(self, tenant: TenantId, deadline: Deadline) -> None:
        line = self._waiting.setdefault(tenant, deque())
        if len(line) >= self._max_waiting:
            raise Overloaded("too many of your tenant's requests wait", retry_after_s=1)
        turn = asyncio.get_running_loop().create_future()
        line.append(turn)
        try:
            async with asyncio.timeout(max(0.0, deadline.left_s())):
                await turn
        except (TimeoutError, asyncio.CancelledError) as cause:
            if turn.done() and not turn.cancelled():
                self.leave(tenant)  # it had just been let in
            if isinstance(cause, TimeoutError):
                raise DeadlineExceeded("the request's deadline passed while others of your tenant ran") from None
            raise
