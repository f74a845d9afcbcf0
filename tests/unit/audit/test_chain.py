"""A chain in which any record that was changed, dropped, moved or put in shows."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maas_gateway.audit.chain import FIRST, AuditRecord, link, verify
from maas_gateway.audit.event import AuditEvent, Outcome
from maas_gateway.errors import AuditChainBroken
from maas_gateway.identifiers import TenantId

TENANT, OTHER = TenantId(uuid.uuid4()), TenantId(uuid.uuid4())
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
Records = list[AuditRecord]


def chain(n_records: int, tenant: TenantId = TENANT) -> Records:
    records: Records = []
    previous = FIRST
    for number in range(1, n_records + 1):
        event = AuditEvent(
            "model.promoted", "ada@acme", f"model m/versions/{number}", detail={"retired": "", "n": number}
        )
        records.append(link(tenant, number, BEGAN + timedelta(seconds=number), event, previous=previous))
        previous = records[-1].digest
    return records


def test_whole_chain_verifies_and_tells_its_head() -> None:
    records = chain(5)
    assert verify(records) == records[-1].digest


def test_chain_verifies_in_runs() -> None:
    records = chain(5)
    head = verify(records[:3])
    assert verify(records[3:], previous=head, number=3) == records[-1].digest


def test_empty_chain_has_the_first_head() -> None:
    assert verify([]) == FIRST


def _event(**changes: object) -> Callable[[Records], Records]:
    def alter(records: Records) -> Records:
        records[2] = replace(records[2], event=replace(records[2].event, **changes))
        return records

    return alter


def _record(**changes: object) -> Callable[[Records], Records]:
    def alter(records: Records) -> Records:
        records[2] = replace(records[2], **changes)
        return records

    return alter


def _relinked(records: Records) -> Records:
    """Put in a record of one's own with a digest that fits what is before it."""
    event = AuditEvent("user.added", "eve@acme", "user eve")
    return [*records[:2], link(TENANT, 3, BEGAN, event, previous=records[1].digest), *records[3:]]


ALTERATIONS: dict[str, Callable[[Records], Records]] = {
    "kind": _event(kind="model.retired"),
    "actor": _event(actor="eve@acme"),
    "thing": _event(thing="model m/versions/9"),
    "outcome": _event(outcome=Outcome.REFUSED),
    "reason": _event(reason="permission-denied"),
    "a detail's value": _event(detail={"retired": "1", "n": 3}),
    "a detail's type": _event(detail={"retired": "", "n": "3"}),
    "a detail more": _event(detail={"retired": "", "n": 3, "x": None}),
    "a detail less": _event(detail={"n": 3}),
    "count": _event(n_times=2),
    "time": _record(at=BEGAN),
    "a microsecond": _record(at=BEGAN + timedelta(seconds=3, microseconds=1)),
    "number": _record(number=4),
    "tenant": _record(tenant=OTHER),
    "digest": _record(digest=bytes(32)),
    "digest cut": _record(digest=chain(3)[2].digest[:31]),
    "first dropped": lambda records: records[1:],
    "one dropped": lambda records: records[:2] + records[3:],
    "two swapped": lambda records: [*records[:2], records[3], records[2], records[4]],
    "one twice": lambda records: [*records[:3], *records[2:]],
    "one put in": _relinked,
    "all of another tenant": lambda records: [replace(record, tenant=OTHER) for record in records],
    "another tenant's chain spliced in": lambda records: records[:2] + chain(5, OTHER)[2:],
}


@pytest.mark.parametrize("alter", [pytest.param(alter, id=name) for name, alter in ALTERATIONS.items()])
def test_alteration_is_found(alter: Callable[[Records], Records]) -> None:
    with pytest.raises(AuditChainBroken):
        verify(alter(chain(5)))


@settings(max_examples=60)
@given(data=st.data(), n_records=st.integers(2, 12))
def test_any_reordering_or_omission_but_a_cut_tail_is_found(data: st.DataObject, n_records: int) -> None:
    records = chain(n_records)
    kept = data.draw(st.permutations(range(n_records)).flatmap(lambda p: st.integers(0, len(p)).map(lambda n: p[:n])))
    if kept == list(range(len(kept))):
        verify([records[number] for number in kept])
    else:
        with pytest.raises(AuditChainBroken):
            verify([records[number] for number in kept])


texts = st.text(max_size=30)


@settings(max_examples=60)
@given(kind=texts, actor=texts, thing=texts, other=texts)
def test_any_change_of_a_text_is_found(kind: str, actor: str, thing: str, other: str) -> None:
    record = link(TENANT, 1, BEGAN, AuditEvent(kind, actor, thing), previous=FIRST)
    for name, value in (("kind", kind), ("actor", actor), ("thing", thing)):
        altered = replace(record, event=replace(record.event, **{name: other}))
        if other == value:
            verify([altered])
        else:
            with pytest.raises(AuditChainBroken):
                verify([altered])
