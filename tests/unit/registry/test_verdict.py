"""What becomes of a version that was scanned again, by what it was and what is said of it now."""

import dataclasses
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from maas_gateway.identifiers import ArtifactId, ModelId, SubjectId, TenantId
from maas_gateway.registry.model import Artifact, ArtifactRole, ModelVersion, ServingPlan, Stage
from maas_gateway.registry.release import Release
from maas_gateway.registry.verdict import rescanned
from maas_gateway.scanning.scanner import Finding, ScanReport
from maas_gateway.tensors.signature import ModelSignature

NOW = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
REFUSE = Finding("bad-operator", "refuse", "operator 3", "It opens files.")
REVIEW = Finding("odd-operator", "review", "operator 2", "A person looks.")
NOTE = Finding("large", "note", "operator 1", "It is large.")
PERSON = Release("ada@acme", NOW, "looked", SubjectId(uuid.UUID(int=7)))
BY_RESCAN = Release("rescan", NOW, "it served already when the rules began to ask for a person")
VERSION = ModelVersion(
    tenant=TenantId(uuid.UUID(int=1)),
    model_id=ModelId(uuid.UUID(int=2)),
    model="bc",
    version=4,
    stage=Stage.SERVING,
    format="keras",
    digest="cc" * 32,
    size_bytes=5_000,
    signature=ModelSignature((), ()),
    plan=ServingPlan("litert", (), (), 0.0),
    created_by="owner@acme",
    created_at=NOW,
    artifacts=(Artifact(ArtifactId(uuid.UUID(int=4)), ArtifactRole.LITERT, 7_000, 7_400, "bb" * 32),),
)


def _again(before: ModelVersion, *findings: Finding, is_strict: bool = False) -> ModelVersion:
    return rescanned(before, {"litert": ScanReport("tflite", findings)}, now=NOW, is_strict=is_strict)


def _version(
    stage: Stage, *findings: Finding, release: Release | None = None, artifact: str | None = None
) -> ModelVersion:
    stored: list[dict[str, Any]] = [finding.to_json() for finding in findings]
    if artifact:
        stored = [{**finding, "artifact": artifact} for finding in stored]
    return dataclasses.replace(VERSION, stage=stage, findings=tuple(stored), release=release)


Q, STAGED, SERVING, RETIRED = Stage.QUARANTINED, Stage.STAGED, Stage.SERVING, Stage.RETIRED


@pytest.mark.parametrize(
    ("before", "found", "stage", "release"),
    [
        *(
            pytest.param(_version(stage), (REFUSE,), Q, None, id=f"{stage}, newly refused: quarantined")
            for stage in (STAGED, SERVING, RETIRED, Q)
        ),
        pytest.param(
            _version(SERVING, REVIEW, release=PERSON),
            (REVIEW, REFUSE),
            Q,
            None,
            id="released, then refused: quarantined",
        ),
        pytest.param(_version(STAGED), (REVIEW,), Q, None, id="staged, a person newly asked for: quarantined"),
        pytest.param(_version(RETIRED), (REVIEW,), Q, None, id="retired, a person newly asked for: quarantined"),
        pytest.param(
            _version(SERVING), (REVIEW,), SERVING, BY_RESCAN, id="serving, a person newly asked for: serves on"
        ),
        pytest.param(
            _version(RETIRED, REVIEW, release=PERSON), (REVIEW,), RETIRED, PERSON, id="the doubt was released: stays"
        ),
        pytest.param(
            _version(SERVING, REVIEW, release=PERSON, artifact="litert"),
            (REVIEW,),
            SERVING,
            PERSON,
            id="the doubt of an earlier rescan was released: stays",
        ),
        pytest.param(
            _version(STAGED, REVIEW, release=PERSON),
            (REVIEW, dataclasses.replace(REVIEW, where="operator 9")),
            Q,
            None,
            id="released, and there is another doubt: quarantined",
        ),
        pytest.param(_version(Q, REVIEW), (), Q, None, id="in quarantine, nothing new: stays for a person"),
        pytest.param(_version(STAGED), (NOTE,), STAGED, None, id="a note moves nothing"),
    ],
)
def test_version_that_is(
    before: ModelVersion, found: tuple[Finding, ...], stage: Stage, release: Release | None
) -> None:
    after = _again(before, *found)
    assert (after.stage, after.release) == (stage, release)
    assert after.stage is Q or after.is_admitted
    assert _again(after, *found) == after, "looking again by the same rules changes nothing"


def test_strict_rescan_quarantines_what_serves_too() -> None:
    after = _again(VERSION, REVIEW, is_strict=True)
    assert (after.stage, after.release) == (Q, None)


def test_version_is_the_same_of_which_nothing_new_is_said() -> None:
    for before in (VERSION, _version(STAGED, NOTE), _version(STAGED, NOTE, artifact="litert")):
        assert _again(before, *(NOTE,) if before.findings else ()) == before


def test_findings_of_the_upload_stay_and_those_of_the_rescan_before_go() -> None:
    before = dataclasses.replace(
        VERSION,
        stage=Q,
        findings=(NOTE.to_json(), {**REFUSE.to_json(), "artifact": "litert"}, {**REVIEW.to_json(), "artifact": "onnx"}),
    )
    after = _again(before)
    assert after.findings == (NOTE.to_json(), {**REVIEW.to_json(), "artifact": "onnx"})
    assert (after.stage, after.worst("refuse")) == (Q, None)


def test_finding_says_of_which_stored_form_it_is_and_is_not_said_twice() -> None:
    after = _again(_version(STAGED, NOTE), NOTE, REVIEW)
    assert after.findings == (NOTE.to_json(), {**REVIEW.to_json(), "artifact": "litert"})
