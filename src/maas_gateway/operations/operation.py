"""A long act that outlives the process which began it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from maas_gateway.identifiers import TenantId


class OperationState(StrEnum):
    """Where a long act stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Operation:
    """One long act.

    Attributes:
        operation_id: its identifier.
        tenant: whose it is; PLATFORM for the platform's.
        kind: what is done, for example `rotate`.
        subject: what it is done to; enough to resume it, no secret.
        state: running, succeeded, failed or cancelled.
        done: how many items are finished.
        total: how many there are.
        error: why it failed, for people.
        actor: who began it.
        created_at: when it began.
        thing: the subject as the audit record names it.
        result: what it came to, where there is more to say than that it succeeded; while it runs, what
            whoever takes it up will need.
    """

    operation_id: uuid.UUID
    tenant: TenantId
    kind: str
    subject: Mapping[str, object]
    state: OperationState
    done: int
    total: int
    error: str | None
    actor: str
    created_at: datetime
    thing: str = ""
    result: Mapping[str, object] | None = None

    def to_json(self) -> dict[str, object]:
        """Return the form that the management API answers."""
        return {
            "id": str(self.operation_id),
            "kind": self.kind,
            "subject": dict(self.subject),
            "state": self.state.value,
            "done": self.done,
            "total": self.total,
            "error": self.error,
            "created_at": self.created_at.isoformat(),
            "result": None if self.result is None or self.state is OperationState.RUNNING else dict(self.result),
        }
