"""A quota: what its owner wrote down about one tenant, principal, model or share."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final
from uuid import UUID

from maas_gateway.identifiers import SubjectId, TenantId

MAX_AMOUNT: Final = 2**53 - 1
MAX_WINDOW_S: Final = 31 * 86_400
MAX_WEIGHT: Final = 1_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So much in a window.

    Attributes:
        amount: how much may be had at once after a rest of a whole window; it comes back evenly during one.
        window_s: seconds.
    """

    amount: int
    window_s: int


@dataclass(frozen=True, slots=True)
class Quota:
    """What may be asked for; a member that is None is not limited.

    Attributes:
        requests: predictions.
        rows: rows of all predictions.
        n_bytes: bytes of their bodies, as sent.
        concurrent: predictions that run at once.
        lifetime_rows: rows in all, never to come back: what bounds how much of a model can be learnt from it.
        weight: of a tenant as a whole: how much of busy engines it gets for each 1 of others; None means 1.
    """

    requests: Rate | None = None
    rows: Rate | None = None
    n_bytes: Rate | None = None
    concurrent: int | None = None
    lifetime_rows: int | None = None
    weight: int | None = None

    @classmethod
    def from_json(cls, stored: Any) -> "Quota":
        """Return what is stored; a member that cannot be understood lets nothing through rather than all."""
        if not isinstance(stored, Mapping):
            return CLOSED
        return cls(
            requests=_rate(stored.get("requests")),
            rows=_rate(stored.get("rows")),
            n_bytes=_rate(stored.get("n_bytes")),
            concurrent=_count(stored.get("concurrent")),
            lifetime_rows=_count(stored.get("lifetime_rows")),
            weight=_count(stored.get("weight")),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what is stored: a rate as `[amount, window in seconds]`."""
        told: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                told[field.name] = [value.amount, value.window_s] if isinstance(value, Rate) else value
        return told


CLOSED: Final = Quota(requests=Rate(0, 1))
"""What lets nothing through."""


@dataclass(frozen=True, slots=True)
class QuotaRule:
    """A quota and what it is about.

    Attributes:
        rule_id: its identifier.
        tenant: who wrote it, or whom the platform's operator wrote it for.
        quota: what may be asked for.
        subject: the principal it is about; None for every principal together.
        model: the model, as the tenant calls it; None for all models together.
        share: the share that it is about, with neither of the two.
    """

    rule_id: UUID
    tenant: TenantId
    quota: Quota
    subject: SubjectId | None = None
    model: str | None = None
    share: UUID | None = None


def _rate(stored: Any) -> Rate | None:
    if stored is None:
        return None
    try:
        amount, window_s = stored
        return Rate(int(amount), max(1, int(window_s)))
    except (TypeError, ValueError):
        return CLOSED.requests


def _count(stored: Any) -> int | None:
    return None if stored is None else stored if type(stored) is int else 0
