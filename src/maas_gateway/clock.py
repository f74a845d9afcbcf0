"""Time, asked of one place so that tests can set it, and deadlines handed down."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from maas_gateway.errors import DeadlineExceeded


class Clock(Protocol):
    """Where time comes from."""

    def now(self) -> datetime:
        """Return the time of day, aware, in UTC."""
        ...

    def unix_s(self) -> float:
        """Return the time of day in seconds since the epoch."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the time of day, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251  the one place that asks the machine

    def unix_s(self) -> float:
        """Return the time of day in seconds since the epoch."""
        return time.time()  # noqa: TID251  the one place that asks the machine

    def monotonic_s(self) -> float:
        """Return seconds on a clock that never goes back."""
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock after which an answer is of no use.

    Attributes:
        at_s: that moment, in seconds of the event loop's clock (`time.monotonic`).
    """

    at_s: float

    @classmethod
    def after(cls, seconds: float) -> "Deadline":
        """Return the deadline `seconds` from now."""
        return cls(time.monotonic() + seconds)

    def sooner(self, seconds: float) -> "Deadline":
        """Return the earlier of this deadline and the one `seconds` from now."""
        return min(self, Deadline.after(seconds), key=lambda deadline: deadline.at_s)

    def left_s(self) -> float:
        """Return the seconds left, negative once it has passed."""
        return self.at_s - time.monotonic()

    def check(self) -> None:
        """Refuse to go on once it has passed.

        Raises:
            DeadlineExceeded: it has.
        """
        if self.left_s() <= 0:
            raise DeadlineExceeded("the deadline of the request has passed")
