"""Pages of the management API's lists: `?limit=&cursor=`, and `next_cursor` in the answer.

Rules: a cursor is a position in a list of one kind, in base64url; it holds nothing secret and gives access to
nothing, since what is listed behind it is what its bearer may list; one that is malformed is refused by its name.
"""

import base64
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Final, TypeAlias
from uuid import UUID

from fastapi import Depends, Query
from pydantic import BaseModel, Field

from maas_gateway.database.paging import MAX_ITEMS, Asked, Page, Position
from maas_gateway.errors import InvalidRequest

USUAL: Final = 100
"""How many items a page holds if nothing is asked."""
_MAX_CURSOR: Final = 512
_BETWEEN: Final = "\n"
"""Stands in no name and no identifier."""

_Kind: TypeAlias = Callable[[str], str | UUID | date]

Limit = Annotated[int, Query(ge=1, le=MAX_ITEMS, description="How many at most.")]
Cursor = Annotated[
    str | None,
    Query(max_length=_MAX_CURSOR, description="The `next_cursor` of the page before; none means the first page."),
]


class ListAnswer(BaseModel):
    """What every list says besides its items."""

    next_cursor: str | None = Field(default=None, description="The cursor of the next page; none on the last.")


def next_cursor(page: Page[Any]) -> str | None:
    """Return the cursor of the page behind this one, if there is one."""
    if page.following is None:
        return None
    text = _BETWEEN.join(map(str, page.following))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _asked(*kinds: _Kind) -> Callable[[int, str | None], Asked]:
    """Return what reads the page asked for in a list that values of those kinds order."""

    def asked(limit: Limit = USUAL, cursor: Cursor = None) -> Asked:
        return Asked(limit, () if cursor is None else _position(cursor, kinds))

    return asked


def _position(cursor: str, kinds: tuple[_Kind, ...]) -> Position:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        parts = text.split(_BETWEEN)
        if not all(part.isprintable() for part in parts):
            raise ValueError("a control character")  # noqa: TRY301  one kind of failure for a malformed cursor
        return tuple(kind(part) for kind, part in zip(kinds, parts, strict=True))
    except ValueError as cause:  # no base64, no ASCII, no identifier, too many or too few
        raise InvalidRequest("cursor: it is none that this list gave") from cause


ByName: TypeAlias = Annotated[Asked, Depends(_asked(str))]
"""The page of a list that unique names order."""
ByNameAndId: TypeAlias = Annotated[Asked, Depends(_asked(str, str))]
"""The page of a list whose names need not be unique."""
BySubject: TypeAlias = Annotated[Asked, Depends(_asked(UUID, UUID))]
"""The page of a list of what subjects have."""
ById: TypeAlias = Annotated[Asked, Depends(_asked(UUID))]
"""The page of a list without names."""
ByDay: TypeAlias = Annotated[Asked, Depends(_asked(date.fromisoformat, UUID, str))]
"""The page of a list of what subjects used of models, day by day."""
