"""From what is written down to what one caller of one model has to keep to: pure.

Rules: every quota that covers the caller holds, not only the strictest; a lifetime budget is each principal's own for
each model, a share's is the consuming tenant's as a whole, so that more principals are not more budget.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.quotas.quota import QuotaRule, Rate


class Measure(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    ROWS = "rows"
    BYTES = "bytes"
    CONCURRENT = "concurrent requests"


@dataclass(frozen=True, slots=True)
class Limit:
    """One bucket, and how large it is.

    Attributes:
        key: whose bucket, the same in every process.
        measure: what is counted.
        amount: how much it holds.
        window_s: in how many seconds it fills; 0 where what was taken is given back (`CONCURRENT`).
        about: whose limit it is, for the caller to read.
    """

    key: str
    measure: Measure
    amount: int
    window_s: int
    about: str

    def __str__(self) -> str:
        per = f" in {self.window_s} s" if self.window_s else ""
        return f"{self.amount} {self.measure}{per} for {self.about}"


class Cost(NamedTuple):  # made for each request, in half the time of a frozen dataclass
    """So much out of one bucket, or one place."""

    limit: Limit
    n: int


@dataclass(frozen=True, slots=True)
class Budget:
    """A lifetime budget of rows.

    Attributes:
        tenant: whose database row it is.
        holder: a principal or a share.
        model: the model's name as that tenant calls it.
        max_rows: how many in all.
    """

    tenant: TenantId
    holder: UUID
    model: str
    max_rows: int


@dataclass(frozen=True, slots=True)
class Limits:
    """All that one caller of one model has to keep to.

    Attributes:
        each: what every request costs, before its body is read: itself, and a place.
        places: what of that is given back when it leaves.
        on_bytes: counted before the body is read as far as it declares them, the rest with the rows.
        on_rows: counted when the rows are known.
        budgets: counted with the rows.
    """

    each: tuple[Cost, ...]
    places: tuple[Cost, ...]
    on_bytes: tuple[Limit, ...]
    on_rows: tuple[Limit, ...]
    budgets: tuple[Budget, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for which model.

    Attributes:
        tenant: the caller's.
        subject: the caller.
        model: the model as the caller's tenant calls it.
        owner: whose model it is.
        own_name: what the owner calls it.
        share: by which share, unless it is the tenant's own.
    """

    tenant: TenantId
    subject: SubjectId
    model: str
    owner: TenantId
    own_name: str
    share: UUID | None = None


def limits_of(rules: Iterable[QuotaRule], asked: Asked) -> Limits | None:
    """Return what holds for a caller, or None where nothing is limited."""
    limits: list[Limit] = []
    budgets: dict[tuple[TenantId, UUID, str], Budget] = {}
    for rule in sorted(rules, key=_is_of_one):
        about = _about(rule, asked)
        if about is None:
            continue
        limits += _limits(rule, about)
        budget = _budget(rule, asked)
        if budget is not None:
            budgets[budget.tenant, budget.holder, budget.model] = budget
    if not limits and not budgets:
        return None
    known_late = {Measure.ROWS, Measure.BYTES}
    return Limits(
        each=tuple(Cost(limit, 1) for limit in limits if limit.measure not in known_late),
        places=tuple(Cost(limit, 1) for limit in limits if limit.measure is Measure.CONCURRENT),
        on_bytes=tuple(limit for limit in limits if limit.measure is Measure.BYTES),
        on_rows=tuple(limit for limit in limits if limit.measure is Measure.ROWS),
        budgets=tuple(budgets.values()),
    )


def _is_of_one(rule: QuotaRule) -> bool:
    """Tell whether a rule is about one principal: its budget comes after the model's, and wins."""
    return rule.subject is not None


def _about(rule: QuotaRule, asked: Asked) -> str | None:
    """Return whose limit a rule sets, or None where it does not cover the caller."""
    if rule.share is not None:
        return "this share" if rule.share == asked.share and rule.tenant == asked.owner else None
    if rule.tenant == asked.tenant and rule.subject in {None, asked.subject} and rule.model in {None, asked.model}:
        if rule.subject is None:
            return "your tenant" if rule.model is None else "this model"
        return "you" if rule.model is None else "you on this model"
    is_model_of_owner = rule.tenant == asked.owner and rule.subject is None and rule.model == asked.own_name
    return "this model" if is_model_of_owner and asked.share is not None else None


def _limits(rule: QuotaRule, about: str) -> list[Limit]:
    quota, found = rule.quota, []
    rates: tuple[tuple[Measure, Rate | None], ...] = (
        (Measure.REQUESTS, quota.requests),
        (Measure.ROWS, quota.rows),
        (Measure.BYTES, quota.n_bytes),
    )
    for measure, rate in rates:
        if rate is not None:
            found.append(Limit(f"{rule.rule_id.hex}:{measure.name}", measure, rate.amount, rate.window_s, about))
    if quota.concurrent is not None:
        key = f"{rule.rule_id.hex}:{Measure.CONCURRENT.name}"
        found.append(Limit(key, Measure.CONCURRENT, quota.concurrent, 0, about))
    return found


def _budget(rule: QuotaRule, asked: Asked) -> Budget | None:
    max_rows = rule.quota.lifetime_rows
    if max_rows is None:
        return None
    if rule.share is not None:
        return Budget(rule.tenant, rule.share, asked.own_name, max_rows)
    if rule.tenant == asked.tenant and rule.model is not None:
        return Budget(rule.tenant, asked.subject, rule.model, max_rows)
    return None
