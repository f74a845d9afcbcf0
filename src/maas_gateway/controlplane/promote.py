"""Moving versions between stages, and labels between versions.

Rules: a promotion and, where it is exclusive, the retirement of the others are one transaction; a
label moves in one transaction and only onto a serving version; retiring a version that a label
points at is refused, because the label's callers would be left without an answer; what is in quarantine, or waits for
a person, is not promoted; where the tenant asks for a second person, its uploader does not promote a version; to load
a model is to promote its newest version, to unload it to retire all that serve, and neither fails where it is done
already.
"""

from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.four_eyes import require_second_person
from maas_gateway.database.sessions import TenantSession
from maas_gateway.errors import Conflict, IllegalTransition, LabelNotFound, ModelNotFound
from maas_gateway.identifiers import ModelRef, check_label
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize_model
from maas_gateway.principal import Principal
from maas_gateway.registry import store
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.model import Model, ModelVersion, Stage


class Promote:
    """Stage and label moves.

    Args:
        acting: what every act needs.
        artifacts: verifies manifests.
    """

    def __init__(self, acting: Acting, artifacts: Artifacts) -> None:
        self._acting = acting
        self._artifacts = artifacts

    async def promote(self, principal: Principal, ref: ModelRef, *, is_exclusive: bool = False) -> ModelVersion:
        """Have a version serve; with `is_exclusive`, retire every other.

        Raises:
            ModelNotFound: there is no such version for this caller.
            PermissionDenied: the caller may not promote, or not what it uploaded itself.
            IllegalTransition: it is in quarantine, or serves already and nothing else would change.
        """
        authorize_model(principal, Permission.MODEL_PROMOTE, ref)
        acting = self._acting
        async with acting.database.write(principal.tenant) as session:
            model, version = await found_version(session, ref)
            await require_second_person(session, self._artifacts, principal, version)
            others = [v for v in model.versions if v.stage is Stage.SERVING and v != version] if is_exclusive else []
            if version.stage is not Stage.SERVING:
                _require_released(version)
                version.check_move(Stage.SERVING)
                await store.set_stage(session, version, Stage.SERVING)
            elif not others and not is_exclusive:
                raise IllegalTransition(f"version {version.version} of '{version.model}' is serving already")
            for other in others:
                await store.set_stage(session, other, Stage.RETIRED)
            for label, pointed in model.labels.items():
                if pointed in {other.version for other in others}:
                    await store.set_label(session, model.model_id, label, version.version)
            retired = ",".join(str(other.version) for other in others)
            await acting.record(session, principal, "model.promoted", f"model {ref}", retired=retired)
            moved = await found_version(session, ref)
        acting.announce(store.TOPIC)
        return moved[1]

    async def retire(self, principal: Principal, ref: ModelRef) -> ModelVersion:
        """Have a version serve no longer.

        Raises:
            ModelNotFound: there is no such version for this caller.
            PermissionDenied: the caller may not promote.
            IllegalTransition: it does not serve.
            Conflict: a label points at it.
        """
        authorize_model(principal, Permission.MODEL_PROMOTE, ref)
        acting = self._acting
        async with acting.database.write(principal.tenant) as session:
            model, version = await found_version(session, ref)
            await self._retire(session, principal, model, version)
            moved = await found_version(session, ref)
        acting.announce(store.TOPIC)
        return moved[1]

    async def load(self, principal: Principal, ref: ModelRef) -> ModelVersion:
        """Have the version that `ref` names serve, or the model's newest; nothing is done where it serves already.

        Raises:
            ModelNotFound: there is no such model or version for this caller.
            PermissionDenied: the caller may not promote, or not what it uploaded itself.
            IllegalTransition: that version is in quarantine.
        """
        authorize_model(principal, Permission.MODEL_PROMOTE, ref)
        async with self._acting.database.read(principal.tenant) as session:
            model = await store.model(session, ref.name)
        versions = () if model is None else model.versions
        asked = [version for version in versions if ref.version in {None, version.version}]
        newest = max(asked, key=lambda version: version.version, default=None)
        if newest is None:
            raise ModelNotFound(f"model '{ref}' not found")
        if newest.stage is Stage.SERVING:
            return newest
        return await self.promote(principal, ModelRef(ref.name, newest.version))

    async def unload(self, principal: Principal, name: str) -> None:
        """Have no version of a model serve any longer.

        Raises:
            ModelNotFound: there is no such model for this caller.
            PermissionDenied: the caller may not promote.
            Conflict: a label points at a version that serves; then all go on serving.
        """
        authorize_model(principal, Permission.MODEL_PROMOTE, ModelRef(name))
        acting = self._acting
        async with acting.database.write(principal.tenant) as session:
            model = await store.model(session, name, for_update=True)
            if model is None:
                raise ModelNotFound(f"model '{name}' not found")
            for version in model.versions:
                if version.stage is Stage.SERVING:
                    await self._retire(session, principal, model, version)
        acting.announce(store.TOPIC)

    async def _retire(self, session: TenantSession, principal: Principal, model: Model, version: ModelVersion) -> None:
        version.check_move(Stage.RETIRED)
        labels = sorted(label for label, pointed in model.labels.items() if pointed == version.version)
        if labels:
            raise Conflict(f"label '{labels[0]}' points at version {version.version}; move or delete it first")
        await store.set_stage(session, version, Stage.RETIRED)
        thing = ModelRef(model.name, version.version)
        await self._acting.record(session, principal, "model.retired", f"model {thing}")

    async def label(self, principal: Principal, ref: ModelRef, version: int) -> Model:
        """Point the label that `ref` names at a serving version.

        Raises:
            InvalidRequest: the label is malformed.
            ModelNotFound: there is no such model or version for this caller.
            PermissionDenied: the caller may not promote.
            Conflict: the version does not serve.
        """
        authorize_model(principal, Permission.MODEL_PROMOTE, ref)
        label = check_label(ref.label or "")
        acting = self._acting
        async with acting.database.write(principal.tenant) as session:
            model, found = await found_version(session, ModelRef(ref.name, version))
            if found.stage is not Stage.SERVING:
                raise Conflict(
                    f"version {version} of '{ref.name}' is {found.stage}; a label points at a serving version"
                )
            before = model.labels.get(label)
            await store.set_label(session, model.model_id, label, version)
            await acting.record(session, principal, "label.moved", f"model {ref}", version=version, before=before)
            model, _ = await found_version(session, ModelRef(ref.name, version))
        acting.announce(store.TOPIC)
        return model

    async def unlabel(self, principal: Principal, ref: ModelRef) -> None:
        """Delete the label that `ref` names.

        Raises:
            ModelNotFound: there is no such model or label for this caller.
            PermissionDenied: the caller may not promote.
        """
        authorize_model(principal, Permission.MODEL_PROMOTE, ref)
        acting = self._acting
        async with acting.database.write(principal.tenant) as session:
            model = await store.model(session, ref.name, for_update=True)
            if model is None:
                raise ModelNotFound(f"model '{ref}' not found")
            if not await store.drop_label(session, model.model_id, ref.label or ""):
                raise LabelNotFound(f"model '{ref}' not found")
            await acting.record(session, principal, "label.deleted", f"model {ref}")
        acting.announce(store.TOPIC)


async def found_version(session: TenantSession, ref: ModelRef) -> tuple[Model, ModelVersion]:
    """Return a version and its model, whose row is locked until the transaction ends.

    Raises:
        ModelNotFound: there is no such version.
    """
    model = await store.model(session, ref.name, for_update=True)
    for version in () if model is None else model.versions:
        if model is not None and version.version == ref.version:
            return model, version
    raise ModelNotFound(f"model '{ref}' not found")


def _require_released(version: ModelVersion) -> None:
    what = f"version {version.version} of '{version.model}'"
    refused = version.worst("refuse")
    if refused is not None:
        raise IllegalTransition(
            f"{what} is in quarantine, and today's rules refuse it ({refused.get('where')}: {refused.get('rule')});"
            " delete it and upload a mended one"
        )
    if version.stage is Stage.QUARANTINED or version.awaits_person:
        raise IllegalTransition(
            f"{what} is {version.stage} and waits for a person: look at its findings, then release it"
            f" (POST /admin/v1/models/{version.model}/versions/{version.version}:release) or delete it"
        )
