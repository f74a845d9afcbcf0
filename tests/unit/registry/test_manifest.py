"""What a row may say: what its manifest says, the publisher included."""

import dataclasses
from datetime import UTC, datetime

import pytest

from maas_gateway.crypto.digests import canonical_json, parse_canonical
from maas_gateway.errors import SignatureRejected
from maas_gateway.identifiers import ArtifactId, ModelId, TenantId, new_id
from maas_gateway.registry.manifest import check_manifest, manifest_of
from maas_gateway.registry.model import Artifact, ArtifactRole, ModelVersion, ServingPlan, Stage
from maas_gateway.registry.publishers import Publisher, SignatureForm
from maas_gateway.tensors.signature import ModelSignature

PUBLISHER = Publisher("oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U", "release", SignatureForm.ES256, b"signature")


def _version(publisher: Publisher | None) -> ModelVersion:
    return ModelVersion(
        tenant=TenantId(new_id()),
        model_id=ModelId(new_id()),
        model="bc",
        version=1,
        stage=Stage.STAGED,
        format="keras",
        digest="00" * 32,
        size_bytes=5,
        signature=ModelSignature.from_json({"inputs": [], "outputs": []}),
        plan=ServingPlan("litert", (), (), 0.0),
        created_by="owner@acme",
        created_at=datetime(2026, 1, 5, tzinfo=UTC),
        artifacts=(Artifact(ArtifactId(new_id()), ArtifactRole.SOURCE, 5, 100, "00" * 32),),
        publisher=publisher,
    )


def _manifest(version: ModelVersion) -> dict[str, object]:
    manifest = parse_canonical(canonical_json(manifest_of(version, scanners={"keras": "1"})))
    assert isinstance(manifest, dict)
    return manifest


def test_manifest_says_who_signed_what_was_uploaded() -> None:
    assert _manifest(_version(PUBLISHER))["publisher"] == {
        "key_id": PUBLISHER.key_id,
        "name": "release",
        "form": "es256",
        "signature": "c2lnbmF0dXJl",
    }
    assert _manifest(_version(None))["publisher"] is None


@pytest.mark.parametrize("publisher", [PUBLISHER, None], ids=["signed", "unsigned"])
def test_row_that_says_the_same_passes(publisher: Publisher | None) -> None:
    version = _version(publisher)
    assert check_manifest(_manifest(version), version, ArtifactRole.SOURCE) == 5


def test_manifest_from_before_there_were_publishers_passes_for_an_unsigned_row_only() -> None:
    version = _version(None)
    manifest = _manifest(version)
    del manifest["publisher"]
    assert check_manifest(manifest, version, ArtifactRole.SOURCE) == 5
    with pytest.raises(SignatureRejected):
        check_manifest(manifest, dataclasses.replace(version, publisher=PUBLISHER), ArtifactRole.SOURCE)


@pytest.mark.parametrize(
    ("said", "row"),
    [
        pytest.param(PUBLISHER, None, id="nobody, where somebody signed"),
        pytest.param(None, PUBLISHER, id="somebody, where nobody signed"),
        pytest.param(PUBLISHER, dataclasses.replace(PUBLISHER, key_id="other"), id="another key"),
        pytest.param(PUBLISHER, dataclasses.replace(PUBLISHER, name="other"), id="another name"),
        pytest.param(PUBLISHER, dataclasses.replace(PUBLISHER, form=SignatureForm.OPENSSF_BUNDLE), id="another form"),
        pytest.param(PUBLISHER, dataclasses.replace(PUBLISHER, signature=b"other"), id="another signature"),
    ],
)
def test_row_is_refused_that_says_of_its_publisher(said: Publisher | None, row: Publisher | None) -> None:
    version = _version(said)
    manifest = _manifest(version)
    with pytest.raises(SignatureRejected, match="is not what its manifest says"):
        check_manifest(manifest, dataclasses.replace(version, publisher=row), ArtifactRole.SOURCE)
