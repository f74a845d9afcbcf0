"""Pages of long lists: where one begins, and where the next does.

Rules: a list has an order that no change of a row moves it in, and a position in it is the last row's values of
the columns that order it; so whoever walks the pages sees each row once, whatever is added or goes meanwhile.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final, Generic, TypeAlias, TypeVar

MAX_ITEMS: Final = 1_000

T = TypeVar("T")

Position: TypeAlias = tuple[str | uuid.UUID | date, ...]
"""What the columns that order a list say of the last row seen."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which part of a list is wanted.

    Attributes:
        limit: how many items at most.
        after: behind which position; empty for the beginning.
    """

    limit: int = MAX_ITEMS
    after: Position = ()


FIRST: Final = Asked()
"""The beginning, as much as one page may hold."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list.

    Attributes:
        items: in the list's order.
        following: behind which position the next part begins; None if there is none.
    """

    items: tuple[T, ...]
    following: Position | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)
