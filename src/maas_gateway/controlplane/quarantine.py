"""Letting a version out of quarantine, on a person's word.

Rules: what a scanner refuses is not released, whoever asks; what waits for a person is, by whoever may promote it and,
where the tenant asks for a second person, has not uploaded it; the release stands in the version's manifest, signed
anew, so that no row can say that there was one. A version that serves on while it waits for a person is released where
it stands.
"""

from dataclasses import replace

from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.four_eyes import require_second_person
from maas_gateway.controlplane.promote import found_version
from maas_gateway.errors import Conflict, IllegalTransition, InvalidRequest
from maas_gateway.identifiers import ModelRef
from maas_gateway.keyring.statements import Statements
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize_model
from maas_gateway.principal import Principal
from maas_gateway.registry import store
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.manifest import KIND, amended, check_bound
from maas_gateway.registry.model import ModelVersion, Stage
from maas_gateway.registry.release import MAX_REASON, Release


class Quarantine:
    """The way out of quarantine.

    Args:
        acting: what every act needs.
        artifacts: verifies manifests.
        statements: signs them.
    """

    def __init__(self, acting: Acting, artifacts: Artifacts, statements: Statements) -> None:
        self._acting = acting
        self._artifacts = artifacts
        self._statements = statements

    async def release(self, principal: Principal, ref: ModelRef, *, reason: str = "") -> ModelVersion:
        """Have a version be `staged` that was in quarantine.

        Args:
            principal: who has looked at it.
            ref: which version.
            reason: why it is good, for the record; at most 300 characters.

        Raises:
            ModelNotFound: there is no such version for this caller.
            PermissionDenied: the caller may not promote, or not what it uploaded itself.
            IllegalTransition: it does not wait for a person, or a finding refuses it.
            InvalidRequest: the reason is too long.
            SignatureRejected: it is not what its manifest says.
            Conflict: it was changed meanwhile.
        """
        authorize_model(principal, Permission.MODEL_PROMOTE, ref)
        if len(reason) > MAX_REASON:
            raise InvalidRequest(f"reason: at most {MAX_REASON} characters")
        acting = self._acting
        async with acting.database.write(principal.tenant) as session:
            _, version = await found_version(session, ref)
            await require_second_person(session, self._artifacts, principal, version)
            _check_releasable(version)
            released = await self._signed(
                version, Release(principal.name, acting.clock.now(), reason, principal.subject)
            )
            if not await store.amend(session, version, released):
                raise Conflict(f"model '{ref}' is being changed; try again", retry_after_s=1)
            rules = ",".join(sorted({str(f.get("rule")) for f in version.findings if f.get("severity") == "review"}))
            await acting.record(session, principal, "model.released", f"model {ref}", reason=reason, rules=rules)
        acting.announce(store.TOPIC)
        return released

    async def _signed(self, version: ModelVersion, release: Release) -> ModelVersion:
        manifest = await self._artifacts.manifest(version)
        check_bound(manifest, version)
        stage = Stage.STAGED if version.stage is Stage.QUARANTINED else version.stage
        released = replace(version, stage=stage, release=release)
        return replace(released, manifest=await self._statements.sign(KIND, amended(manifest, released)))


def _check_releasable(version: ModelVersion) -> None:
    what = f"version {version.version} of '{version.model}'"
    refused = version.worst("refuse")
    if refused is not None:
        raise IllegalTransition(
            f"today's rules refuse {what} ({refused.get('where')}: {refused.get('rule')}), and nobody can release it;"
            " delete it and upload a mended one, or have it scanned again once the rules have changed"
        )
    if version.stage is not Stage.QUARANTINED and not version.awaits_person:
        raise IllegalTransition(f"{what} is {version.stage}; nothing keeps it from being promoted")
