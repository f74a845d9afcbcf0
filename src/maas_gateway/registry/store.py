"""Models in the database, and whose signatures a tenant takes.

Every change of a model raises the topic `registry`, which the data plane follows. Publishers' keys and
rules have no topic: whoever decides by them reads them then.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping

from maas_gateway.database.paging import Asked, Page
from maas_gateway.database.sessions import Session, TenantSession
from maas_gateway.identifiers import ArtifactId, ModelId, SubjectId, TenantId, new_id
from maas_gateway.keyring.statements import key_of
from maas_gateway.registry.model import Artifact, ArtifactRole, Model, ModelVersion, ServingPlan, Stage
from maas_gateway.registry.publishers import Publisher, PublisherKey, PublishingRules
from maas_gateway.registry.release import Release
from maas_gateway.registry.tables import (
    ARTIFACTS,
    LABELS,
    MODEL_VERSIONS,
    MODELS,
    PUBLISHER_KEYS,
    PUBLISHING_RULES,
)
from maas_gateway.tensors.signature import ModelSignature

TOPIC: Final = "registry"


@dataclass(frozen=True, slots=True)
class Stored:
    """How much a tenant has stored.

    Attributes:
        sealed_bytes: of all blobs that its versions name.
        n_versions: of all its models, whatever their stage.
    """

    sealed_bytes: int
    n_versions: int


_NO_SIGNATURE: Final = ModelSignature((), ()).to_json()
_NO_PLAN: Final = ServingPlan("", (), (), 0.0).to_json()


async def model(session: TenantSession, name: str, *, for_update: bool = False) -> Model | None:
    """Return one model whole, or None."""
    row = await session.row(MODELS, MODELS.c.name == name, for_update=for_update)
    if row is None:
        return None
    (found,) = await _whole(session, [row], only=[row["id"]])
    return found


async def models(session: Session) -> tuple[Model, ...]:
    """Return all models that the session sees, whole, by name."""
    return await _whole(session, await session.rows(MODELS, order_by=[MODELS.c.name]))


async def models_page(session: TenantSession, asked: Asked, *, among: Collection[str] | None = None) -> Page[Model]:
    """Return a page of the tenant's models, whole, by name, perhaps only of those with certain names."""
    where = [] if among is None else [MODELS.c.name.in_(among)]
    rows, following = await session.page(MODELS, *where, order_by=[MODELS.c.name], asked=asked)
    return Page(await _whole(session, rows, only=[row["id"] for row in rows]), following)


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
        other_plans=[plan.to_json() for plan in version.other_plans],
        created_by=version.created_by,
        created_at=version.created_at,
        publisher=None if version.publisher is None else version.publisher.to_json(),
        uploaders=None if version.uploaders is None else [str(subject) for subject in version.uploaders],
        release=None if version.release is None else version.release.to_json(),
        manifest=version.manifest or None,
        manifest_key=key_of(version.manifest) if version.manifest else None,
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
            digest=artifact.digest,
        )
    await session.bump(TOPIC)


async def amend(session: TenantSession, old: ModelVersion, new: ModelVersion) -> bool:
    """Write a version's stage, findings and release, with the manifest that says so; return whether it was the old one still."""
    n_rows = await session.update(
        MODEL_VERSIONS,
        MODEL_VERSIONS.c.model_id == old.model_id,
        MODEL_VERSIONS.c.version == old.version,
        MODEL_VERSIONS.c.manifest == old.manifest,
        MODEL_VERSIONS.c.stage == old.stage.value,
        stage=new.stage.value,
        findings=[dict(finding) for finding in new.findings],
        release=None if new.release is None else new.release.to_json(),
        manifest=new.manifest,
        manifest_key=key_of(new.manifest),
    )
    await session.bump(TOPIC)
    return bool(n_rows)


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


async def drop_labels_of(session: TenantSession, version: ModelVersion) -> list[str]:
    """Delete every label that points at a version; return them."""
    where = (LABELS.c.model_id == version.model_id, LABELS.c.version == version.version)
    labels = [row["label"] for row in await session.rows(LABELS, *where, order_by=[LABELS.c.label])]
    await session.delete(LABELS, *where)
    return labels


async def drop_model(session: TenantSession, model: Model) -> None:
    """Delete a model's rows, with those of its versions and labels; its blobs become litter."""
    for table in (LABELS, ARTIFACTS, MODEL_VERSIONS):
        await session.delete(table, table.c.model_id == model.model_id)
    await session.delete(MODELS, MODELS.c.id == model.model_id)
    await session.bump(TOPIC)


async def drop_version(session: TenantSession, version: ModelVersion) -> None:
    """Delete a version's rows; its blobs become litter."""
    for table in (ARTIFACTS, MODEL_VERSIONS):
        await session.delete(table, table.c.model_id == version.model_id, table.c.version == version.version)
    await session.bump(TOPIC)


async def stored(session: TenantSession) -> Stored:
    """Return how much the tenant has stored."""
    (sums,) = await session.sums(ARTIFACTS, by=(), of=["sealed_bytes"])
    return Stored(int(sums["sealed_bytes"] or 0), await session.count(MODEL_VERSIONS))


async def n_versions(session: Session) -> int:
    """Return how many versions the session sees."""
    return await session.count(MODEL_VERSIONS)


async def signed_by_others(session: Session, key_id: str, *, limit: int) -> Sequence[tuple[uuid.UUID, int, str]]:
    """Return model, number and manifest of versions whose manifest another key than that one signed."""
    rows = await session.rows(
        MODEL_VERSIONS, MODEL_VERSIONS.c.manifest_key.is_not(None), MODEL_VERSIONS.c.manifest_key != key_id, limit=limit
    )
    return [(row["model_id"], row["version"], row["manifest"]) for row in rows]


async def n_signed_by(session: Session, key_id: str) -> int:
    """Return how many manifests a key has signed."""
    return await session.count(MODEL_VERSIONS, MODEL_VERSIONS.c.manifest_key == key_id)


async def sign_first(session: TenantSession, version: ModelVersion) -> None:
    """Write the manifest of a version that has none, and its artifacts' digests."""
    is_unsigned = (
        MODEL_VERSIONS.c.model_id == version.model_id,
        MODEL_VERSIONS.c.version == version.version,
        MODEL_VERSIONS.c.manifest.is_(None),
    )
    signed = {"manifest": version.manifest, "manifest_key": key_of(version.manifest)}
    if await session.update(MODEL_VERSIONS, *is_unsigned, **signed):
        for artifact in version.artifacts:
            await session.update(ARTIFACTS, ARTIFACTS.c.id == artifact.artifact_id, digest=artifact.digest)
    await session.bump(TOPIC)


async def sign_again(session: Session, model_id: uuid.UUID, version: int, *, before: str, after: str) -> bool:
    """Put a new manifest in the place of the old one; return whether the row was there and had the old one still."""
    n_rows = await session.update(
        MODEL_VERSIONS,
        MODEL_VERSIONS.c.model_id == model_id,
        MODEL_VERSIONS.c.version == version,
        MODEL_VERSIONS.c.manifest == before,
        manifest=after,
        manifest_key=key_of(after),
    )
    await session.bump(TOPIC)
    return bool(n_rows)


async def swap_artifacts(session: TenantSession, old: ModelVersion, new: ModelVersion) -> bool:
    """Have a version name its new artifacts, and have the manifest that does; return whether it was the old one still."""
    if not await sign_again(session, old.model_id, old.version, before=old.manifest, after=new.manifest):
        return False
    for artifact in new.artifacts:
        former = ARTIFACTS.c.id == old.artifact(artifact.role).artifact_id
        sizes = {"plain_bytes": artifact.plain_bytes, "sealed_bytes": artifact.sealed_bytes}
        await session.update(ARTIFACTS, former, id=artifact.artifact_id, digest=artifact.digest, **sizes)
    return True


async def known_artifacts(session: Session) -> frozenset[uuid.UUID]:
    """Return every artifact that the session sees."""
    return frozenset(row["id"] for row in await session.rows(ARTIFACTS))


async def publisher_keys(session: TenantSession) -> tuple[PublisherKey, ...]:
    """Return the tenant's publisher keys by name."""
    rows = await session.rows(PUBLISHER_KEYS, order_by=[PUBLISHER_KEYS.c.name])
    return tuple(
        PublisherKey(row["key_id"], TenantId(row["tenant_id"]), row["name"], row["jwk"], row["created_at"])
        for row in rows
    )


async def add_publisher_key(session: TenantSession, key: PublisherKey) -> None:
    """Write a new publisher key.

    Raises:
        Conflict: the tenant has that key, or one of that name.
    """
    values = {"key_id": key.key_id, "name": key.name, "jwk": dict(key.jwk)}
    await session.insert(PUBLISHER_KEYS, **values, created_at=key.created_at)


async def drop_publisher_key(session: TenantSession, key_id: str) -> bool:
    """Delete a publisher key; return whether there was such a one."""
    return bool(await session.delete(PUBLISHER_KEYS, PUBLISHER_KEYS.c.key_id == key_id))


async def publishing_rules(session: TenantSession) -> PublishingRules:
    """Return what the tenant demands; one that has said nothing demands nothing."""
    row = await session.row(PUBLISHING_RULES)
    return PublishingRules() if row is None else _rules(row)


async def lock_publishing_rules(session: TenantSession) -> PublishingRules:
    """Return the same; until the transaction ends nobody else gets past this in the same tenant."""
    return _rules(await session.insert_or_lock(PUBLISHING_RULES, **asdict(PublishingRules())))


async def set_publishing_rules(session: TenantSession, rules: PublishingRules) -> None:
    """Write what the tenant demands."""
    await session.insert_unless_there(PUBLISHING_RULES, **asdict(rules))
    await session.update(PUBLISHING_RULES, **asdict(rules))


async def drop_publishing(session: TenantSession) -> None:
    """Delete every publisher key and the rule of the session's tenant."""
    for table in (PUBLISHER_KEYS, PUBLISHING_RULES):
        await session.delete(table)


async def _whole(
    session: Session, rows: Sequence[RowMapping], *, only: Collection[uuid.UUID] | None = None
) -> tuple[Model, ...]:
    def of(column: ColumnElement[uuid.UUID]) -> list[ColumnElement[bool]]:
        return [] if only is None else [column.in_(only)]

    owners = {row["id"]: (row["name"], TenantId(row["tenant_id"])) for row in rows}
    artifacts: dict[tuple[uuid.UUID, int], list[Artifact]] = defaultdict(list)
    for row in await session.rows(ARTIFACTS, *of(ARTIFACTS.c.model_id)):
        if row["role"] in set(ArtifactRole):  # one bad row must not hide every model; its version will miss it
            artifacts[row["model_id"], row["version"]].append(_artifact(row))
    versions: dict[uuid.UUID, list[ModelVersion]] = defaultdict(list)
    found = await session.rows(MODEL_VERSIONS, *of(MODEL_VERSIONS.c.model_id), order_by=[MODEL_VERSIONS.c.version])
    for row in found:
        if row["model_id"] in owners:  # a model that came since is seen whole next time
            sealed = tuple(artifacts[row["model_id"], row["version"]])
            versions[row["model_id"]].append(_version_or_broken(row, *owners[row["model_id"]], sealed))
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


def _rules(row: RowMapping) -> PublishingRules:
    return PublishingRules(bool(row["requires_signature"]), bool(row["requires_second_person"]))


def _artifact(row: RowMapping) -> Artifact:
    role = ArtifactRole(row["role"])
    return Artifact(ArtifactId(row["id"]), role, row["plain_bytes"], row["sealed_bytes"], row["digest"])


def _version_or_broken(row: RowMapping, name: str, owner: TenantId, artifacts: tuple[Artifact, ...]) -> ModelVersion:
    """Read a version; of one that cannot be read, make one that no manifest fits, so that loading it raises the alarm."""
    try:
        if row["tenant_id"] != owner:
            raise ValueError("the version is one tenant's and its model another's")  # noqa: TRY301  read as broken
        return _version(dict(row), name, owner, artifacts)
    except (AttributeError, KeyError, TypeError, ValueError):
        stage = row["stage"] if row["stage"] in set(Stage) else Stage.SERVING
        nothing: dict[str, Any] = {
            "signature": _NO_SIGNATURE,
            "plan": _NO_PLAN,
            "other_plans": None,
            "findings": [],
            "publisher": None,
            "uploaders": None,
            "release": None,
            "stage": stage,
        }
        return _version({**row, **nothing}, name, owner, artifacts)


def _version(row: Mapping[str, Any], name: str, owner: TenantId, artifacts: tuple[Artifact, ...]) -> ModelVersion:
    return ModelVersion(
        tenant=owner,  # the model's, to whom it would be served: the manifest says whose it is
        model_id=ModelId(row["model_id"]),
        model=name,
        version=row["version"],
        stage=Stage(row["stage"]),
        format=row["format"],
        digest=row["digest"],
        size_bytes=row["size_bytes"],
        signature=ModelSignature.from_json(row["signature"]),
        plan=ServingPlan.from_json(row["plan"]),
        other_plans=tuple(ServingPlan.from_json(plan) for plan in row["other_plans"] or ()),
        findings=tuple(row["findings"]),
        artifacts=artifacts,
        created_by=row["created_by"],
        created_at=row["created_at"],
        publisher=None if row["publisher"] is None else Publisher.from_json(row["publisher"]),
        uploaders=None if row["uploaders"] is None else tuple(SubjectId(uuid.UUID(text)) for text in row["uploaders"]),
        release=None if row["release"] is None else Release.from_json(row["release"]),
        manifest=row["manifest"] or "",
    )
