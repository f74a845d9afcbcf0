"""Buckets that fill evenly, and places: taken all together or not at all. The contract of their two forms.

A bucket holds `amount`, fills in `window_s` and starts full. It is kept as the moment at which it would be full again
(the generic cell rate algorithm): one number, right at any time without anything that ticks. Where more is asked for
than a bucket holds, it must be full, and is then in debt for as long as that takes to come back; the caller refuses
what is more than the whole limit.

Source: ITU-T I.371 (2004) annex A, the virtual scheduling form of the generic cell rate algorithm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from maas_gateway.quotas.limits import Cost, Limit

PLACE_WAIT_S: Final = 0.1
"""How soon whoever found no place may ask again: when one is given back cannot be told."""
ROUNDING_S: Final = 1e-6
"""What floating point may lose: two costs that add up to a bucket fit into it."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """Why nothing was taken.

    Attributes:
        limit: the bucket that held too little; of several, the one that takes longest.
        wait_s: in how many seconds it will hold enough, as far as that can be told.
        left: how much it holds now, whole units.
    """

    limit: Limit
    wait_s: float
    left: int


class Buckets(Protocol):
    """Where buckets are kept."""

    async def take(self, costs: Sequence[Cost], *, place: str) -> Shortage | None:
        """Take every cost, or none.

        Args:
            costs: what is asked for.
            place: what a place that is taken is held by; given back by the same name.

        Returns:
            None if all of it was taken.
        """
        ...

    async def give_back(self, costs: Sequence[Cost], *, place: str) -> None:
        """Put back what was taken and not used; a place by the name that it was taken with."""
        ...
