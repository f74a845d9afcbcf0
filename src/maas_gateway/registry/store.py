"""Models in the database. Every change raises the topic `registry`, which the data plane follows."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, RowMapping

from maas_gateway.database.sessions import Session, TenantSession
from maas_gateway.identifiers import ArtifactId, ModelId, TenantId, new_id
from maas_gateway.registry.model import Artifact, ArtifactRole, Model, ModelVersion, ServingPlan, Stage
from maas_gateway.registry.tables import ARTIFACTS, LABELS, MODEL_VERSIONS, MODELS
from maas_gateway.tensors.signature import ModelSignature

TOPIC: Final = "registry"


async def model(session: TenantSession, name: str, *, for_update: bool = False) -> Model | None:
    """Return one model whole, or None."""
    row = await session.row(MODELS, MODELS.c.name == name, for_update=for_update)
    if row is None:
        return None
    (found,) = await _whole(session, [row], only=row["id"])
    return found


async def models(session: Session) -> tuple[Model, ...]:
    """Return all models that the session sees, whole, by name."""
    return await _whole(session, await session.rows(MODELS, order_by=[MODELS.c.name]))


async def ensure_model(session: TenantSession, name: str, now: datetime) -> Model:
    """Return the model of that name, made if it is new; its row is locked."""
    found = await model(session, name, for_update=True)
    if found is not None:
        return found
    made = Model(ModelId(new_id()), session.tenant, name, now)
    await session.insert(MODELS, id=made.model_id, name=name, created_at=now)
    return made


async def add_version(session: TenantSession, version: ModelVersion) -> None:
    """Write a new version and its artifacts.

    Raises:
        Conflict: the number is taken.
    """
    await session.insert(
        MODEL_VERSIONS,
        model_id=version.model_id,
        version=version.version,
        stage=version.stage.value,
        format=version.format,
        digest=version.digest,
        size_bytes=version.size_bytes,
        signature=version.signature.to_json(),
        findings=[dict(finding) for finding in version.findings],
        plan=version.plan.to_json(),
        created_by=version.created_by,
        created_at=version.created_at,
    )
    for artifact in version.artifacts:
        await session.insert(
            ARTIFACTS,
            id=artifact.artifact_id,
            model_id=version.model_id,
            version=version.version,
            role=artifact.role.value,
            plain_bytes=artifact.plain_bytes,
            sealed_bytes=artifact.sealed_bytes,
        )
    await session.bump(TOPIC)


async def set_stage(session: TenantSession, version: ModelVersion, stage: Stage) -> None:
    """Write a version's stage."""
    await session.update(
        MODEL_VERSIONS,
        MODEL_VERSIONS.c.model_id == version.model_id,
        MODEL_VERSIONS.c.version == version.version,
        stage=stage.value,
    )
    await session.bump(TOPIC)


async def set_label(session: TenantSession, model_id: ModelId, label: str, version: int) -> None:
    """Point a label at a version."""
    where = (LABELS.c.model_id == model_id, LABELS.c.label == label)
    if not await session.update(LABELS, *where, version=version):
        await session.insert(LABELS, model_id=model_id, label=label, version=version)
    await session.bump(TOPIC)


async def drop_label(session: TenantSession, model_id: ModelId, label: str) -> bool:
    """Delete a label; return whether there was such a one."""
    gone = await session.delete(LABELS, LABELS.c.model_id == model_id, LABELS.c.label == label)
    await session.bump(TOPIC)
    return bool(gone)


async def drop_version(session: TenantSession, version: ModelVersion) -> None:
    """Delete a version's rows; its blobs become litter."""
    for table in (ARTIFACTS, MODEL_VERSIONS):
        await session.delete(table, table.c.model_id == version.model_id, table.c.version == version.version)
    await session.bump(TOPIC)


async def known_artifacts(session: Session) -> frozenset[uuid.UUID]:
    """Return every artifact that the session sees."""
    return frozenset(row["id"] for row in await session.rows(ARTIFACTS))


async def _whole(session: Session, rows: Sequence[RowMapping], *, only: uuid.UUID | None = None) -> tuple[Model, ...]:
    def of(column: ColumnElement[uuid.UUID]) -> list[ColumnElement[bool]]:
        return [] if only is None else [column == only]

    names = {row["id"]: row["name"] for row in rows}
    artifacts: dict[tuple[uuid.UUID, int], list[Artifact]] = defaultdict(list)
    for row in await session.rows(ARTIFACTS, *of(ARTIFACTS.c.model_id)):
        if row["role"] in set(ArtifactRole):  # one bad row must not hide every model; its version will miss it
            artifacts[row["model_id"], row["version"]].append(_artifact(row))
    versions: dict[uuid.UUID, list[ModelVersion]] = defaultdict(list)
    found = await session.rows(MODEL_VERSIONS, *of(MODEL_VERSIONS.c.model_id), order_by=[MODEL_VERSIONS.c.version])
    for row in found:
        if row["model_id"] in names:  # a model that came since is seen whole next time
            sealed = tuple(artifacts[row["model_id"], row["version"]])
            versions[row["model_id"]].append(_version(row, names[row["model_id"]], sealed))
    labels: dict[uuid.UUID, dict[str, int]] = defaultdict(dict)
    for row in await session.rows(LABELS, *of(LABELS.c.model_id)):
        labels[row["model_id"]][row["label"]] = row["version"]
    return tuple(
        Model(
            model_id=ModelId(row["id"]),
            tenant=TenantId(row["tenant_id"]),
            name=row["name"],
            created_at=row["created_at"],
            versions=tuple(versions[row["id"]]),
            labels=labels[row["id"]],
        )
        for row in rows
    )


def _artifact(row: RowMapping) -> Artifact:
    return Artifact(ArtifactId(row["id"]), ArtifactRole(row["role"]), row["plain_bytes"], row["sealed_bytes"])


def _version(row: RowMapping, name: str, artifacts: tuple[Artifact, ...]) -> ModelVersion:
    return ModelVersion(
        tenant=TenantId(row["tenant_id"]),
        model_id=ModelId(row["model_id"]),
        model=name,
        version=row["version"],
        stage=Stage(row["stage"]),
        format=row["format"],
        digest=row["digest"],
        size_bytes=row["size_bytes"],
        signature=ModelSignature.from_json(row["signature"]),
        plan=ServingPlan.from_json(row["plan"]),
        findings=tuple(row["findings"]),
        artifacts=artifacts,
        created_by=row["created_by"],
        created_at=row["created_at"],
    )
