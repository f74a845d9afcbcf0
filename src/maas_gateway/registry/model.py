"""Models, their versions, and the legal moves of a version's stage.

    quarantined → staged → serving ⇄ retired, and from each of them back into quarantine by a rescan

Rules: a version of which a scanner says that a person should look at it begins in quarantine, and leaves it once a
person has released it; one of which a scanner says that it is unsafe leaves it never, unless a later scan finds
otherwise; several versions of a model may serve; a label points at a serving version; a request that names neither
goes to the highest serving one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from maas_gateway.errors import IllegalTransition, IntegrityFailure
from maas_gateway.identifiers import ArtifactId, ModelId, SubjectId, TenantId
from maas_gateway.registry.publishers import Publisher
from maas_gateway.registry.release import Release
from maas_gateway.tensors.signature import ModelSignature


class Stage(StrEnum):
    """Where a version stands."""

    QUARANTINED = "quarantined"
    STAGED = "staged"
    SERVING = "serving"
    RETIRED = "retired"


_NEXT: Final = MappingProxyType(
    {
        Stage.QUARANTINED: frozenset({Stage.STAGED}),
        Stage.STAGED: frozenset({Stage.SERVING, Stage.QUARANTINED}),
        Stage.SERVING: frozenset({Stage.RETIRED, Stage.QUARANTINED}),
        Stage.RETIRED: frozenset({Stage.SERVING, Stage.QUARANTINED}),
    }
)


class ArtifactRole(StrEnum):
    """What an artifact is to its version: the plan for the runtime of that name.

    `source` is the upload as it came, of versions from before uploads were rebuilt; no runtime takes it.
    """

    SOURCE = "source"
    LITERT = "litert"
    ONNX = "onnx"
    OPENVINO = "openvino"
    KERAS = "keras"
    TENSORFLOW = "tensorflow"


class Placement(StrEnum):
    """Where a plan runs: on this process's threads, or in a confined process of its own, which can be ended."""

    THREADS = "threads"
    PROCESS = "process"


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
    """A form in which a version can be served.

    Attributes:
        runtime: which runtime loads it, as `inference.runtimes.catalogue` names it; also its artifact's role.
        input_order: for each input of the signature, its place in the plan's own order.
        output_order: likewise for outputs.
        max_relative_error: largest deviation from the uploaded model's own answers that was
            found, relative to the largest output.
        placement: where it runs.
        tolerance: the deviation up to which it was accepted; None for versions from before it was noted.
        took_us: microseconds that one row took, measured when it was made; None as above.
    """

    runtime: str
    input_order: tuple[int, ...]
    output_order: tuple[int, ...]
    max_relative_error: float
    placement: Placement = Placement.THREADS
    tolerance: float | None = None
    took_us: int | None = None

    def to_json(self) -> dict[str, object]:
        """Return the stored form."""
        stored: dict[str, object] = {
            "runtime": self.runtime,
            "input_order": list(self.input_order),
            "output_order": list(self.output_order),
            "max_relative_error": self.max_relative_error,
        }
        if self.tolerance is not None:
            stored |= {"placement": self.placement.value, "tolerance": self.tolerance, "took_us": self.took_us}
        return stored

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ServingPlan":
        """Read what `to_json` wrote."""
        return cls(
            runtime=value["runtime"],
            input_order=tuple(value["input_order"]),
            output_order=tuple(value["output_order"]),
            max_relative_error=value["max_relative_error"],
            placement=Placement(value.get("placement", Placement.THREADS)),
            tolerance=value.get("tolerance"),
            took_us=value.get("took_us"),
        )


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of one model.

    Attributes:
        tenant: whose.
        model_id: of which model.
        model: that model's name.
        version: its number.
        stage: quarantined, staged, serving or retired.
        format: what was uploaded, for example `keras`.
        digest: SHA-256 of what was uploaded, hexadecimal.
        size_bytes: size of what was uploaded.
        signature: what it takes and gives.
        findings: what the scanners noted, as they report it.
        plan: in which form it is served.
        other_plans: further forms in which it could be, the better first.
        artifacts: its sealed blobs.
        created_by: who uploaded it, by name.
        created_at: when.
        uploaders: who uploaded it, by identifier: that account first, then whoever had been told a secret of it; None for
            versions from before that was noted.
        release: who has said that it may be served although a scanner asks for a person; None for nobody.
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
    other_plans: tuple[ServingPlan, ...] = ()
    publisher: Publisher | None = None
    uploaders: tuple[SubjectId, ...] | None = None
    release: Release | None = None
    manifest: str = ""

    def worst(self, severity: str) -> Mapping[str, Any] | None:
        """Return the first finding of that severity, None if there is none."""
        return next((finding for finding in self.findings if finding.get("severity") == severity), None)

    @property
    def awaits_person(self) -> bool:
        """Whether a scanner asks for a person, and none has released it yet."""
        return self.worst("review") is not None and (self.release is None or not self.release.is_by_person)

    @property
    def is_admitted(self) -> bool:
        """Whether its findings let it be served: none refuses it, and none asks for a release that it does not have."""
        return self.worst("refuse") is None and (self.worst("review") is None or self.release is not None)

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
