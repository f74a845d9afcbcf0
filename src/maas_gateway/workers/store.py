"""Worker processes in the database.

Rules: a worker says what it has followed to the end: models unloaded, keys dropped; it has a lease,
which it renews only while it has nothing left to follow; one without a lease serves nothing, because
a process that cannot reach the database cannot know who may still ask.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime

from maas_gateway.database.engine import Database
from maas_gateway.database.unscoped import read_all, write_all
from maas_gateway.workers.tables import WORKERS


@dataclass(frozen=True, slots=True)
class Followed:
    """How far a process has followed.

    Attributes:
        registry: the change counter of models.
        keyring: the change counter of keys.
    """

    registry: int
    keyring: int


async def renew(database: Database, worker: uuid.UUID, followed: Followed, leased_until: datetime) -> None:
    """Write how far a worker is and until when it may serve."""
    values = {"registry": followed.registry, "keyring": followed.keyring, "leased_until": leased_until}
    async with write_all(database) as session:
        if not await session.update(WORKERS, WORKERS.c.id == worker, **values):
            await session.insert_unless_there(WORKERS, id=worker, **values)


async def drop(database: Database, worker: uuid.UUID) -> None:
    """Forget a worker that has stopped."""
    async with write_all(database) as session:
        await session.delete(WORKERS, WORKERS.c.id == worker)


async def behind(database: Database, followed: Followed, now: datetime) -> tuple[int, int]:
    """Return how many workers with a lease have not followed so far, and how many have."""
    is_alive = WORKERS.c.leased_until > now
    is_there = (WORKERS.c.registry >= followed.registry, WORKERS.c.keyring >= followed.keyring)
    async with read_all(database) as session:
        n_alive = await session.count(WORKERS, is_alive)
        n_there = await session.count(WORKERS, is_alive, *is_there)
    return n_alive - n_there, n_there


async def clear(database: Database, before: datetime) -> None:
    """Delete workers whose lease ended before that time."""
    async with write_all(database) as session:
        await session.delete(WORKERS, WORKERS.c.leased_until < before)
