"""Bodies about quotas, shares and usage."""

import uuid
from datetime import date, datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from maas_gateway.admin import examples
from maas_gateway.admin.examples import like
from maas_gateway.admin.paging import ListAnswer
from maas_gateway.controlplane.shares import LimitedShare
from maas_gateway.quotas.quota import MAX_AMOUNT, MAX_WEIGHT, MAX_WINDOW_S, Quota, QuotaRule, Rate
from maas_gateway.quotas.usage import UseLine


class RateBody(BaseModel):
    """So much in a window: as much at once after a rest, and it comes back evenly."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True) | like(examples.RATE)

    amount: int = Field(ge=0, le=MAX_AMOUNT)
    window_s: int = Field(default=60, description="Seconds.", ge=1, le=MAX_WINDOW_S)

    @classmethod
    def of(cls, rate: Rate | None) -> Self | None:
        """Say what a rate allows."""
        return None if rate is None else cls(amount=rate.amount, window_s=rate.window_s)

    def rate(self) -> Rate:
        """Return what was sent."""
        return Rate(self.amount, self.window_s)


class QuotaBody(BaseModel):
    """How much may be asked for; what is left out is not limited."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True) | like(examples.QUOTA)

    requests: RateBody | None = Field(default=None, description="Predictions.")
    rows: RateBody | None = Field(default=None, description="Rows of all predictions.")
    body_bytes: RateBody | None = Field(default=None, description="Bytes of their bodies, as sent.")
    concurrent: int | None = Field(default=None, description="Predictions that run at once.", ge=0, le=MAX_AMOUNT)
    lifetime_rows: int | None = Field(
        default=None,
        description="Rows in all, for each principal on that model; through a share, for the tenant as a whole.",
        ge=0,
        le=MAX_AMOUNT,
    )
    weight: int | None = Field(
        default=None,
        description="Of a tenant as a whole: how much of busy engines it gets for each 1 of others.",
        ge=1,
        le=MAX_WEIGHT,
    )

    @classmethod
    def of(cls, quota: Quota) -> Self:
        """Say what a quota allows."""
        return cls(**_members(quota))

    def quota(self) -> Quota:
        """Return what was sent."""
        rates = {"requests": self.requests, "rows": self.rows, "n_bytes": self.body_bytes}
        given = {name: rate.rate() for name, rate in rates.items() if rate is not None}
        return Quota(**given, concurrent=self.concurrent, lifetime_rows=self.lifetime_rows, weight=self.weight)


class NewQuota(BaseModel):
    """A quota to write, for a principal, a model, or a principal on a model."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    quota: QuotaBody
    subject: uuid.UUID | None = Field(
        default=None, strict=False, description="A user or service account; none means every principal together."
    )
    model: str | None = Field(
        default=None, description="A model of your own, or a shared one; none means all models together."
    )


class QuotaChange(BaseModel):
    """What a quota allows from now on."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    quota: QuotaBody


class TenantChange(BaseModel):
    """What to change of a tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    quota: QuotaBody


class QuotaRuleAnswer(BaseModel):
    """A quota. One with neither subject nor model is the platform's, for your tenant as a whole."""

    model_config = like(examples.QUOTA_RULE)

    id: uuid.UUID
    subject: uuid.UUID | None = None
    model: str | None = None
    quota: QuotaBody

    @classmethod
    def of(cls, rule: QuotaRule) -> Self:
        """Say what a caller may know of it."""
        return cls(id=rule.rule_id, subject=rule.subject, model=rule.model, quota=QuotaBody.of(rule.quota))


class QuotasAnswer(ListAnswer):
    """Quotas."""

    model_config = like(examples.QUOTAS)

    quotas: list[QuotaRuleAnswer]


class NewShare(BaseModel):
    """A model to share."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: str = Field(description="One of your own models.")
    consumer: uuid.UUID = Field(strict=False, description="The id of the tenant that may invoke it; ask them for it.")
    quota: QuotaBody = Field(default=QuotaBody(), description="For all of that tenant together.")


class ShareChange(BaseModel):
    """What to change of a share; what is left out stays."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    enabled: bool | None = None
    quota: QuotaBody | None = None


class ShareAnswer(BaseModel):
    """A share."""

    model_config = like(examples.SHARE)

    id: uuid.UUID
    model: str
    consumer: uuid.UUID
    enabled: bool
    quota: QuotaBody
    created_at: datetime

    @classmethod
    def of(cls, limited: LimitedShare) -> Self:
        """Say what the owner may know of it."""
        share = limited.share
        return cls(
            id=share.share_id,
            model=share.model,
            consumer=share.consumer,
            enabled=share.is_enabled,
            quota=QuotaBody.of(limited.quota),
            created_at=share.created_at,
        )


class SharesAnswer(ListAnswer):
    """Shares."""

    model_config = like(examples.SHARES)

    shares: list[ShareAnswer]


class UsageLine(BaseModel):
    """What one principal used of one model on one day."""

    model_config = like(examples.USAGE_LINE)

    day: date
    subject: uuid.UUID
    model: str
    requests: int
    rows: int
    compute_ms: float

    @classmethod
    def of(cls, line: UseLine) -> Self:
        """Say what was used."""
        use = line.use
        return cls(
            day=line.day,
            subject=line.subject,
            model=line.model,
            requests=use.requests,
            rows=use.rows,
            compute_ms=round(use.compute_s * 1e3, 3),
        )


class UsageAnswer(ListAnswer):
    """What your principals used."""

    model_config = like(examples.USAGE)

    usage: list[UsageLine]


class SharedUsageLine(BaseModel):
    """What one tenant used of one of your models through a share on one day."""

    model_config = like(examples.SHARED_USAGE_LINE)

    day: date
    consumer: uuid.UUID
    model: str
    requests: int
    rows: int
    compute_ms: float


class SharedUsageAnswer(BaseModel):
    """What other tenants used of your models."""

    model_config = like(examples.SHARED_USAGE)

    usage: list[SharedUsageLine]


class BudgetLine(BaseModel):
    """What is spent of a lifetime budget."""

    model_config = like(examples.BUDGET_LINE)

    holder: uuid.UUID = Field(description="A principal, or a share.")
    model: str
    spent_rows: int = Field(description="Rows that were used, and those that a running process has reserved.")


class BudgetsAnswer(BaseModel):
    """Lifetime budgets."""

    model_config = like(examples.BUDGETS)

    budgets: list[BudgetLine]


def _members(quota: Quota) -> dict[str, RateBody | int | None]:
    return {
        "requests": RateBody.of(quota.requests),
        "rows": RateBody.of(quota.rows),
        "body_bytes": RateBody.of(quota.n_bytes),
        "concurrent": quota.concurrent,
        "lifetime_rows": quota.lifetime_rows,
        "weight": quota.weight,
    }
