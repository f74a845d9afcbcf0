"""A clock that runs with the machine's and can be moved ahead; libraries that ask the machine itself agree with it."""

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
