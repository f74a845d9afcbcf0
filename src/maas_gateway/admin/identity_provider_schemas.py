"""Bodies about identity providers."""

import uuid
from datetime import datetime
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from maas_gateway.admin import examples
from maas_gateway.admin.examples import like
from maas_gateway.auth.identity_provider import MAX_NAME, ClaimRule, IdentityProvider

_MAX_RULES = 64
_PRINTABLE = r"^[!-~]+$"

Value = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]


class RuleBody(BaseModel):
    """What a value in the claim is worth."""

    model_config = like(examples.RULE) | ConfigDict(extra="forbid", frozen=True)

    value: Value = Field(description="As it stands in the claim.")
    role: str = Field(description="For example invoker.", max_length=32)
    model: str | None = Field(
        default=None, description="The model that the role holds on; none means the tenant.", max_length=128
    )

    @classmethod
    def of(cls, rule: ClaimRule) -> Self:
        """Say what a caller may know of it."""
        return cls(value=rule.value, role=rule.role, model=rule.model)

    def rule(self) -> ClaimRule:
        """Return the rule."""
        return ClaimRule(self.value, self.role, self.model)


class NewIdentityProvider(BaseModel):
    """An identity provider to register."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="What people will call it: a-z, 0-9, '.', '_' and '-'.", max_length=MAX_NAME)
    issuer: str = Field(description="The `iss` of its tokens, an address.", max_length=255)
    audience: str = Field(description="What `aud` of its tokens must hold.", max_length=255, pattern=_PRINTABLE)
    claim: str = Field(
        default="groups",
        description="The claim that rules look at; a dotted path is followed.",
        max_length=128,
        pattern=_PRINTABLE,
    )
    rules: list[RuleBody] = Field(
        default=[], description="What its claims are worth; what no rule names is worth nothing.", max_length=_MAX_RULES
    )


class IdentityProviderChange(BaseModel):
    """What to change of an identity provider; what is absent stays."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool | None = Field(default=None, description="Whether its tokens count.", strict=True)
    rules: list[RuleBody] | None = Field(
        default=None, description="What its claims are worth, instead of what is there.", max_length=_MAX_RULES
    )


class IdentityProviderAnswer(BaseModel):
    """An identity provider."""

    model_config = like(examples.IDENTITY_PROVIDER)

    id: uuid.UUID
    name: str
    issuer: str
    audience: str
    claim: str
    rules: list[RuleBody]
    enabled: bool
    created_at: datetime

    @classmethod
    def of(cls, provider: IdentityProvider) -> Self:
        """Say what a caller may know of it."""
        return cls(
            id=provider.provider_id,
            name=provider.name,
            issuer=provider.issuer,
            audience=provider.audience,
            claim=provider.claim,
            rules=[RuleBody.of(rule) for rule in provider.rules],
            enabled=provider.is_enabled,
            created_at=provider.created_at,
        )


class IdentityProvidersAnswer(BaseModel):
    """Identity providers."""

    model_config = like(examples.IDENTITY_PROVIDERS)

    identity_providers: list[IdentityProviderAnswer]
