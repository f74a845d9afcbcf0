"""Bodies of the management API: what is taken, with unknown fields refused, and what is answered."""

import uuid
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from maas_gateway.accounts.binding import RoleBinding
from maas_gateway.accounts.service_account import ServiceAccount
from maas_gateway.accounts.user import User
from maas_gateway.admin import examples
from maas_gateway.admin.examples import like
from maas_gateway.admin.paging import ListAnswer
from maas_gateway.audit.chain import AuditRecord
from maas_gateway.identifiers import MAX_VERSION
from maas_gateway.operations.operation import Operation
from maas_gateway.tenants.tenant import Tenant


class _Taken(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NewTenant(_Taken):
    """A tenant to onboard."""

    slug: str = Field(description="Its name in usernames: 2 to 39 of a-z, 0-9 and '-'.", max_length=64)
    owner: str = Field(description="The first owner's name.", default="owner", max_length=64)


class NewName(_Taken):
    """A user or a service account to add."""

    name: str = Field(description="Unique in the tenant: a-z, 0-9, '.', '_' and '-'.", max_length=64)


class Enabling(_Taken):
    """Whether an account may act."""

    enabled: bool


class PasswordChange(_Taken):
    """A password to change."""

    current: str = Field(description="The password that it is.", max_length=4096)
    new: str = Field(description="12 to 1,024 bytes of UTF-8.", max_length=4096)


class NewBinding(_Taken):
    """A role to bind."""

    subject: uuid.UUID = Field(description="The user's or service account's id.")
    role: str = Field(description="owner, publisher, invoker, auditor or key-custodian.", max_length=64)
    model: str | None = Field(
        default=None, description="One model's name; none means the whole tenant.", max_length=128
    )


class BindingChange(_Taken):
    """What to change of a role binding."""

    role: str = Field(description="The role instead: one that can be bound there.", max_length=64)


class LabelTarget(_Taken):
    """Where a label points."""

    version: int = Field(ge=1, le=MAX_VERSION)


class TenantAnswer(BaseModel):
    """A tenant."""

    model_config = like(examples.TENANT)

    id: uuid.UUID
    slug: str
    state: str
    created_at: datetime

    @classmethod
    def of(cls, tenant: Tenant) -> Self:
        """Say what a caller may know of it."""
        return cls(id=tenant.tenant_id, slug=tenant.slug, state=tenant.state.value, created_at=tenant.created_at)


class OwnerAnswer(BaseModel):
    """A user whose password is told this once."""

    model_config = like(examples.OWNER)

    username: str
    password: str


class OnboardedAnswer(TenantAnswer):
    """A tenant and its first owner."""

    model_config = like(examples.ONBOARDED)

    owner: OwnerAnswer


class TenantsAnswer(ListAnswer):
    """Tenants."""

    model_config = like(examples.TENANTS)

    tenants: list[TenantAnswer]


class NewPasswordAnswer(BaseModel):
    """A password that is told this once."""

    model_config = like(examples.NEW_PASSWORD)

    password: str


class AccountAnswer(BaseModel):
    """A user or a service account."""

    model_config = like(examples.ACCOUNT)

    id: uuid.UUID
    name: str
    enabled: bool
    created_at: datetime
    client_id: str | None = None

    @classmethod
    def of(cls, account: User | ServiceAccount) -> Self:
        """Say what a caller may know of it."""
        return cls(
            id=account.subject,
            name=account.name,
            enabled=account.is_enabled,
            created_at=account.created_at,
            client_id=account.client_id if isinstance(account, ServiceAccount) else None,
        )


class NewAccountAnswer(AccountAnswer):
    """An account and the secret that is told this once."""

    model_config = like(examples.NEW_ACCOUNT)

    password: str | None = None
    client_secret: str | None = None


class AccountsAnswer(ListAnswer):
    """Accounts."""

    model_config = like(examples.ACCOUNTS)

    accounts: list[AccountAnswer]


class BindingAnswer(BaseModel):
    """A role binding."""

    model_config = like(examples.BINDING)

    id: uuid.UUID
    subject: uuid.UUID
    role: str
    model: str | None

    @classmethod
    def of(cls, binding: RoleBinding) -> Self:
        """Say what a caller may know of it."""
        return cls(id=binding.binding_id, subject=binding.subject, role=binding.role, model=binding.model)


class BindingsAnswer(ListAnswer):
    """Role bindings."""

    model_config = like(examples.BINDINGS)

    bindings: list[BindingAnswer]


class KeyVersionAnswer(BaseModel):
    """A key version."""

    model_config = like(examples.KEY_VERSION)

    version: int
    state: Literal["pending", "primary", "enabled", "disabled", "destroyed"]
    created_at: datetime
    uses: int = Field(description="How many items it still wraps.")
    kid: str | None = Field(default=None, description="Of a key that signs: its id.")
    holder: str | None = Field(default=None, description="Of a root key: who holds it.")


class KeyringAnswer(BaseModel):
    """A keyring."""

    model_config = like(examples.KEYRING)

    purpose: str
    min_open_version: int | None = Field(default=None, description="The oldest version that still opens or verifies.")
    versions: list[KeyVersionAnswer]


class KeyringsAnswer(BaseModel):
    """Keyrings."""

    model_config = like(examples.KEYRINGS)

    keyrings: list[KeyringAnswer]


class OperationAnswer(BaseModel):
    """A long act."""

    model_config = like(examples.OPERATION)

    id: uuid.UUID
    kind: str
    subject: dict[str, Any]
    state: Literal["running", "succeeded", "failed", "cancelled"]
    done: int
    total: int
    error: str | None
    result: dict[str, Any] | None = Field(
        default=None, description="Of an erasure: its signed certificate, and what that says."
    )
    created_at: datetime

    @classmethod
    def of(cls, operation: Operation) -> Self:
        """Say what a caller may know of it."""
        return cls.model_validate(operation.to_json())


class EventAnswer(BaseModel):
    """An audit record."""

    model_config = like(examples.EVENT)

    number: int
    at: datetime
    kind: str
    actor: str
    thing: str
    outcome: str
    reason: str | None
    detail: dict[str, Any]
    n_times: int
    digest: str

    @classmethod
    def of(cls, record: AuditRecord) -> Self:
        """Say what a caller may know of it."""
        event = record.event
        return cls(
            number=record.number,
            at=record.at,
            kind=event.kind,
            actor=event.actor,
            thing=event.thing,
            outcome=event.outcome.value,
            reason=event.reason,
            detail=dict(event.detail),
            n_times=event.n_times,
            digest=record.digest.hex(),
        )


class EventsAnswer(BaseModel):
    """Audit records."""

    model_config = like(examples.EVENTS)

    events: list[EventAnswer]
    next_cursor: int | None = None


class Introspection(BaseModel):
    """What a token is good for now (RFC 7662 section 2.2)."""

    model_config = like(examples.INTROSPECTION)

    active: bool
    token_type: str | None = None
    scope: str | None = None
    sub: str | None = None
    username: str | None = None
    exp: int | None = None
    jti: str | None = None
    iss: str | None = None
    aud: str | None = None


class TokenAnswer(BaseModel):
    """An access token (RFC 6749 section 5.1)."""

    model_config = like(examples.TOKEN)

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    scope: str
    refresh_token: str | None = Field(default=None, description="For a user: good for the next access token, once.")
