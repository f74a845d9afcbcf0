"""Bodies about API keys."""

import uuid
from datetime import datetime
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, field_validator

from maas_gateway.accounts.api_key import APIKey
from maas_gateway.admin import examples
from maas_gateway.admin.examples import like
from maas_gateway.admin.paging import ListAnswer
from maas_gateway.controlplane.api_keys import MAX_GRACE
from maas_gateway.permissions import Permission


class NewAPIKey(BaseModel):
    """An API key to make."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="What people will call it: a-z, 0-9, '.', '_' and '-'.", max_length=64)
    permissions: list[str] = Field(
        description="The most that it permits, for example model:read and model:predict.", min_length=1, max_length=64
    )
    subject: uuid.UUID | None = Field(
        default=None, description="The service account that acts with it; none means yourself."
    )
    expires_at: AwareDatetime | None = Field(default=None, description="When it ends; none means never.")

    @field_validator("permissions")
    @classmethod
    def _known(cls, texts: list[str]) -> list[str]:
        for text in texts:
            Permission(text)  # its ValueError names what is no permission
        return texts

    def scope(self) -> frozenset[Permission]:
        """Return the permissions."""
        return frozenset(map(Permission, self.permissions))


class APIKeyChange(BaseModel):
    """What to change of an API key; what is absent stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool | None = Field(default=None, description="Whether it is worth anything.", strict=True)
    expires_at: AwareDatetime | None = Field(default=None, description="When it ends.")


class APIKeyRotation(BaseModel):
    """How to rotate an API key."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    grace_s: int = Field(
        default=0, description="How many seconds the old secret counts too.", ge=0, le=round(MAX_GRACE.total_seconds())
    )


class APIKeyAnswer(BaseModel):
    """An API key, without its secret."""

    model_config = like(examples.API_KEY)

    id: str
    name: str
    subject: uuid.UUID
    permissions: list[str]
    enabled: bool
    created_at: datetime
    expires_at: datetime | None = None
    former_secret_until: datetime | None = None

    @classmethod
    def of(cls, key: APIKey) -> Self:
        """Say what a caller may know of it."""
        return cls(
            id=key.key_id,
            name=key.name,
            subject=key.subject,
            permissions=sorted(key.permissions),
            enabled=key.is_enabled,
            created_at=key.created_at,
            expires_at=key.expires_at,
            former_secret_until=key.former_until,
        )


class NewAPIKeyAnswer(APIKeyAnswer):
    """An API key and its text, which is told this once."""

    model_config = like(examples.NEW_API_KEY)

    api_key: str


class APIKeysAnswer(ListAnswer):
    """API keys."""

    model_config = like(examples.API_KEYS)

    api_keys: list[APIKeyAnswer]
