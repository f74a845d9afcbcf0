"""Models, their versions, and the legal moves of a version's stage.

    staged → serving ⇄ retired

Rules: several versions of a model may serve; a label points at a serving version; a request that
names neither goes to the highest serving one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from maas_gateway.errors import IllegalTransition, IntegrityFailure
from maas_gateway.identifiers import ArtifactId, ModelId, TenantId
from maas_gateway.registry.publishers import Publisher
from maas_gateway.tensors.signature import ModelSignature


class Stage(StrEnum):
    """Where a version stands."""

    STAGED = "staged"
    SERVING = "serving"
    RETIRED = "retired"


_NEXT: Final = MappingProxyType(
    {
        Stage.STAGED: frozenset({Stage.SERVING}),
        Stage.SERVING: frozenset({Stage.RETIRED}),
        Stage.RETIRED: frozenset({Stage.SERVING}),
    }
)


class ArtifactRole(StrEnum):
    """What an artifact is to its version."""

    SOURCE = "source"
    LITERT = "litert"


@dataclass(frozen=True, slots=True)
class Artifact:
    """One sealed blob of a version.

    Attributes:
        artifact_id: its identifier; also the blob's name.
        role: the uploaded source, or the plan that is served.
        plain_bytes: size before sealing.
        sealed_bytes: size of the blob.
        digest: SHA-256 of its plaintext, hexadecimal.
    """

    artifact_id: ArtifactId
    role: ArtifactRole
    plain_bytes: int
    sealed_bytes: int
    digest: str = ""


@dataclass(frozen=True, slots=True)
class ServingPlan:
    """In which form a version is served.

    Attributes:
        runtime: which runtime loads it, as `inference.runtimes.catalogue` names it.
        input_order: for each input of the signature, its place in the plan's own order.
        output_order: likewise for outputs.
        max_relative_error: largest deviation from the uploaded model's own answers that was
            found, relative to the largest output.
    """

    runtime: str
    input_order: tuple[int, ...]
    output_order: tuple[int, ...]
    max_relative_error: float

    def to_json(self) -> dict[str, object]:
        """Return the stored form."""
        return {
            "runtime": self.runtime,
            "input_order": list(self.input_order),
            "output_order": list(self.output_order),
            "max_relative_error": self.max_relative_error,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ServingPlan":
        """Read what `to_json` wrote."""
        return cls(
            runtime=value["runtime"],
            input_order=tuple(value["input_order"]),
            output_order=tuple(value["output_order"]),
            max_relative_error=value["max_relative_error"],
        )


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of one model.

    Attributes:
        tenant: whose.
        model_id: of which model.
        model: that model's name.
        version: its number.
        stage: staged, serving or retired.
        format: what was uploaded, for example `keras`.
        digest: SHA-256 of what was uploaded, hexadecimal.
        size_bytes: size of what was uploaded.
        signature: what it takes and gives.
        findings: what the scanners noted, as they report it.
        plan: in which form it is served.
        artifacts: its sealed blobs.
        created_by: who uploaded it.
        created_at: when.
        publisher: who had signed what was uploaded; None if nobody had.
        manifest: the signed statement of all this; empty for what was never signed, which is not served.
    """

    tenant: TenantId
    model_id: ModelId
    model: str
    version: int
    stage: Stage
    format: str
    digest: str
    size_bytes: int
    signature: ModelSignature
    plan: ServingPlan
    created_by: str
    created_at: datetime
    findings: tuple[Mapping[str, Any], ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    publisher: Publisher | None = None
    manifest: str = ""

    def artifact(self, role: str) -> Artifact:
        """Return its artifact of that role.

        Raises:
            IntegrityFailure: it has none, so its rows are not as they were written.
        """
        for artifact in self.artifacts:
            if artifact.role == role:
                return artifact
        raise IntegrityFailure(f"version {self.version} of '{self.model}' has no artifact for its role '{role}'")

    def check_move(self, stage: Stage) -> None:
        """Refuse a step that its life does not have.

        Raises:
            IllegalTransition: there is no such step from its stage.
        """
        if stage not in _NEXT[self.stage]:
            raise IllegalTransition(
                f"version {self.version} of '{self.model}' is {self.stage} and cannot become {stage}"
            )


@dataclass(frozen=True, slots=True)
class Model:
    """A model with its versions and labels.

    Attributes:
        model_id: its identifier, never reused.
        tenant: whose.
        name: unique in the tenant.
        created_at: when its first version came.
        versions: by number.
        labels: version by label.
    """

    model_id: ModelId
    tenant: TenantId
    name: str
    created_at: datetime
    versions: tuple[ModelVersion, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
