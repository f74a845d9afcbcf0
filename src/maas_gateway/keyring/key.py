"""A key version and its life.

    pending → primary → enabled → disabled → destroyed

Rules: a version is stored and visible (published, where it is a signing key) before it is primary;
one version of a ring is primary and makes what is new; enabled ones only open or verify; a disabled
one does neither and can still be destroyed; a destroyed one has no bytes left.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from maas_gateway.errors import IllegalTransition
from maas_gateway.identifiers import PLATFORM, TenantId


class Purpose(StrEnum):
    """What a keyring is for."""

    ROOT = "root"
    ARTIFACTS = "artifacts"
    TOKEN_SIGNING = "token-signing"  # noqa: S105  a purpose, no password
    STATEMENTS = "statements"
    AUDIT = "audit"
    CONSOLE_SESSIONS = "console-sessions"

    @property
    def signs(self) -> bool:
        """Whether its keys sign (ES256); else they wrap, or authenticate."""
        return self in _SIGNING

    def has_ring(self, owner: TenantId) -> bool:
        """Tell whether the platform, or a tenant, has a ring of this purpose."""
        if self is Purpose.AUDIT:
            return True
        return (self is Purpose.ARTIFACTS) == (owner != PLATFORM)


class KeyState(StrEnum):
    """Where a key version stands in its life."""

    PENDING = "pending"
    PRIMARY = "primary"
    ENABLED = "enabled"
    DISABLED = "disabled"
    DESTROYED = "destroyed"

    @property
    def opens(self) -> bool:
        """Whether a key in this state may open or verify what it once made."""
        return self in _OPENING


_SIGNING: Final = frozenset({Purpose.TOKEN_SIGNING, Purpose.STATEMENTS, Purpose.AUDIT})
_OPENING: Final = frozenset({KeyState.PENDING, KeyState.PRIMARY, KeyState.ENABLED})
_NEXT: Final[Mapping[KeyState, frozenset[KeyState]]] = MappingProxyType(
    {
        KeyState.PENDING: frozenset({KeyState.PRIMARY}),
        KeyState.PRIMARY: frozenset({KeyState.ENABLED}),
        KeyState.ENABLED: frozenset({KeyState.DISABLED}),
        KeyState.DISABLED: frozenset({KeyState.DESTROYED}),
        KeyState.DESTROYED: frozenset(),
    }
)


@dataclass(frozen=True, slots=True)
class KeyVersion:
    """One version of one key, without its bytes.

    Attributes:
        tenant: whose; PLATFORM for the platform's.
        purpose: what for.
        version: its number in its ring, from 1.
        state: where it stands.
        root_version: which version of the root key wraps it; 0 for a root version itself.
        created_at: when it was made.
        changed_at: when its state last changed.
        public: for a signing key, its public JWK with `kid`, `alg` and `use`; for a root key, its
            deployment, its holder and what names it there; else None.
    """

    tenant: TenantId
    purpose: Purpose
    version: int
    state: KeyState
    root_version: int
    created_at: datetime
    changed_at: datetime
    public: Mapping[str, str] | None = None

    def check_move(self, state: KeyState) -> None:
        """Refuse a step that its life does not have.

        Raises:
            IllegalTransition: there is no such step from its state.
        """
        if state not in _NEXT[self.state]:
            raise IllegalTransition(
                f"version {self.version} of keyring '{self.purpose}' is {self.state} and cannot become {state}"
            )
