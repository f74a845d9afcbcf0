"""What a batcher has done since it was made: how often, how many rows, how long.

Rules: written on the event loop only; sums, never samples, so that two readings give what happened between them;
batches of more than 64 rows are counted under the next power of two, so that callers cannot fill the memory with
sizes. What it costs: a few additions a batch, one number a request.

Source: NVIDIA Triton, "Statistics Extension", for what is counted.
"""

from dataclasses import dataclass, field
from typing import Final

_EXACT_ROWS: Final = 64


@dataclass(slots=True)
class Tally:
    """How often something happened, and how long it took in all.

    Attributes:
        n: times.
        s: seconds.
    """

    n: int = 0
    s: float = 0.0

    def add(self, n: int, seconds: float) -> None:
        """Count `n` times that took so long together."""
        self.n += n
        self.s += seconds


@dataclass(slots=True)
class Statistics:
    """Counts of one batcher.

    Attributes:
        n_requests: requests in batches that have run.
        n_rows: their rows.
        n_overloaded: requests refused because the queue was full.
        n_expired: requests whose deadline passed, in line or in the running batch.
        rows_answered: rows of requests that were answered.
        answered: requests that were answered, from when they came.
        failed: requests in batches that were not.
        waited: the same requests, until their batch began.
        ran: the same requests, while their batch was computed.
        computed: batches, from the hand-over to the executor until the event loop has the answers.
        by_rows: the same by the batch's rows.
        last_at_s: when the last batch ended, on the batcher's monotonic clock; None before the first.
    """

    n_requests: int = 0
    n_rows: int = 0
    n_overloaded: int = 0
    n_expired: int = 0
    rows_answered: int = 0
    answered: Tally = field(default_factory=Tally)
    failed: Tally = field(default_factory=Tally)
    waited: Tally = field(default_factory=Tally)
    ran: Tally = field(default_factory=Tally)
    computed: Tally = field(default_factory=Tally)
    by_rows: dict[int, Tally] = field(default_factory=dict)
    last_at_s: float | None = None

    @property
    def n_batches(self) -> int:
        """How many batches have run."""
        return self.computed.n

    def count_batch(self, n_rows: int, took_s: float) -> None:
        """Count a batch that has run."""
        self.n_rows += n_rows
        self.computed.add(1, took_s)
        size = n_rows if n_rows <= _EXACT_ROWS else 1 << (n_rows - 1).bit_length()
        tally = self.by_rows.get(size)
        if tally is None:
            tally = self.by_rows[size] = Tally()
        tally.add(1, took_s)
