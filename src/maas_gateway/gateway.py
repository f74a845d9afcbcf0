"""Builds every collaborator, opens and closes them; the one place that chooses forms.

Rules: background work lives in one task group that this module owns; a fault in it is logged and
counted, and the loop goes on after a pause; closing lets running requests finish first.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from maas_gateway.audit.log import AuditLog
from maas_gateway.auth.api_keys import APIKeys
from maas_gateway.auth.authenticator import Authenticator
from maas_gateway.auth.jwks import JWKSet
from maas_gateway.auth.passwords import Passwords
from maas_gateway.auth.refresh import RefreshTokens
from maas_gateway.auth.revocations import Revocations
from maas_gateway.auth.sign_in import SignIn
from maas_gateway.auth.standing import Standings
from maas_gateway.auth.tokens import TokenRules, Tokens
from maas_gateway.clock import SystemClock
from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.api_keys import ManageAPIKeys
from maas_gateway.controlplane.browse import Browse
from maas_gateway.controlplane.credentials import Credentials
from maas_gateway.controlplane.erase import Erase, Stores
from maas_gateway.controlplane.onboard import Onboard
from maas_gateway.controlplane.operate import LEASE, Operate
from maas_gateway.controlplane.promote import Promote
from maas_gateway.controlplane.provision import Provision
from maas_gateway.controlplane.publishing import Publishing
from maas_gateway.controlplane.reseal import Reseal
from maas_gateway.controlplane.resign import Resign
from maas_gateway.controlplane.rotate import Rotate
from maas_gateway.controlplane.schedule import Schedule
from maas_gateway.controlplane.secrets import Secrets
from maas_gateway.controlplane.sweep import sweep
from maas_gateway.controlplane.tokens import ManageTokens
from maas_gateway.controlplane.upload import Upload
from maas_gateway.database.changes import Changes
from maas_gateway.dataplane.describe import Describe
from maas_gateway.dataplane.lease import Lease
from maas_gateway.dataplane.predict import Predict
from maas_gateway.dataplane.reconcile import Reconciler
from maas_gateway.dataplane.servables import BatchLimits, Servables
from maas_gateway.inference.conversion.answer import Conversion
from maas_gateway.inference.conversion.convert import convert_keras, limits_for
from maas_gateway.inference.threads import ThreadExecutor
from maas_gateway.keyring import store as keys
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.keyring.key import Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.keyring.statements import Statements
from maas_gateway.place import open_databases, open_keyring
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.directory import DirectoryBlobs
from maas_gateway.settings import Settings
from maas_gateway.telemetry.metrics import Metrics
from maas_gateway.tenants import store as tenants

_PAUSE_AFTER_FAULT_S = 1.0
_SWEEP_EVERY_S = 3_600.0
_LOOK_AT_KEYS_EVERY_S = 600.0
_LOOK_AT_STANDING_EVERY_S = 0.5
_MAX_STANDING_AGE_S = 4.0


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything that doors call."""

    authenticator: Authenticator
    sign_in: SignIn
    jwks: JWKSet
    statements: Statements
    predict: Predict
    describe: Describe
    reconciler: Reconciler
    upload: Upload
    promote: Promote
    api_keys: ManageAPIKeys
    secrets: Secrets
    tokens: ManageTokens
    publishing: Publishing
    rotate: Rotate
    operate: Operate
    reseal: Reseal
    erase: Erase
    onboard: Onboard
    provision: Provision
    credentials: Credentials
    browse: Browse
    audit: AuditLog
    metrics: Metrics


@asynccontextmanager
async def open_gateway(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[Gateway]:
    """Build a gateway, run its background work, and close it again.

    Args:
        settings: the configuration.
        metrics: where it counts; its own if none is given.

    Raises:
        Misconfigured: the place is not prepared.
    """
    async with AsyncExitStack() as stack:
        ground = await _ground(settings, metrics or Metrics(), stack)
        acting, tasks = ground.acting, ground.tasks
        identity = _identity(ground)
        servables = _servables(ground, stack)
        reconciler = Reconciler(acting.database, ground.changes, servables, clock=acting.clock, spawn=tasks.spawn)
        operate = Operate(acting, tasks.spawn)
        rotate, schedule = _rotation(ground, operate)
        provision = Provision(acting, ground.keyring, identity.passwords)
        tasks.loop("changes", ground.changes.run)
        tasks.loop("reconcile", reconciler.run)
        _keep_lease(ground, reconciler, servables, stack)
        tasks.loop("standing", _every(_LOOK_AT_STANDING_EVERY_S, partial(_distrust_old_standing, ground, identity)))
        tasks.loop("refusals", acting.audit.run)
        _keep_up(ground, operate, schedule)
        yield Gateway(
            authenticator=identity.authenticator,
            sign_in=identity.sign_in,
            jwks=identity.jwks,
            statements=ground.statements,
            predict=Predict(reconciler, servables),
            describe=Describe(reconciler, servables),
            reconciler=reconciler,
            upload=_upload(ground),
            promote=Promote(acting),
            api_keys=ManageAPIKeys(acting),
            secrets=Secrets(acting, identity.passwords, identity.refresh),
            tokens=ManageTokens(acting, identity.tokens, identity.refresh, identity.authenticator),
            publishing=Publishing(acting),
            rotate=rotate,
            operate=operate,
            erase=Erase(acting, _stores(ground), operate),
            reseal=Reseal(acting, ground.artifacts, DataKeys(ground.keyring), operate),
            onboard=Onboard(acting, provision),
            provision=provision,
            credentials=Credentials(acting, identity.passwords),
            browse=Browse(acting.database),
            audit=acting.audit,
            metrics=ground.metrics,
        )


@dataclass(frozen=True, slots=True)
class _Ground:
    """What everything else stands on."""

    settings: Settings
    metrics: Metrics
    changes: Changes
    keyring: Keyring
    statements: Statements
    artifacts: Artifacts
    acting: Acting
    tasks: "_Tasks"


@dataclass(frozen=True, slots=True)
class _Identity:
    """Who calls."""

    jwks: JWKSet
    tokens: Tokens
    sign_in: SignIn
    authenticator: Authenticator
    passwords: Passwords
    refresh: RefreshTokens


async def _ground(settings: Settings, metrics: Metrics, stack: AsyncExitStack) -> _Ground:
    clock = SystemClock()
    main, key_store = open_databases(settings)
    stack.push_async_callback(main.close)
    stack.push_async_callback(key_store.close)
    changes = Changes([main, key_store], clock)
    audit = AuditLog(main, clock, metrics.audit_lost.inc)
    stack.push_async_callback(audit.flush)
    keyring = open_keyring(settings, key_store, clock)
    stack.push_async_callback(keyring.root.close)
    changes.listen(keys.TOPIC, keyring.forget)
    statements = Statements(keyring)
    return _Ground(
        settings=settings,
        metrics=metrics,
        changes=changes,
        keyring=keyring,
        statements=statements,
        artifacts=Artifacts(DirectoryBlobs(settings.data_dir / "blobs"), DataKeys(keyring), statements),
        acting=Acting(main, audit, clock, changes.announce),
        tasks=await stack.enter_async_context(_background()),
    )


def _identity(ground: _Ground) -> _Identity:
    clock, settings = ground.acting.clock, ground.settings
    jwks = JWKSet(ground.keyring, clock)
    rules = TokenRules(settings.base_url, settings.tokens.audience, settings.tokens.life_s, settings.tokens.skew_s)
    tokens = Tokens(ground.keyring, jwks, rules, clock)
    standings = Standings(ground.acting.database)
    authenticator = Authenticator(
        tokens,
        APIKeys(ground.acting.database, clock),
        standings,
        Revocations(ground.acting.database, clock),
        clock=clock,
        spawn=ground.tasks.spawn,
    )
    ground.changes.listen(tenants.TOPIC, authenticator.forget_standings)
    ground.changes.listen(keys.TOPIC, authenticator.doubt_keys)
    cost = settings.passwords
    passwords = Passwords(memory_kib=cost.memory_kib, passes=cost.passes, n_parallel=cost.n_parallel)
    access_life_s = rules.life_s + rules.skew_s
    life_s = settings.tokens.refresh_life_s
    announce = ground.acting.announce
    refresh = RefreshTokens(
        ground.acting.database, clock, life_s=life_s, access_life_s=access_life_s, announce=announce
    )
    sign_in = SignIn(ground.acting.database, passwords, tokens, standings, refresh=refresh)
    return _Identity(jwks, tokens, sign_in, authenticator, passwords, refresh)


def _rotation(ground: _Ground, operate: Operate) -> tuple[Rotate, Schedule]:
    keys_of, tokens = ground.settings.keys, ground.settings.tokens
    resign = Resign(ground.acting.database, ground.statements)
    token_life_s = tokens.life_s + 2 * tokens.skew_s
    rotate = Rotate(ground.acting, ground.keyring, operate, resign=resign, token_life_s=token_life_s)
    return rotate, Schedule(
        ground.acting,
        ground.keyring,
        rotate,
        rotate_after_days={Purpose(name): days for name, days in keys_of.rotate_after_days.items()},
        retire_after_days={Purpose(name): days for name, days in keys_of.retire_after_days.items()},
    )


def _keep_up(ground: _Ground, operate: Operate, schedule: Schedule) -> None:
    """Take up what was left undone, rotate what is due, clear up."""
    ground.tasks.loop("resume", _every(LEASE.total_seconds() / 2, operate.resume))
    ground.tasks.loop("schedule", _every(_LOOK_AT_KEYS_EVERY_S, schedule.look))
    ground.tasks.loop("sweep", _every(_SWEEP_EVERY_S, partial(sweep, ground.acting, ground.artifacts)))


def _stores(ground: _Ground) -> Stores:
    keyring = ground.keyring
    return Stores(keyring.database, keyring, DataKeys(keyring), ground.artifacts, ground.statements)


async def _distrust_old_standing(ground: _Ground, identity: _Identity) -> None:
    """Ask the database again who may act, if for some seconds it could not tell what has changed."""
    if ground.changes.age_s() > _MAX_STANDING_AGE_S:
        identity.authenticator.forget_standings()


def _servables(ground: _Ground, stack: AsyncExitStack) -> Servables:
    inference = ground.settings.inference
    executor = ThreadExecutor(inference.n_threads)
    stack.callback(executor.close)
    servables = Servables(
        ground.artifacts,
        executor,
        limits=BatchLimits(inference.max_batch_rows, inference.max_queue),
        audit=ground.acting.audit,
        metrics=ground.metrics,
        clock=ground.acting.clock,
        spawn=ground.tasks.spawn,
    )
    stack.push_async_callback(servables.close)
    return servables


def _keep_lease(ground: _Ground, reconciler: Reconciler, servables: Servables, stack: AsyncExitStack) -> None:
    acting = ground.acting
    lease = Lease(acting.database, ground.changes, reconciler, servables, clock=acting.clock)
    stack.push_async_callback(lease.end)
    ground.tasks.loop("lease", lease.run)


def _upload(ground: _Ground) -> Upload:
    settings = ground.settings
    return Upload(
        ground.acting,
        ground.artifacts,
        ground.statements,
        _converter(settings),
        spool_folder=settings.data_dir / "spool",
        max_bytes=settings.uploads.max_bytes,
    )


def _converter(settings: Settings) -> Callable[[AsyncIterator[bytes], int], Awaitable[Conversion]]:
    async def convert(archive: AsyncIterator[bytes], size_bytes: int) -> Conversion:
        deadline_s = settings.uploads.conversion_deadline_s
        needed = limits_for(size_bytes)
        limits = replace(needed, memory_bytes=min(needed.memory_bytes, settings.uploads.conversion_memory_bytes))
        return await convert_keras(archive, size_bytes=size_bytes, limits=limits, deadline_s=deadline_s)

    return convert


class _Tasks:
    """Background work of one gateway."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._running: set[asyncio.Task[None]] = set()
        self._log = structlog.get_logger()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something once."""
        self._keep(self._group.create_task(self._once(work)))

    def loop(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run something that never ends, again if it faults."""
        self._keep(self._group.create_task(self._again(name, work), name=name))

    def cancel(self) -> None:
        """End everything."""
        for task in self._running:
            task.cancel()

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _once(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:  # noqa: BLE001  the outermost frame of background work
            self._log.exception("background_fault")

    async def _again(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await work()
            except Exception:  # noqa: BLE001  the outermost frame of a background loop
                self._log.exception("background_fault", loop=name)
            await asyncio.sleep(_PAUSE_AFTER_FAULT_S)


@asynccontextmanager
async def _background() -> AsyncIterator[_Tasks]:
    async with asyncio.TaskGroup() as group:
        tasks = _Tasks(group)
        try:
            yield tasks
        finally:
            tasks.cancel()


def _every(pause_s: float, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def repeat() -> None:
        while True:
            await work()
            await asyncio.sleep(pause_s)

    return repeat
