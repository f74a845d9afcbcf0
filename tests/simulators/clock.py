"""A clock that stands still until it is moved."""

from datetime import UTC, datetime, timedelta


class ManualClock:
    """The `Clock` protocol with time in the test's hands."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.monotonic = 1_000.0

    def now(self) -> datetime:
        return self.at

    def unix_s(self) -> float:
        return self.at.timestamp()

    def monotonic_s(self) -> float:
        return self.monotonic

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.monotonic += seconds
