"""How records are chained: each hash covers the one before, so none can be changed, moved or dropped.

Rules: `hash(n) = SHA-256(hash(n-1) ‖ canonical JSON of record n)`; the first record follows 32 zero
bytes; records of one chain are numbered from 1 without a gap. There is one chain a tenant and one
for the platform. The tail alone can be cut without trace: signed checkpoints are what shows that.

Source: RFC 8785 (canonical JSON); the chain is the linear form of RFC 9162 section 2.1's idea.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from maas_gateway.audit.event import AuditEvent
from maas_gateway.crypto.digests import canonical_json, sha256
from maas_gateway.errors import AuditChainBroken
from maas_gateway.identifiers import TenantId

FIRST: Final = bytes(32)
"""What the first record of a chain follows."""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """An event in its place in a chain.

    Attributes:
        tenant: whose chain.
        number: its place, from 1.
        at: when it was written.
        event: what happened.
        digest: its link of the chain, 32 bytes.
    """

    tenant: TenantId
    number: int
    at: datetime
    event: AuditEvent
    digest: bytes


def link(tenant: TenantId, number: int, at: datetime, event: AuditEvent, *, previous: bytes) -> AuditRecord:
    """Return the record of `event` behind the one whose digest is `previous`."""
    text = canonical_json(
        {
            "tenant": str(tenant),
            "number": number,
            "at": at.isoformat(timespec="microseconds"),
            "kind": event.kind,
            "actor": event.actor,
            "thing": event.thing,
            "outcome": event.outcome.value,
            "reason": event.reason,
            "detail": dict(event.detail),
            "n_times": event.n_times,
        }
    )
    return AuditRecord(tenant, number, at, event, sha256(previous + text))


def verify(records: list[AuditRecord], *, previous: bytes = FIRST, number: int = 0) -> bytes:
    """Check a run of records that follows `previous`; return the last digest.

    Raises:
        AuditChainBroken: a record is missing, moved or changed; the sentence names the first such.
    """
    for record in records:
        number += 1
        expected = link(record.tenant, number, record.at, record.event, previous=previous)
        if expected.digest != record.digest or record.number != number:
            raise AuditChainBroken(f"audit record {number} of {record.tenant} is missing, moved or changed")
        previous = record.digest
    return previous
