"""One act or one refusal, as it is recorded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from maas_gateway.principal import Principal


class Outcome(StrEnum):
    """How it ended."""

    DONE = "done"
    REFUSED = "refused"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """What is written down.

    Attributes:
        kind: what was tried, `<room>.<verb>`, for example `model.promoted`.
        actor: who, by name; `anonymous` where nobody is known.
        thing: what it was done to, for example `model breast-cancer/versions/1`.
        outcome: done, refused, or an alarm.
        reason: why it was refused: the error's slug.
        detail: further facts, strings and integers; never a secret, a tensor or a token.
        n_times: how many equal events this one stands for (refusals in one flush are counted).
    """

    kind: str
    actor: str
    thing: str
    outcome: Outcome = Outcome.DONE
    reason: str | None = None
    detail: Mapping[str, str | int | bool | None] = field(default_factory=lambda: MappingProxyType({}))
    n_times: int = 1


ANONYMOUS = "anonymous"


def actor_of(principal: Principal | None) -> str:
    """Return the name under which a caller is recorded."""
    return ANONYMOUS if principal is None else principal.name
