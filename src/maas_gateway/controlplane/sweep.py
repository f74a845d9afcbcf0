"""Clearing up: blobs and wrapped keys that crashes left and no version has, refresh tokens that have
expired, failed sign-ins of long ago, answers that were kept for a day, workers that died.

Rules: only what is older than any upload can last is litter; the keys go first, so that litter is
unreadable before it is gone.
"""

from typing import Final

import structlog

from maas_gateway.auth import store as auth
from maas_gateway.auth.throttle import forget_old
from maas_gateway.controlplane.acting import Acting
from maas_gateway.database.unscoped import read_all
from maas_gateway.idempotency import store as idempotency
from maas_gateway.idempotency.request import LIFE
from maas_gateway.registry import store
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.workers import store as workers

AGE_S: Final = 6 * 3_600.0


async def sweep(acting: Acting, artifacts: Artifacts) -> None:
    """Delete litter, whichever tenant's it was."""
    async with read_all(acting.database) as session:
        known = await store.known_artifacts(session)
    n_blobs = await artifacts.clear_litter(known, age_s=AGE_S, now=acting.clock.now())
    await auth.drop_expired(acting.database, acting.clock.now())
    await forget_old(acting.database, acting.clock)
    await workers.clear(acting.database, acting.clock.now())
    await idempotency.drop_old(acting.database, acting.clock.now() - LIFE)
    if n_blobs:
        structlog.get_logger().info("litter_cleared", blobs=n_blobs)
