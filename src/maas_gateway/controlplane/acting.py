"""What every act needs: the database, the record, the clock, and whom to tell afterwards."""

from collections.abc import Callable
from dataclasses import dataclass

from maas_gateway.audit.event import AuditEvent, actor_of
from maas_gateway.audit.log import AuditLog
from maas_gateway.clock import Clock
from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import TenantSession
from maas_gateway.principal import Principal


@dataclass(frozen=True, slots=True)
class Acting:
    """The collaborators of an act.

    Attributes:
        database: the main database.
        audit: where acts are recorded.
        clock: what time it is.
        announce: tells this process that a topic has changed.
    """

    database: Database
    audit: AuditLog
    clock: Clock
    announce: Callable[[str], None]

    async def record(
        self, session: TenantSession, principal: Principal, kind: str, thing: str, **detail: str | int | bool | None
    ) -> None:
        """Record an act that was done, in its own transaction."""
        await self.audit.record(session, AuditEvent(kind, actor_of(principal), thing, detail=detail))
