"""Following the registry: what it says is served becomes what is in memory.

Rules: a model's new state is published to callers only once every version that it wants is in
memory (or is known not to load), and what it no longer wants is unloaded after that, so a swap
drops no request; a change that needs no loading is published at once. Whoever asks for what is not
known makes the registry be read again, at a bounded rate, before anything is refused.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from maas_gateway.clock import Clock, Deadline
from maas_gateway.database.changes import Changes
from maas_gateway.database.engine import Database
from maas_gateway.database.unscoped import read_all
from maas_gateway.dataplane.servables import Servables
from maas_gateway.errors import LabelNotFound, ModelNotFound
from maas_gateway.identifiers import ModelRef, TenantId
from maas_gateway.registry import store
from maas_gateway.registry.model import Model, ModelVersion, Stage

_LOOK_PAUSE_S = 0.05

Key = tuple[TenantId, str]
Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Reconciler:
    """The registry as this process serves it."""

    def __init__(
        self, database: Database, changes: Changes, servables: Servables, *, clock: Clock, spawn: Spawn
    ) -> None:
        self._database = database
        self._changes = changes
        self._servables = servables
        self._clock = clock
        self._spawn = spawn
        self._published: dict[Key, Model] = {}
        self._latest: dict[Key, ModelVersion | None] = {}
        self._wanted: dict[Key, Model] = {}
        self._applying: dict[Key, asyncio.Event] = {}
        self._generation = 1
        self._read_generation = 0
        self._wake = asyncio.Event()
        self._reading = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._looked_at_s = 0.0
        changes.listen(store.TOPIC, self._stale)

    @property
    def is_stale(self) -> bool:
        """Whether the registry has changed since it was last read to the end."""
        return self._read_generation != self._generation

    @property
    def is_applying(self) -> bool:
        """Whether something that the registry says is not in force yet: read, and being loaded or unloaded."""
        return self.is_stale or bool(self._applying)

    def published(self, tenant: TenantId) -> list[Model]:
        """Return the tenant's models as they are served, by name."""
        return [model for (owner, _), model in sorted(self._published.items(), key=_by_name) if owner == tenant]

    def published_as(self, tenant: TenantId, name: str) -> Model | None:
        """Return one model as it is served, or None; never waits."""
        return self._published.get((tenant, name))

    def find(self, tenant: TenantId, ref: ModelRef) -> ModelVersion | None:
        """Return the serving version that `ref` means, or None; never waits."""
        if ref.version is None and ref.label is None:
            return self._latest.get((tenant, ref.name))
        model = self._published.get((tenant, ref.name))
        return None if model is None else _meant(model, ref)

    async def resolve(self, tenant: TenantId, ref: ModelRef, deadline: Deadline) -> ModelVersion:
        """Return the serving version that `ref` means.

        Raises:
            ModelNotFound: the tenant serves none such.
            LabelNotFound: the model has no such label.
        """
        await self.refresh()
        found = self.find(tenant, ref)
        if found is None:
            await self.settle(tenant, ref.name, deadline)
            found = self.find(tenant, ref)
        if found is None:
            is_known = (tenant, ref.name) in self._published
            error = LabelNotFound if ref.label is not None and is_known else ModelNotFound
            raise error(f"model '{ref}' not found")
        return found

    async def model(self, tenant: TenantId, name: str, deadline: Deadline) -> Model:
        """Return a model as it is served, staged and retired versions included.

        Raises:
            ModelNotFound: the tenant has none of that name.
        """
        await self.refresh()
        if (tenant, name) not in self._published:
            await self.settle(tenant, name, deadline)
        if (tenant, name) not in self._published:
            raise ModelNotFound(f"model '{name}' not found")
        return self._published[tenant, name]

    async def settle(self, tenant: TenantId, name: str, deadline: Deadline) -> None:
        """Wait until a model is served as the registry says now, or the deadline has passed."""
        asked_at_s = self._clock.monotonic_s()
        async with self._looking:
            if self._looked_at_s < asked_at_s:
                await asyncio.sleep(max(0.0, self._looked_at_s + _LOOK_PAUSE_S - asked_at_s))
                self._looked_at_s = self._clock.monotonic_s()
                await self._changes.look()
        await self.refresh()
        applied = self._applying.get((tenant, name))
        if applied is not None:
            try:
                await asyncio.wait_for(applied.wait(), max(0.0, deadline.left_s()))
            except TimeoutError:
                return

    async def refresh(self) -> None:
        """Read the registry if it has changed, and begin to apply what is new."""
        if not self.is_stale:
            return
        async with self._reading:
            if not self.is_stale:
                return
            generation = self._generation
            async with read_all(self._database) as session:
                models = await store.models(session)
            found = {(model.tenant, model.name): model for model in models}
            for key in [key for key in self._wanted if key not in found]:
                gone = self._wanted.pop(key)
                self._published.pop(key, None)
                self._latest.pop(key, None)
                self._servables.keep_only(gone.model_id, frozenset())
            for key, model in found.items():
                if self._wanted.get(key) != model:
                    self._wanted[key] = model
                    self._apply(key)
            self._read_generation = generation

    async def run(self) -> None:
        """Refresh whenever the registry has changed, until cancelled."""
        while True:
            await self.refresh()
            await self._wake.wait()
            self._wake.clear()

    def _stale(self) -> None:
        self._generation += 1
        self._wake.set()

    def _apply(self, key: Key) -> None:
        model = self._wanted[key]
        self._servables.forget_failures(model.model_id)
        if all(self._servables.ready(version) is not None for version in _serving(model)):
            self._publish(key, model)
        elif key not in self._applying:
            self._applying[key] = asyncio.Event()
            self._spawn(self._load_then_publish(key))

    async def _load_then_publish(self, key: Key) -> None:
        applied = self._applying[key]
        try:
            while (model := self._wanted.get(key)) is not None and self._published.get(key) != model:
                for version in _serving(model):
                    await self._servables.load(version)
                if self._wanted.get(key) == model:
                    self._publish(key, model)
        finally:
            del self._applying[key]
            applied.set()

    def _publish(self, key: Key, model: Model) -> None:
        before = self._published.get(key)
        self._published[key] = model
        self._latest[key] = max(_serving(model), key=lambda version: version.version, default=None)
        if before is not None:
            self._servables.keep_only(model.model_id, frozenset(v.version for v in _serving(model)))


def _serving(model: Model) -> list[ModelVersion]:
    return [version for version in model.versions if version.stage is Stage.SERVING]


def _meant(model: Model, ref: ModelRef) -> ModelVersion | None:
    wanted = ref.version if ref.label is None else model.labels.get(ref.label)
    return next((version for version in _serving(model) if version.version == wanted), None)


def _by_name(item: tuple[Key, Model]) -> str:
    return item[0][1]
