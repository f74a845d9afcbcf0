"""Bodies of models and versions."""

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from maas_gateway.admin import examples
from maas_gateway.admin.examples import like
from maas_gateway.admin.paging import ListAnswer
from maas_gateway.registry.model import Model, ModelVersion, ServingPlan
from maas_gateway.registry.publishers import Publisher
from maas_gateway.registry.release import MAX_REASON, Release


class PublisherAnswer(BaseModel):
    """Who had signed a version before it was uploaded."""

    model_config = like(examples.PUBLISHER)

    key_id: str = Field(description="The key that verified the signature: its thumbprint (RFC 7638).")
    name: str = Field(description="What your tenant called that key then.")
    form: Literal["es256", "openssf-bundle"]

    @classmethod
    def of(cls, publisher: Publisher) -> Self:
        """Say what a caller may know of it."""
        return cls(key_id=publisher.key_id, name=publisher.name, form=publisher.form.value)


class PlanAnswer(BaseModel):
    """A form in which a version can be served."""

    model_config = like(examples.PLAN)

    runtime: str = Field(description="What computes it: litert, onnx, openvino, keras or tensorflow.")
    placement: Literal["threads", "process"] = Field(description="Where it runs: here, or in a confined process.")
    size_bytes: int
    max_relative_error: float = Field(
        description="Largest deviation from the uploaded model's own answers, by the largest output."
    )
    tolerance: float | None = Field(default=None, description="The deviation up to which it was accepted.")
    took_us: int | None = Field(default=None, description="Microseconds that one row took when it was made.")

    @classmethod
    def of(cls, plan: ServingPlan, version: ModelVersion) -> Self:
        """Say what a caller may know of it."""
        sizes = {artifact.role.value: artifact.plain_bytes for artifact in version.artifacts}
        return cls(
            runtime=plan.runtime,
            placement=plan.placement.value,
            size_bytes=sizes.get(plan.runtime, 0),
            max_relative_error=plan.max_relative_error,
            tolerance=plan.tolerance,
            took_us=plan.took_us,
        )


class ReleaseAnswer(BaseModel):
    """Who has said that a version may be served although a scanner asks for a person."""

    model_config = like(examples.RELEASED)

    by: str
    at: datetime
    reason: str
    is_by_person: bool = Field(
        description="False where nobody has looked yet: it served already when a rescan began to ask for a person."
    )

    @classmethod
    def of(cls, release: Release) -> Self:
        """Say what a caller may know of it."""
        return cls(by=release.by, at=release.at, reason=release.reason, is_by_person=release.is_by_person)


class NewRelease(BaseModel):
    """A release from quarantine."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    reason: str = Field(default="", description="Why it is good, for the record.", max_length=MAX_REASON)


class VersionAnswer(BaseModel):
    """A version of a model."""

    model_config = like(examples.VERSION)

    model: str
    version: int
    stage: Literal["quarantined", "staged", "serving", "retired"]
    format: str
    digest: str = Field(description="SHA-256 of what was uploaded, hexadecimal.")
    size_bytes: int
    signature: dict[str, Any]
    plan: dict[str, Any]
    plans: list[PlanAnswer] = Field(description="Every form in which it can be served, the served one first.")
    findings: list[dict[str, Any]]
    created_by: str
    created_at: datetime
    publisher: PublisherAnswer | None = Field(default=None, description="None if nobody had signed it.")
    released: ReleaseAnswer | None = Field(default=None, description="Who released it, if a scanner asks for a person.")

    @classmethod
    def of(cls, version: ModelVersion) -> Self:
        """Say what a caller may know of it."""
        return cls(
            model=version.model,
            version=version.version,
            stage=version.stage.value,
            format=version.format,
            digest=version.digest,
            size_bytes=version.size_bytes,
            signature=version.signature.to_json(),
            plan={"runtime": version.plan.runtime, "max_relative_error": version.plan.max_relative_error},
            plans=[PlanAnswer.of(plan, version) for plan in (version.plan, *version.other_plans)],
            findings=[dict(finding) for finding in version.findings],
            created_by=version.created_by,
            created_at=version.created_at,
            publisher=version.publisher and PublisherAnswer.of(version.publisher),
            released=version.release and ReleaseAnswer.of(version.release),
        )


class ModelAnswer(BaseModel):
    """A model."""

    model_config = like(examples.MODEL)

    name: str
    created_at: datetime
    versions: list[VersionAnswer]
    labels: dict[str, int]

    @classmethod
    def of(cls, model: Model) -> Self:
        """Say what a caller may know of it."""
        return cls(
            name=model.name,
            created_at=model.created_at,
            versions=[VersionAnswer.of(version) for version in model.versions],
            labels=dict(model.labels),
        )


class ModelsAnswer(ListAnswer):
    """Models."""

    model_config = like(examples.MODELS)

    models: list[ModelAnswer]
