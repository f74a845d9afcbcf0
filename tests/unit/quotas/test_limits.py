"""Which quotas cover a caller, and what a stored quota means."""

from uuid import uuid4

import pytest

from maas_gateway.identifiers import SubjectId, TenantId
from maas_gateway.quotas.limits import Asked, Limits, Measure, limits_of
from maas_gateway.quotas.quota import CLOSED, Quota, QuotaRule, Rate

ACME, BETA = TenantId(uuid4()), TenantId(uuid4())
ADA, BOB = SubjectId(uuid4()), SubjectId(uuid4())
SHARE = uuid4()
OWN = Asked(ACME, ADA, "fraud", ACME, "fraud")
SHARED = Asked(BETA, BOB, "acme.fraud", ACME, "fraud", SHARE)


def rule(tenant: TenantId, quota: Quota, **about: object) -> QuotaRule:
    return QuotaRule(uuid4(), tenant, quota, **about)  # type: ignore[arg-type]


def requests(amount: int) -> Quota:
    return Quota(requests=Rate(amount, 60))


def amounts(limits: Limits | None) -> set[int]:
    return set() if limits is None else {cost.limit.amount for cost in limits.each}


def test_no_quota_limits_nothing() -> None:
    assert limits_of([], OWN) is None
    assert limits_of([rule(ACME, Quota())], OWN) is None


def test_every_quota_that_covers_a_caller_holds() -> None:
    rules = [
        rule(ACME, requests(1)),
        rule(ACME, requests(2), subject=ADA),
        rule(ACME, requests(3), model="fraud"),
        rule(ACME, requests(4), subject=ADA, model="fraud"),
    ]
    assert amounts(limits_of(rules, OWN)) == {1, 2, 3, 4}


def test_quotas_of_others_and_of_other_models_do_not() -> None:
    rules = [
        rule(ACME, requests(1), subject=BOB),
        rule(ACME, requests(2), model="churn"),
        rule(ACME, requests(3), subject=ADA, model="churn"),
        rule(BETA, requests(4)),
        rule(ACME, requests(5), share=SHARE),
    ]
    assert limits_of(rules, OWN) is None


def test_through_a_share_hold_its_own_quota_the_models_and_the_consumers() -> None:
    rules = [
        rule(ACME, requests(1), share=SHARE),
        rule(ACME, requests(2), model="fraud"),
        rule(BETA, requests(3)),
        rule(BETA, requests(4), subject=BOB, model="acme.fraud"),
        rule(ACME, requests(5)),  # the owner's tenant as a whole is not the consumer
        rule(ACME, requests(6), share=uuid4()),
        rule(BETA, requests(7), share=SHARE),  # not the owner's to write
        rule(BETA, requests(8), model="fraud"),  # the consumer's own model of that name
        rule(ACME, requests(9), subject=BOB, model="fraud"),
    ]
    assert amounts(limits_of(rules, SHARED)) == {1, 2, 3, 4}


def test_measures_are_counted_when_they_are_known() -> None:
    quota = Quota(Rate(1, 60), Rate(2, 60), Rate(3, 60), concurrent=4)
    limits = limits_of([rule(ACME, quota)], OWN)
    assert limits is not None
    assert [cost.limit.measure for cost in limits.each] == [Measure.REQUESTS, Measure.CONCURRENT]
    assert [cost.limit.measure for cost in limits.places] == [Measure.CONCURRENT]
    assert [limit.measure for limit in limits.on_rows] == [Measure.ROWS]
    assert [limit.measure for limit in limits.on_bytes] == [Measure.BYTES]


def test_a_models_budget_is_each_principals_own_and_a_closer_one_wins() -> None:
    of_model = rule(ACME, Quota(lifetime_rows=100), model="fraud")
    of_ada = rule(ACME, Quota(lifetime_rows=500), subject=ADA, model="fraud")
    for rules in ([of_model, of_ada], [of_ada, of_model]):
        limits = limits_of(rules, OWN)
        assert limits is not None
        assert [(budget.holder, budget.max_rows) for budget in limits.budgets] == [(ADA, 500)]
    limits = limits_of([of_model], OWN)
    assert limits is not None
    assert [(budget.holder, budget.max_rows) for budget in limits.budgets] == [(ADA, 100)]


def test_a_shares_budget_is_the_consuming_tenants_as_a_whole() -> None:
    budget = rule(ACME, Quota(lifetime_rows=100), share=SHARE)
    for who in (ADA, BOB):
        limits = limits_of([budget], Asked(BETA, who, "acme.fraud", ACME, "fraud", SHARE))
        assert limits is not None
        assert [(b.tenant, b.holder, b.max_rows) for b in limits.budgets] == [(ACME, SHARE, 100)]


@pytest.mark.parametrize("quota", [Quota(), Quota(Rate(1, 2), Rate(3, 4), Rate(5, 6), 7, 8, 9), Quota(concurrent=0)])
def test_a_quota_is_stored_and_read_as_it_was(quota: Quota) -> None:
    assert Quota.from_json(quota.to_json()) == quota


@pytest.mark.parametrize("broken", [None, "x", 5, []])
def test_a_quota_that_cannot_be_read_lets_nothing_through(broken: object) -> None:
    assert Quota.from_json(broken) == CLOSED


@pytest.mark.parametrize("broken", ["x", 5, [1], [1, 2, 3], {"amount": 1}, ["a", "b"]])
def test_a_rate_that_cannot_be_read_lets_nothing_through(broken: object) -> None:
    assert Quota.from_json({"rows": broken}).rows == Rate(0, 1)
    assert Quota.from_json({"concurrent": "x", "lifetime_rows": 1.5}) == Quota(concurrent=0, lifetime_rows=0)
