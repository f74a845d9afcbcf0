"""Manifests: what a version's rows may say beside what was signed, its publisher included."""

import dataclasses
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from builders.keyrings import open_keyring
from maas_gateway.crypto.digests import canonical_json, parse_canonical, sha256_hex
from maas_gateway.errors import CiphertextRejected, IntegrityFailure, SignatureRejected
from maas_gateway.identifiers import PLATFORM, ArtifactId, ModelId, SubjectId, TenantId
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.keyring.key import Purpose
from maas_gateway.keyring.statements import Statements
from maas_gateway.registry.artifacts import Artifacts, Place
from maas_gateway.registry.directory import DirectoryBlobs
from maas_gateway.registry.manifest import KIND, amended, check_manifest, digest_in, manifest_of
from maas_gateway.registry.model import Artifact, ArtifactRole, ModelVersion, Placement, ServingPlan, Stage
from maas_gateway.registry.publishers import Publisher, SignatureForm
from maas_gateway.registry.release import Release
from maas_gateway.tensors.datatypes import Datatype
from maas_gateway.tensors.signature import ModelSignature, TensorSpec

SOURCE = Artifact(ArtifactId(uuid.UUID(int=3)), ArtifactRole.SOURCE, 5_000, 5_400, "aa" * 32)
PLAN = Artifact(ArtifactId(uuid.UUID(int=4)), ArtifactRole.LITERT, 7_000, 7_400, "bb" * 32)
A, B = (TensorSpec(name, Datatype.FP32, (-1, 3)) for name in ("a", "b"))
X, Y = (TensorSpec(name, Datatype.FP32, (-1, 1)) for name in ("x", "y"))
FINDING = {"rule": "lambda-layer", "severity": "note", "where": "layer 3", "message": "It computes."}
OTHER_FINDING = {**FINDING, "rule": "large-weights"}
PUBLISHER = Publisher("oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U", "release", SignatureForm.ES256, b"signature")
RELEASE = Release("ada@acme", datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC), "looked at it", SubjectId(uuid.UUID(int=7)))
VERSION = ModelVersion(
    tenant=TenantId(uuid.UUID(int=1)),
    model_id=ModelId(uuid.UUID(int=2)),
    model="bc",
    version=4,
    stage=Stage.STAGED,
    format="keras",
    digest="cc" * 32,
    size_bytes=5_000,
    signature=ModelSignature((A, B), (X, Y)),
    plan=ServingPlan("litert", (0, 1), (1, 0), 1e-07),
    created_by="owner@acme",
    created_at=datetime(2026, 11, 23, 1, 2, 3, 456_789, tzinfo=UTC),
    findings=(FINDING, OTHER_FINDING),
    artifacts=(SOURCE, PLAN),
    publisher=PUBLISHER,
    uploaders=(SubjectId(uuid.UUID(int=5)), SubjectId(uuid.UUID(int=6))),
    release=RELEASE,
)
UNSIGNED = dataclasses.replace(VERSION, publisher=None)
OLD = dataclasses.replace(VERSION, uploaders=None, release=None)
REVIEW = {**FINDING, "rule": "odd-layer", "severity": "review"}
REFUSED = {**FINDING, "rule": "lambda", "severity": "refuse"}
SCANNERS = {"keras": "7", "tflite": "3"}
MANIFEST = manifest_of(VERSION, scanners=SCANNERS)


def _plan(**changes: Any) -> dict[str, Any]:
    return {"plan": dataclasses.replace(VERSION.plan, **changes)}


def _signature(inputs: tuple[TensorSpec, ...] = (A, B), outputs: tuple[TensorSpec, ...] = (X, Y)) -> dict[str, Any]:
    return {"signature": ModelSignature(inputs, outputs)}


def _publisher(**changes: Any) -> dict[str, Any]:
    return {"publisher": dataclasses.replace(PUBLISHER, **changes)}


def _release(**changes: Any) -> dict[str, Any]:
    return {"release": dataclasses.replace(RELEASE, **changes)}


def _artifacts(**changes: Any) -> dict[str, Any]:
    return {"artifacts": (SOURCE, dataclasses.replace(PLAN, **changes))}


BOUND: dict[str, dict[str, Any]] = {
    "the tenant is another": {"tenant": TenantId(uuid.UUID(int=9))},
    "the model is another": {"model_id": ModelId(uuid.UUID(int=9))},
    "the model has another name": {"model": "bd"},
    "the model's name is a look-alike with a Cyrillic c": {"model": "b\u0441"},
    "the version is another": {"version": 5},
    "the version is text": {"version": "4"},
    "the format is another": {"format": "onnx"},
    "the digest of what was uploaded is another": {"digest": "cd" + "cc" * 31},
    "the digest of what was uploaded is in capitals": {"digest": "CC" * 32},
    "the digest of what was uploaded is none": {"digest": ""},
    "the size of what was uploaded is a byte more": {"size_bytes": 5_001},
    "the size of what was uploaded is a byte less": {"size_bytes": 4_999},
    "an input has another name": _signature(inputs=(dataclasses.replace(A, name="c"), B)),
    "an input has another datatype": _signature(inputs=(dataclasses.replace(A, datatype=Datatype.INT32), B)),
    "an input has another shape": _signature(inputs=(dataclasses.replace(A, shape=(-1, 4)), B)),
    "an input is free where it was fixed": _signature(inputs=(dataclasses.replace(A, shape=(-1, -1)), B)),
    "an input is missing": _signature(inputs=(A,)),
    "an input is added": _signature(inputs=(A, B, X)),
    "the inputs are in another order": _signature(inputs=(B, A)),
    "the outputs are in another order": _signature(outputs=(Y, X)),
    "the outputs have each other's names": _signature(
        outputs=(dataclasses.replace(X, name="y"), dataclasses.replace(Y, name="x"))
    ),
    "inputs and outputs are swapped": _signature(inputs=(X, Y), outputs=(A, B)),
    "the plan is another runtime's": _plan(runtime="onnx"),
    "the plan is the source": _plan(runtime="source"),
    "the plan's inputs are in another order": _plan(input_order=(1, 0)),
    "the plan's outputs are in another order": _plan(output_order=(0, 1)),
    "the plan's outputs are fewer": _plan(output_order=(1,)),
    "the plan's error is another": _plan(max_relative_error=1e-06),
    "the plan's error is none": _plan(max_relative_error=0),
    "the plan runs elsewhere": _plan(placement=Placement.PROCESS, tolerance=1e-5, took_us=6),
    "a further plan is added": {"other_plans": (ServingPlan("keras", (0, 1), (1, 0), 0.0),)},
    "who uploaded it is another": {"created_by": "owner@globex"},
    "its uploader is another account": {"uploaders": (SubjectId(uuid.UUID(int=9)), SubjectId(uuid.UUID(int=6)))},
    "its uploader's secret was told to another": {
        "uploaders": (SubjectId(uuid.UUID(int=5)), SubjectId(uuid.UUID(int=9)))
    },
    "its uploader's secret was told to nobody": {"uploaders": (SubjectId(uuid.UUID(int=5)),)},
    "its uploader is not known": {"uploaders": None},
    "it was released by nobody": {"release": None},
    "it was released by another": _release(by="eve@acme"),
    "it was released by another account": _release(subject=SubjectId(uuid.UUID(int=9))),
    "it was released by no person": _release(subject=None),
    "it was released later": _release(at=RELEASE.at + timedelta(seconds=1)),
    "it was released for another reason": _release(reason=""),
    "it was uploaded a microsecond later": {"created_at": VERSION.created_at + timedelta(microseconds=1)},
    "it was uploaded without a zone": {"created_at": VERSION.created_at.replace(tzinfo=None)},
    "nobody has signed it where somebody had": {"publisher": None},
    "the publisher's key is another": _publisher(key_id="other"),
    "the publisher has another name": _publisher(name="other"),
    "the publisher's signature is another": _publisher(signature=b"another"),
    "the publisher's signature has another form": _publisher(form=SignatureForm.OPENSSF_BUNDLE),
    "a finding is gone": {"findings": (FINDING,)},
    "all findings are gone": {"findings": ()},
    "a finding is added": {"findings": (FINDING, OTHER_FINDING, FINDING)},
    "a finding says something else": {"findings": ({**FINDING, "severity": "none"}, OTHER_FINDING)},
    "a finding has a member more": {"findings": ({**FINDING, "note": ""}, OTHER_FINDING)},
    "the findings are in another order": {"findings": (OTHER_FINDING, FINDING)},
    "the plan's size is a byte more": _artifacts(plain_bytes=7_001),
    "the plan's size is 2^63 - 1": _artifacts(plain_bytes=2**63 - 1),
    "the plan's size is negative": _artifacts(plain_bytes=-7_000),
    "the plan's digest is another": _artifacts(digest="dd" * 32),
    "the plan's digest is the source's": _artifacts(digest=SOURCE.digest),
    "the plan's digest is none": _artifacts(digest=""),
    "the plan is another artifact": _artifacts(artifact_id=ArtifactId(uuid.UUID(int=9))),
}

FREE: dict[str, dict[str, Any]] = {
    "nothing": {},
    "the stage: served": {"stage": Stage.SERVING},
    "the stage: retired": {"stage": Stage.RETIRED},
    "the signature over it, which a rotation renews": {"manifest": "another.statement.of-the-same"},
    "the size of the plan's blob": _artifacts(sealed_bytes=1),
    "the order of its artifacts": {"artifacts": (PLAN, SOURCE)},
    "the source, when the plan is opened": {"artifacts": (dataclasses.replace(SOURCE, digest="", plain_bytes=1), PLAN)},
}


def _refused(manifest: dict[str, object], version: ModelVersion, role: ArtifactRole = ArtifactRole.LITERT) -> None:
    with pytest.raises(SignatureRejected, match=r"^version .* of '.*' is not what its manifest says$"):
        check_manifest(manifest, version, role)


@pytest.mark.parametrize("version", [VERSION, UNSIGNED], ids=["signed by a publisher", "signed by nobody"])
def test_version_passes_that_is_what_its_manifest_says(version: ModelVersion) -> None:
    manifest = parse_canonical(canonical_json(manifest_of(version, scanners=SCANNERS)))
    assert isinstance(manifest, dict)
    assert check_manifest(manifest, version, ArtifactRole.LITERT) == 7_000
    assert check_manifest(manifest, version, ArtifactRole.SOURCE) == 5_000


def test_manifest_says_what_was_taken_in_by_whom_and_what_was_found() -> None:
    assert parse_canonical(canonical_json(MANIFEST)) == MANIFEST
    assert MANIFEST["uploaded"] == {"format": "keras", "digest": "cc" * 32, "size_bytes": 5_000}
    assert MANIFEST["signature"] == VERSION.signature.to_json()
    assert MANIFEST["published"] == {"by": "owner@acme", "at": "2026-11-23T01:02:03.456789+00:00"}
    assert MANIFEST["findings"] == [FINDING, OTHER_FINDING]
    assert MANIFEST["scanners"] == SCANNERS
    assert MANIFEST["artifacts"] == {
        "source": {"id": str(SOURCE.artifact_id), "digest": "aa" * 32, "size_bytes": 5_000},
        "litert": {"id": str(PLAN.artifact_id), "digest": "bb" * 32, "size_bytes": 7_000},
    }


def test_manifest_says_who_signed_what_was_uploaded() -> None:
    assert MANIFEST["publisher"] == {
        "key_id": PUBLISHER.key_id,
        "name": "release",
        "form": "es256",
        "signature": "c2lnbmF0dXJl",
    }
    assert manifest_of(UNSIGNED, scanners=SCANNERS)["publisher"] is None


@pytest.mark.parametrize("changes", BOUND.values(), ids=BOUND)
def test_version_is_refused_when(changes: dict[str, Any]) -> None:
    _refused(MANIFEST, dataclasses.replace(VERSION, **changes))


@pytest.mark.parametrize("changes", FREE.values(), ids=FREE)
def test_version_may_change(changes: dict[str, Any]) -> None:
    assert check_manifest(MANIFEST, dataclasses.replace(VERSION, **changes), ArtifactRole.LITERT) == 7_000


def test_version_is_refused_that_somebody_signed_where_nobody_had() -> None:
    _refused(manifest_of(UNSIGNED, scanners=SCANNERS), VERSION)


def test_manifest_from_before_there_were_publishers_passes_for_an_unsigned_row_only() -> None:
    manifest = {name: said for name, said in MANIFEST.items() if name != "publisher"}
    assert check_manifest(manifest, UNSIGNED, ArtifactRole.SOURCE) == 5_000
    _refused(manifest, VERSION)


def test_manifest_from_before_there_was_a_choice_of_plans_fits_a_version_of_one_plan() -> None:
    old = _of_format(1, "other_plans", "uploaders", "release")
    assert check_manifest(old, OLD, ArtifactRole.LITERT) == 7_000
    _refused(old, dataclasses.replace(OLD, other_plans=(ServingPlan("keras", (0, 1), (1, 0), 0.0),)))


def test_manifest_from_before_uploaders_were_noted_fits_a_version_without_them_and_without_a_release() -> None:
    old = _of_format(2, "uploaders", "release")
    assert check_manifest(old, OLD, ArtifactRole.LITERT) == 7_000
    _refused(old, VERSION)
    _refused(old, dataclasses.replace(OLD, uploaders=VERSION.uploaders))
    _refused(old, dataclasses.replace(OLD, release=RELEASE))
    _refused(MANIFEST, OLD)


def _of_format(form: int, *unknown: str) -> dict[str, object]:
    return {name: value for name, value in MANIFEST.items() if name not in unknown} | {"format": form}


@pytest.mark.parametrize(
    ("findings", "release", "stage"),
    [
        pytest.param((FINDING,), None, Stage.SERVING, id="a note, which needs no release"),
        pytest.param((REVIEW,), None, Stage.QUARANTINED, id="a person asked for, in quarantine"),
        pytest.param((REVIEW,), RELEASE, Stage.SERVING, id="a person asked for, and a release"),
        pytest.param((REFUSED,), None, Stage.QUARANTINED, id="a refusal, in quarantine"),
    ],
)
def test_version_may_be_opened_that_has(
    findings: tuple[dict[str, str], ...], release: Release | None, stage: Stage
) -> None:
    version = dataclasses.replace(VERSION, findings=findings, release=release, stage=stage)
    assert check_manifest(manifest_of(version, scanners=SCANNERS), version, ArtifactRole.LITERT) == 7_000


@pytest.mark.parametrize("stage", [Stage.STAGED, Stage.SERVING, Stage.RETIRED])
@pytest.mark.parametrize(
    ("findings", "release"),
    [
        pytest.param((REVIEW,), None, id="a person asked for, and no release"),
        pytest.param((REFUSED,), RELEASE, id="a refusal that somebody released"),
        pytest.param((REVIEW, REFUSED), RELEASE, id="a refusal besides what was released"),
    ],
)
def test_version_out_of_quarantine_is_not_opened_that_has(
    findings: tuple[dict[str, str], ...], release: Release | None, stage: Stage
) -> None:
    version = dataclasses.replace(VERSION, findings=findings, release=release, stage=stage)
    with pytest.raises(SignatureRejected, match="is out of quarantine, unreleased"):
        check_manifest(manifest_of(version, scanners=SCANNERS), version, ArtifactRole.LITERT)


def test_amended_manifest_is_of_todays_format_and_knows_the_new_rules() -> None:
    quarantined = dataclasses.replace(OLD, findings=(REVIEW,), stage=Stage.QUARANTINED)
    old = manifest_of(quarantined, scanners=SCANNERS) | {"format": 2}
    released = dataclasses.replace(quarantined, release=RELEASE, stage=Stage.STAGED)
    new = amended(old, released, scanners={"tflite": "4"})
    assert check_manifest(new, released, ArtifactRole.LITERT) == 7_000
    assert new["scanners"] == {"keras": "7", "tflite": "4"}
    assert new["artifacts"] == old["artifacts"]
    _refused(new, quarantined)


def test_every_field_of_a_version_is_bound_or_is_known_to_be_free() -> None:
    """A new field is put into the manifest, or into the table of what may change."""
    tried = {name for changes in (*BOUND.values(), *FREE.values()) for name in changes}
    assert tried == {field.name for field in dataclasses.fields(ModelVersion)}
    of_artifact = {field.name for field in dataclasses.fields(Artifact)} - {"role"}
    assert _altered_of_the_plan(BOUND) == {"artifact_id", "plain_bytes", "digest"}
    assert _altered_of_the_plan(FREE) == of_artifact - {"artifact_id", "plain_bytes", "digest"}


def _altered_of_the_plan(table: dict[str, dict[str, Any]]) -> set[str]:
    plans = [a for changes in table.values() for a in changes.get("artifacts", ()) if a.role is PLAN.role]
    names = [field.name for field in dataclasses.fields(Artifact)]
    return {name for name in names for plan in plans if getattr(plan, name) != getattr(PLAN, name)}


def _saying(artifacts: object) -> dict[str, object]:
    return {**MANIFEST, "artifacts": artifacts}


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param({}, id="nothing"),
        pytest.param({**MANIFEST, "format": 4}, id="another format"),
        pytest.param({**MANIFEST, "format": "1"}, id="a format that is text"),
        pytest.param({**MANIFEST, "format": True}, id="a format that is a truth"),
        pytest.param({**MANIFEST, "format": 0}, id="a format that never was"),
        pytest.param({**MANIFEST, "format": None}, id="a format that is null"),
        pytest.param(_saying(None), id="artifacts that are null"),
        pytest.param(_saying([]), id="artifacts that are a list"),
        pytest.param(_saying({}), id="artifacts that are none"),
        pytest.param(_saying({"litert": None}), id="an artifact that is null"),
        pytest.param(_saying({"litert": 7_000}), id="an artifact that is a number"),
        pytest.param(_saying({"litert": {"size_bytes": 7_000}}), id="an artifact without a digest"),
        pytest.param(_saying({"litert": {"digest": PLAN.digest}}), id="an artifact without a size"),
        pytest.param(_saying({"litert": {"digest": PLAN.digest, "size_bytes": "7000"}}), id="a size that is text"),
        pytest.param(_saying({"Litert": {"digest": PLAN.digest, "size_bytes": 7_000}}), id="a role in capitals"),
        *(
            pytest.param({name: said for name, said in MANIFEST.items() if name != left_out}, id=f"no {left_out}")
            for left_out in MANIFEST
            if left_out != "scanners"
        ),
    ],
)
def test_manifest_is_refused_when_it_has(manifest: dict[str, object]) -> None:
    _refused(manifest, VERSION)


def test_role_that_the_manifest_does_not_know_is_refused() -> None:
    manifest = manifest_of(dataclasses.replace(VERSION, artifacts=(PLAN,)), scanners=SCANNERS)
    _refused(manifest, VERSION, ArtifactRole.SOURCE)
    assert check_manifest(manifest, VERSION, ArtifactRole.LITERT) == 7_000


def test_role_whose_row_is_gone_is_refused() -> None:
    with pytest.raises(IntegrityFailure, match="no artifact for its role 'litert'"):
        check_manifest(MANIFEST, dataclasses.replace(VERSION, artifacts=(SOURCE,)), ArtifactRole.LITERT)


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        pytest.param(MANIFEST, "bb" * 32, id="all"),
        pytest.param({}, "", id="nothing"),
        pytest.param({"artifacts": []}, "", id="artifacts that are a list"),
        pytest.param({"artifacts": {"litert": None}}, "", id="an artifact that is null"),
        pytest.param({"artifacts": {"litert": {}}}, "", id="an artifact without a digest"),
    ],
)
def test_digest_of_an_artifact_is_told_when_the_manifest_has(manifest: dict[str, object], expected: str) -> None:
    assert digest_in(manifest, ArtifactRole.LITERT) == expected


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[tuple[Artifacts, Statements]]:
    async with open_keyring(folder) as keyring:
        await keyring.ensure(PLATFORM, Purpose.STATEMENTS)
        await keyring.ensure(VERSION.tenant, Purpose.ARTIFACTS)
        statements = Statements(keyring)
        yield Artifacts(DirectoryBlobs(folder / "blobs"), DataKeys(keyring), statements), statements


async def _stored(artifacts: Artifacts, statements: Statements, content: bytes, said: bytes) -> ModelVersion:
    """Return a version whose plan is sealed from one content, while rows and manifest speak of another."""
    place = Place(VERSION.tenant, VERSION.model_id, VERSION.version)
    sealed = await artifacts.seal(place, ArtifactRole.LITERT, [content])
    sealed = dataclasses.replace(sealed, plain_bytes=len(said), digest=sha256_hex(said))
    version = dataclasses.replace(VERSION, artifacts=(sealed,))
    return dataclasses.replace(version, manifest=await statements.sign(KIND, manifest_of(version, scanners=SCANNERS)))


@pytest.mark.anyio
async def test_version_is_not_opened_that_has_no_manifest_or_says_something_else(tmp_path: Path) -> None:
    async with _opened(tmp_path) as (artifacts, statements):
        signed = await _stored(artifacts, statements, b"plan", b"plan")
        (await artifacts.open(signed, ArtifactRole.LITERT)).close()
        uses: list[Callable[[ModelVersion], Awaitable[object]]] = [
            lambda version: artifacts.open(version, ArtifactRole.LITERT),
            lambda version: artifacts.digest(version, ArtifactRole.LITERT),
            artifacts.reseal,
        ]
        for use in uses:
            with pytest.raises(SignatureRejected, match="has no manifest; upload it again"):
                await use(dataclasses.replace(signed, manifest=""))
            with pytest.raises(SignatureRejected, match="is not what its manifest says"):
                await use(dataclasses.replace(signed, created_by="another"))


@pytest.mark.anyio
async def test_artifact_is_not_opened_that_has_another_size_than_its_manifest_says(tmp_path: Path) -> None:
    async with _opened(tmp_path) as (artifacts, statements):
        version = await _stored(artifacts, statements, b"plan", b"a plan")
        with pytest.raises(CiphertextRejected, match="does not have the size that its manifest says"):
            await artifacts.open(version, ArtifactRole.LITERT)


@pytest.mark.anyio
async def test_artifact_is_not_sealed_anew_that_has_another_digest_than_its_manifest_says(tmp_path: Path) -> None:
    async with _opened(tmp_path) as (artifacts, statements):
        version = await _stored(artifacts, statements, b"plan", b"nalp")
        with pytest.raises(CiphertextRejected, match="does not have the digest that its manifest says"):
            await artifacts.reseal(version)
        assert await artifacts.digest(version, ArtifactRole.LITERT) == sha256_hex(b"plan")
        assert len([file for file in (tmp_path / "blobs").rglob("*") if file.is_file()]) == 1
