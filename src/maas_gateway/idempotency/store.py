"""Requests with a key, in the database."""

import uuid
from datetime import datetime

from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import TenantSession
from maas_gateway.database.unscoped import write_all
from maas_gateway.idempotency.request import Kept
from maas_gateway.idempotency.tables import IDEMPOTENT_REQUESTS as REQUESTS


async def begin(session: TenantSession, digest: str, fingerprint: str, now: datetime, *, dead_before: datetime) -> Kept:
    """Write a request down, unless one with that key is there and not of before then; return what is there."""
    attempt = uuid.uuid4()
    mine = {"attempt": attempt, "fingerprint": fingerprint, "began_at": now, "answer": None}
    row = await session.insert_or_lock(REQUESTS, digest=digest, **mine)
    if row["attempt"] != attempt and row["began_at"] < dead_before:
        await session.update(REQUESTS, REQUESTS.c.digest == digest, **mine)
        return Kept(True, fingerprint, now, None)
    return Kept(row["attempt"] == attempt, row["fingerprint"], row["began_at"], row["answer"])


async def keep(session: TenantSession, digest: str, answer: str) -> None:
    """Write the answer down, sealed."""
    await session.update(REQUESTS, REQUESTS.c.digest == digest, answer=answer)


async def forget(session: TenantSession, digest: str) -> None:
    """Have it be as if the request had never come."""
    await session.delete(REQUESTS, REQUESTS.c.digest == digest)


async def drop_every(session: TenantSession) -> None:
    """Delete all of the tenant's."""
    await session.delete(REQUESTS)


async def drop_old(database: Database, dead_before: datetime) -> None:
    """Delete what came before then, whichever tenant's."""
    async with write_all(database) as session:
        await session.delete(REQUESTS, REQUESTS.c.began_at < dead_before)
