"""What a caller may be told of its models: states, signatures, readiness."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from maas_gateway.clock import Deadline
from maas_gateway.dataplane.models import Models
from maas_gateway.dataplane.servables import Servables
from maas_gateway.errors import LabelNotFound, ModelNotFound, Unsupported
from maas_gateway.identifiers import ModelRef
from maas_gateway.inference.statistics import Statistics
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize_model, is_permitted
from maas_gateway.principal import Principal
from maas_gateway.registry.model import Model, ModelVersion, Stage

_SERVING: Final = frozenset({Stage.SERVING})
_SHOWN: Final = frozenset({Stage.SERVING, Stage.RETIRED})


class LoadState(StrEnum):
    """Where a version stands in this process."""

    LOADING = "loading"
    AVAILABLE = "available"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version's state.

    Attributes:
        version: its number.
        state: loading, available, or ended (retired, or it could not be loaded).
        reason: why it could not be loaded, else empty.
    """

    version: int
    state: LoadState
    reason: str = ""


class Describe:
    """Answers questions about models, without running them."""

    def __init__(self, models: Models, servables: Servables) -> None:
        self._models = models
        self._servables = servables

    async def status(self, principal: Principal, ref: ModelRef, deadline: Deadline) -> list[VersionStatus]:
        """Return the states of a model's versions that ever served, newest first; or of the one that `ref` names.

        Raises:
            ModelNotFound: there is no such model, version or label for this caller.
        """
        authorize_model(principal, Permission.MODEL_READ, ref)
        model = await self._models.model(principal.tenant, ref.name, deadline)
        number = _number(model, ref)
        served = [v for v in model.versions if v.stage in _SHOWN and number in {None, v.version}]
        if not served:
            raise ModelNotFound(f"model '{ref}' not found")
        return [self._status(version) for version in reversed(served)]

    async def version(self, principal: Principal, ref: ModelRef, deadline: Deadline) -> ModelVersion:
        """Return the serving version that `ref` means.

        Raises:
            ModelNotFound: there is no such model, version or label for this caller.
        """
        authorize_model(principal, Permission.MODEL_READ, ref)
        return await self._models.resolve(principal.tenant, ref, deadline)

    async def versions(self, principal: Principal, name: str, deadline: Deadline) -> list[int]:
        """Return the numbers of a model's serving versions.

        Raises:
            ModelNotFound: there is no such model for this caller.
        """
        authorize_model(principal, Permission.MODEL_READ, ModelRef(name))
        model = await self._models.model(principal.tenant, name, deadline)
        return [version.version for version in model.versions if version.stage is Stage.SERVING]

    async def is_ready(self, principal: Principal, ref: ModelRef, deadline: Deadline) -> bool:
        """Tell whether the version that `ref` means is in memory.

        Raises:
            ModelNotFound: there is no such model, version or label for this caller.
        """
        return self._servables.ready(await self.version(principal, ref, deadline)) is not None

    async def statistics(
        self, principal: Principal, ref: ModelRef | None, deadline: Deadline
    ) -> list[tuple[ModelVersion, Statistics]]:
        """Return what this process has computed since it loaded them: serving versions of the tenant's own models.

        Args:
            principal: who asks.
            ref: of which model or version; None for every model that the caller may read.
            deadline: when an answer is of no use any more.

        Raises:
            ModelNotFound: there is no such model, version or label for this caller.
            Unsupported: the model is another tenant's: its counts would tell what others do.
        """
        if ref is None:
            readable = [name for name in await self.names(principal) if "." not in name]
            found = [await self._serving(principal, ModelRef(name), deadline) for name in readable]
            versions = [version for each in found for version in each]
        elif ref.version is None and ref.label is None:
            versions = await self._serving(principal, ref, deadline)
        else:
            versions = [await self.version(principal, ref, deadline)]
        if any(version.tenant != principal.tenant for version in versions):
            raise Unsupported(f"statistics of '{ref}' are its owner's, who shares the model")
        counts = [(version, self._servables.ready(version)) for version in versions]
        return [(version, Statistics() if one is None else one.batcher.counts) for version, one in counts]

    async def _serving(self, principal: Principal, ref: ModelRef, deadline: Deadline) -> list[ModelVersion]:
        authorize_model(principal, Permission.MODEL_READ, ref)
        model = await self._models.model(principal.tenant, ref.name, deadline)
        serving = [version for version in model.versions if version.stage is Stage.SERVING]
        if not serving:
            raise ModelNotFound(f"model '{ref}' not found")
        return serving

    async def names(self, principal: Principal, *, stages: AbstractSet[Stage] = _SERVING) -> list[str]:
        """Return the names of the models that the caller may read, shared ones too.

        Args:
            principal: who asks.
            stages: a model is named if one of its versions stands in one of them; if one serves, unless said otherwise.
        """
        return [
            name
            for name, model in await self._models.every(principal.tenant)
            if is_permitted(principal, Permission.MODEL_READ, name)
            and any(version.stage in stages for version in model.versions)
        ]

    async def every_status(self, principal: Principal, deadline: Deadline) -> list[tuple[str, VersionStatus]]:
        """Return the state of every version that ever served of the models that the caller may read, by model."""
        found: list[tuple[str, VersionStatus]] = []
        for name in await self.names(principal, stages=_SHOWN):
            try:
                found += [(name, status) for status in await self.status(principal, ModelRef(name), deadline)]
            except ModelNotFound:  # it went while we asked
                continue
        return found

    def _status(self, version: ModelVersion) -> VersionStatus:
        if version.stage is Stage.RETIRED:
            return VersionStatus(version.version, LoadState.ENDED)
        if self._servables.ready(version) is not None:
            return VersionStatus(version.version, LoadState.AVAILABLE)
        failure = self._servables.failure(version)
        if failure is not None:
            return VersionStatus(version.version, LoadState.ENDED, failure.detail)
        return VersionStatus(version.version, LoadState.LOADING)


def _number(model: Model, ref: ModelRef) -> int | None:
    if ref.label is None:
        return ref.version
    if ref.label not in model.labels:
        raise LabelNotFound(f"model '{ref}' not found")
    return model.labels[ref.label]
