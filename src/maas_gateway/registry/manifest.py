"""What is signed about a version: where it belongs, what was uploaded, what is served, who published it, what was found.

Rules: made when the version is taken in; sealing its artifacts anew changes their identifiers in it, a release or a
rescan changes what was found and who has released it; a new key over the same blob leaves it alone; a row that says
anything else than its manifest is not served, nor one that is out of quarantine although its findings and its release
do not let it be; an artifact that it does not name is not opened.

The stage itself is not signed: it moves often, and all that a forged one can do is to serve what could be promoted.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from maas_gateway.errors import SignatureRejected
from maas_gateway.registry.model import Artifact, ArtifactRole, ModelVersion, ServingPlan, Stage

KIND: Final = "maas-manifest"
_FORMAT: Final = 3
_SINCE: Final = MappingProxyType({"other_plans": 2, "uploaders": 3, "release": 3})
"""In which format a member came; an older manifest fits a version that has nothing there."""


def manifest_of(version: ModelVersion, *, scanners: Mapping[str, str]) -> dict[str, object]:
    """Return what is to be signed about a version.

    Args:
        version: with its artifacts.
        scanners: the version of the rules by which each format was scanned.
    """
    return {
        "format": _FORMAT,
        **_bound(version),
        "artifacts": {artifact.role.value: _described(artifact) for artifact in version.artifacts},
        "scanners": dict(scanners),
    }


def resealed(manifest: Mapping[str, object], artifacts: Iterable[Artifact]) -> dict[str, object]:
    """Return what is to be signed about a version whose artifacts have been sealed anew.

    Args:
        manifest: verified already.
        artifacts: all of the version's, as they are now.
    """
    return {**manifest, "artifacts": {artifact.role.value: _described(artifact) for artifact in artifacts}}


def amended(
    manifest: Mapping[str, object], version: ModelVersion, *, scanners: Mapping[str, str] | None = None
) -> dict[str, object]:
    """Return what is to be signed about a version after a release or a rescan; in today's format.

    Args:
        manifest: verified already, and what the version was before.
        version: as it is to be now; its artifacts are the same.
        scanners: the version of the rules by which it was scanned again, by format.
    """
    former = manifest.get("scanners")
    rules = {**(former if isinstance(former, dict) else {}), **(scanners or {})}
    return {**manifest, **_bound(version), "format": _FORMAT, "scanners": rules}


def check_bound(manifest: Mapping[str, object], version: ModelVersion) -> None:
    """Refuse a row that says something else than its manifest, its artifacts left out.

    Args:
        manifest: verified already.
        version: as the registry's rows say.

    Raises:
        SignatureRejected: they differ, or what they say together does not let it be out of quarantine.
    """
    refused = SignatureRejected(f"version {version.version} of '{version.model}' is not what its manifest says")
    form = manifest.get("format")
    if type(form) is not int or not 1 <= form <= _FORMAT:
        raise refused
    bound = _bound(version)
    for name, since in _SINCE.items():
        if form < since and bound.pop(name):
            raise refused
    if any(manifest.get(name) != value for name, value in bound.items()):
        raise refused
    if version.stage is not Stage.QUARANTINED and not version.is_admitted:
        raise SignatureRejected(f"version {version.version} of '{version.model}' is out of quarantine, unreleased")


def check_manifest(manifest: Mapping[str, object], version: ModelVersion, role: str) -> int:
    """Refuse a row that says something else than its manifest.

    Args:
        manifest: verified already.
        version: as the registry's rows say.
        role: of the artifact that is to be opened, as a row says.

    Returns:
        The plaintext size of that artifact, in bytes.

    Raises:
        SignatureRejected: they differ, or the manifest knows no such artifact.
    """
    check_bound(manifest, version)
    artifact = version.artifact(role)
    artifacts = manifest.get("artifacts")
    if not isinstance(artifacts, dict) or artifacts.get(role) != _described(artifact):
        raise SignatureRejected(f"version {version.version} of '{version.model}' is not what its manifest says")
    return artifact.plain_bytes


def digest_in(manifest: Mapping[str, object], role: ArtifactRole) -> str:
    """Return the digest, SHA-256 in hexadecimal, that a manifest gives for an artifact's plaintext; "" for none."""
    artifacts = manifest.get("artifacts")
    said = artifacts.get(role.value) if isinstance(artifacts, dict) else None
    return str(said.get("digest", "")) if isinstance(said, dict) else ""


def _bound(version: ModelVersion) -> dict[str, object]:
    return {
        "tenant": str(version.tenant),
        "model_id": str(version.model_id),
        "model": version.model,
        "version": version.version,
        "uploaded": {"format": version.format, "digest": version.digest, "size_bytes": version.size_bytes},
        "signature": version.signature.to_json(),
        "plan": _planned(version.plan),
        "other_plans": [_planned(plan) for plan in version.other_plans],
        "published": {"by": version.created_by, "at": version.created_at.isoformat()},
        "publisher": None if version.publisher is None else version.publisher.to_json(),
        "uploaders": None if version.uploaders is None else [str(subject) for subject in version.uploaders],
        "release": None if version.release is None else version.release.to_json(),
        "findings": [{name: str(text) for name, text in finding.items()} for finding in version.findings],
    }


def _planned(plan: ServingPlan) -> dict[str, object]:
    """Return a plan without floats, which canonical JSON does not have."""
    return {name: repr(value) if isinstance(value, float) else value for name, value in plan.to_json().items()}


def _described(artifact: Artifact) -> dict[str, object]:
    return {"id": str(artifact.artifact_id), "digest": artifact.digest, "size_bytes": artifact.plain_bytes}
