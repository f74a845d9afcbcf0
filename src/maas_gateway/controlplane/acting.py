"""What every act needs: the database, the record, the clock, and whom to tell afterwards."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from maas_gateway.audit.event import AuditEvent, actor_of
from maas_gateway.audit.log import AuditLog
from maas_gateway.clock import Clock
from maas_gateway.database.engine import Database
from maas_gateway.database.sessions import TenantSession
from maas_gateway.errors import NotFound
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize_thing
from maas_gateway.principal import Principal

T = TypeVar("T")


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

    async def one(
        self,
        principal: Principal,
        reading: Permission,
        find: Callable[[TenantSession], Awaitable[T | None]],
        absent: NotFound,
    ) -> T:
        """Return a named thing of the caller's own tenant.

        Args:
            principal: who asks.
            reading: the permission to read things of that kind.
            find: looks for it.
            absent: what is raised where it is not there, or is not the caller's to know.

        Raises:
            NotFound: `absent`.
        """
        authorize_thing(principal, reading, principal.tenant, absent=absent)
        async with self.database.read(principal.tenant) as session:
            found = await find(session)
        if found is None:
            raise absent
        return found

    async def record(
        self, session: TenantSession, principal: Principal, kind: str, thing: str, **detail: str | int | bool | None
    ) -> None:
        """Record an act that was done, in its own transaction."""
        await self.audit.record(session, AuditEvent(kind, actor_of(principal), thing, detail=detail))
