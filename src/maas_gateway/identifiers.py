"""Names of things: tenants, models, versions, keys; each checked where it is made.

Rules: a tenant slug is `[a-z0-9][a-z0-9-]{1,38}` and not reserved; an own model name is
`[A-Za-z0-9_-]{1,128}` (the dot is for shares); a label is `[A-Za-z0-9_]{1,64}`; a version is a
positive integer up to 2**53 - 1, which every JSON reader agrees on.
"""

import re
import uuid
from dataclasses import dataclass
from typing import Final, NewType

from maas_gateway.errors import InvalidRequest

TenantId = NewType("TenantId", uuid.UUID)
ModelId = NewType("ModelId", uuid.UUID)
ArtifactId = NewType("ArtifactId", uuid.UUID)
SubjectId = NewType("SubjectId", uuid.UUID)

PLATFORM: Final = TenantId(uuid.UUID(int=0))
"""The owner of what belongs to the platform; it is not a tenant and has no row among them."""

PLATFORM_SLUG: Final = "platform"
RESERVED_SLUGS: Final = frozenset({PLATFORM_SLUG, "admin", "null"})
MAX_VERSION: Final = 2**53 - 1

SLUG_PATTERN: Final = r"[a-z0-9][a-z0-9-]{1,38}"

_SLUG = re.compile(SLUG_PATTERN, re.ASCII)
_MODEL = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_LABEL = re.compile(r"[A-Za-z0-9_]{1,64}", re.ASCII)
_USERNAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}", re.ASCII)


def new_id() -> uuid.UUID:
    """Return a random identifier (RFC 9562 section 5.4, version 4)."""
    return uuid.uuid4()


def check_slug(text: str) -> str:
    """Return `text` if it may name a tenant.

    Raises:
        InvalidRequest: it is malformed or reserved.
    """
    if not _SLUG.fullmatch(text) or text in RESERVED_SLUGS:
        raise InvalidRequest("slug: 2 to 39 of a-z, 0-9 and '-', not starting with '-', not platform, admin or null")
    return text


def check_model_name(text: str) -> str:
    """Return `text` if it may name a model of one's own.

    Raises:
        InvalidRequest: it is malformed.
    """
    if not _MODEL.fullmatch(text):
        raise InvalidRequest("model: 1 to 128 of A-Z, a-z, 0-9, '_' and '-'")
    return text


def check_model_reference(text: str) -> str:
    """Return `text` if it may name a model of one's own, or one that another tenant shares: `<owner's slug>.<model>`.

    Raises:
        InvalidRequest: it is malformed.
    """
    slug, dot, name = text.rpartition(".")
    if dot and not _SLUG.fullmatch(slug):
        raise InvalidRequest("model: a shared model is named <owner's slug>.<model>")
    check_model_name(name)
    return text


def check_label(text: str) -> str:
    """Return `text` if it may label a version.

    Raises:
        InvalidRequest: it is malformed.
    """
    if not _LABEL.fullmatch(text):
        raise InvalidRequest("label: 1 to 64 of A-Z, a-z, 0-9 and '_'")
    return text


def check_username(text: str) -> str:
    """Return `text` if it may be the part of a username before the '@'.

    Raises:
        InvalidRequest: it is malformed.
    """
    if not _USERNAME.fullmatch(text):
        raise InvalidRequest("name: 1 to 63 of a-z, 0-9, '.', '_' and '-', starting with a letter or a digit")
    return text


@dataclass(frozen=True, slots=True)
class ModelRef:
    """What a caller names: a model, and perhaps one version or one label of it.

    Attributes:
        name: the model's name as the caller's tenant sees it.
        version: a version number, or None.
        label: a label, or None; never together with a version.
    """

    name: str
    version: int | None = None
    label: str | None = None

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.name}/versions/{self.version}"
        return f"{self.name}/labels/{self.label}" if self.label is not None else self.name


@dataclass(frozen=True, slots=True)
class KeyId:
    """One version of one key: whose, for what purpose, which."""

    tenant: TenantId
    purpose: str
    version: int

    def __str__(self) -> str:
        return f"{self.purpose}/{self.version}"
