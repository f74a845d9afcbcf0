"""One timer for many deadlines.

Rules:

* a timer stands at the earliest deadline seen; a later one costs a comparison;
* when it fires, the owner goes over all that wait and tells the next deadline;
* deadlines mostly come in order, so a timer fires about once in a request's time limit, also when
  all requests it was set for are long answered.

Measured: 0.1 µs a request against 1.2 µs for its own `call_at` and `cancel`, which in a
batcher with 32 clients was 3 µs (uvloop) to 5 µs (asyncio) of the loop's time a request.
"""

import asyncio
from collections.abc import Callable

from maas_gateway.clock import Deadline

TIMER_STEP_S = 0.001
"""A timer may fire this much early: uvloop's clock has whole milliseconds."""


def is_due(deadline: Deadline) -> bool:
    """Tell whether a deadline has passed, as far as a timer can tell."""
    return deadline.left_s() <= TIMER_STEP_S


class DeadlineTimer:
    """Calls its owner when the earliest of many deadlines has passed."""

    def __init__(self, sweep: Callable[[], Deadline | None]) -> None:
        """Set no timer yet.

        Args:
            sweep: called on the event loop; fails whatever `is_due` and returns the earliest
                deadline that is left, if there is one.
        """
        self._sweep = sweep
        self._at_s = float("inf")
        self._handle: asyncio.TimerHandle | None = None

    def watch(self, deadline: Deadline) -> None:
        """See that the owner is called once this deadline has passed."""
        if deadline.at_s < self._at_s:
            self._set(deadline)

    def cancel(self) -> None:
        """Call no more, until something is watched again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._at_s = float("inf")

    def _set(self, deadline: Deadline) -> None:
        self.cancel()
        self._at_s = deadline.at_s
        loop = asyncio.get_running_loop()
        self._handle = loop.call_later(max(0.0, deadline.left_s()), self._fire)

    def _fire(self) -> None:
        self.cancel()
        following = self._sweep()
        if following is not None:
            self.watch(following)
