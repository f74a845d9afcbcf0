"""Bodies about publishers' keys and the rules of publishing."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from maas_gateway.admin import examples
from maas_gateway.admin.examples import like
from maas_gateway.registry.publishers import PublisherKey, PublishingRules


class NewPublisherKey(BaseModel):
    """A public key to register, as `pem` or as `jwk`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(description="Unique in the tenant: a-z, 0-9, '.', '_' and '-'.", max_length=64)
    pem: str | None = Field(
        default=None, description="What `openssl pkey -in key.pem -pubout` prints, of P-256.", max_length=4096
    )
    jwk: dict[str, object] | None = Field(default=None, description="The same as JWK: kty, crv, x and y.")


class NewPublishingRules(BaseModel):
    """What your tenant is to demand; what is left out stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    requires_signature: bool | None = Field(
        default=None, description="Whether an upload must be signed with a registered key."
    )
    requires_second_person: bool | None = Field(
        default=None, description="Whether who releases or promotes a version must be another than who uploaded it."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.requires_signature is None and self.requires_second_person is None:
            raise ValueError("say requires_signature, requires_second_person or both")
        return self


class PublishingRulesAnswer(BaseModel):
    """What your tenant demands."""

    model_config = like(examples.PUBLISHING_RULES)

    requires_signature: bool = Field(description="Whether an upload must be signed with a registered key.")
    requires_second_person: bool = Field(
        description="Whether who releases or promotes a version must be another than who uploaded it."
    )

    @classmethod
    def of(cls, rules: PublishingRules) -> Self:
        """Say what it is."""
        return cls(requires_signature=rules.requires_signature, requires_second_person=rules.requires_second_person)


class PublisherKeyAnswer(BaseModel):
    """A publisher's public key."""

    model_config = like(examples.PUBLISHER_KEY)

    key_id: str = Field(description="Its thumbprint (RFC 7638).")
    name: str
    jwk: dict[str, str]
    created_at: datetime

    @classmethod
    def of(cls, key: PublisherKey) -> Self:
        """Say what a caller may know of it."""
        return cls(key_id=key.key_id, name=key.name, jwk=dict(key.jwk), created_at=key.created_at)


class PublisherKeysAnswer(BaseModel):
    """Publishers' public keys."""

    model_config = like(examples.PUBLISHER_KEYS)

    publisher_keys: list[PublisherKeyAnswer]
