"""A clock that runs with the machine's and can be moved ahead; libraries that ask the machine itself agree with it.

And one that stands still unless it is moved, for what a slow machine must not change.
"""

from datetime import datetime, timedelta

from maas_gateway.clock import SystemClock


class ShiftedClock(SystemClock):
    """The machine's clock, `ahead_s` seconds ahead."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self.ahead_s)

    def unix_s(self) -> float:
        return super().unix_s() + self.ahead_s

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


class StoppedClock(ShiftedClock):
    """A clock that began when it was made, and has gone on by `ahead_s` seconds since."""

    def __init__(self) -> None:
        super().__init__()
        self._began = (super().now(), super().unix_s(), super().monotonic_s())

    def now(self) -> datetime:
        return self._began[0] + timedelta(seconds=self.ahead_s)

    def unix_s(self) -> float:
        return self._began[1] + self.ahead_s

    def monotonic_s(self) -> float:
        return self._began[2] + self.ahead_s
