"""Who has said that a version may be served although a scanner asks for a person."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

from maas_gateway.identifiers import SubjectId

MAX_REASON: Final = 300


@dataclass(frozen=True, slots=True)
class Release:
    """One release. It stands in the version's manifest, so that no row can say that there was one.

    Attributes:
        by: who, by name.
        at: when.
        reason: why, in that person's words; at most `MAX_REASON` characters.
        subject: who, by identifier; None where no person has looked: a rescan let a version serve on that was serving.
    """

    by: str
    at: datetime
    reason: str = ""
    subject: SubjectId | None = None

    @property
    def is_by_person(self) -> bool:
        """Whether somebody has looked."""
        return self.subject is not None

    def to_json(self) -> dict[str, str | None]:
        """Return the stored form."""
        subject = None if self.subject is None else str(self.subject)
        return {"by": self.by, "at": self.at.isoformat(), "reason": self.reason, "subject": subject}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        subject = None if value["subject"] is None else SubjectId(UUID(value["subject"]))
        return cls(value["by"], datetime.fromisoformat(value["at"]), value["reason"], subject)
