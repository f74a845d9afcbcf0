"""Builds every collaborator, opens and closes them; the one place that chooses forms.

Rules: background work lives in one task group (`background`) that ends with the gateway; closing lets running
requests finish first.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from maas_gateway.audit.log import AuditLog
from maas_gateway.auth.api_keys import APIKeys
from maas_gateway.auth.authenticator import Authenticator
from maas_gateway.auth.federation import FederatedRules, Federation
from maas_gateway.auth.jwks import JWKSet
from maas_gateway.auth.passwords import Passwords
from maas_gateway.auth.provider_address import AllowedHosts
from maas_gateway.auth.provider_keys import ProviderKeys
from maas_gateway.auth.refresh import RefreshTokens
from maas_gateway.auth.revocations import Revocations
from maas_gateway.auth.sign_in import SignIn
from maas_gateway.auth.standing import Standings
from maas_gateway.auth.throttle import SignInThrottle
from maas_gateway.auth.tokens import TokenRules, Tokens
from maas_gateway.background import Tasks, background, every
from maas_gateway.clock import SystemClock
from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.admission import Admission
from maas_gateway.controlplane.api_keys import ManageAPIKeys
from maas_gateway.controlplane.bounds import UploadBounds
from maas_gateway.controlplane.browse import Browse
from maas_gateway.controlplane.credentials import Credentials
from maas_gateway.controlplane.erase import Erase, Stores
from maas_gateway.controlplane.identity_providers import ManageIdentityProviders
from maas_gateway.controlplane.onboard import Onboard
from maas_gateway.controlplane.operate import LEASE, Operate
from maas_gateway.controlplane.promote import Promote
from maas_gateway.controlplane.provision import Provision
from maas_gateway.controlplane.publishing import Publishing
from maas_gateway.controlplane.quotas import ManageQuotas
from maas_gateway.controlplane.repeats import Repeats
from maas_gateway.controlplane.reseal import Reseal
from maas_gateway.controlplane.resign import Resign
from maas_gateway.controlplane.rotate import Rotate
from maas_gateway.controlplane.schedule import Schedule
from maas_gateway.controlplane.secrets import Secrets
from maas_gateway.controlplane.shares import ManageShares
from maas_gateway.controlplane.sweep import sweep
from maas_gateway.controlplane.tokens import ManageTokens
from maas_gateway.controlplane.upload import Upload
from maas_gateway.database.changes import Changes
from maas_gateway.dataplane.describe import Describe
from maas_gateway.dataplane.lease import Lease
from maas_gateway.dataplane.models import Models
from maas_gateway.dataplane.predict import Predict
from maas_gateway.dataplane.reconcile import Reconciler
from maas_gateway.dataplane.servables import Servables
from maas_gateway.dataplane.shares import Shares
from maas_gateway.dataplane.terms import TermsBook
from maas_gateway.dataplane.turnstile import Turnstile
from maas_gateway.engines import open_servables
from maas_gateway.inference.conversion.convert import Conversions
from maas_gateway.inference.fairness import FairTime
from maas_gateway.keyring import store as keys
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.keyring.key import Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.keyring.statements import Statements
from maas_gateway.place import open_databases, open_keyring
from maas_gateway.quotas import store as quotas
from maas_gateway.quotas.buckets import Buckets
from maas_gateway.quotas.budgets import Budgets
from maas_gateway.quotas.limiter import Limiter
from maas_gateway.quotas.memory import MemoryBuckets
from maas_gateway.quotas.redis import RedisBuckets
from maas_gateway.quotas.usage import Usage
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.directory import DirectoryBlobs
from maas_gateway.scanning.catalogue import SEALED
from maas_gateway.settings import Settings
from maas_gateway.telemetry.metrics import Metrics
from maas_gateway.tenants import store as tenants

_SWEEP_EVERY_S = 3_600.0
_LOOK_AT_KEYS_EVERY_S = 600.0
_LOOK_AT_STANDING_EVERY_S = 0.5
_RETURN_BUDGETS_EVERY_S = 1.0
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
    admission: Admission
    api_keys: ManageAPIKeys
    identity_providers: ManageIdentityProviders
    secrets: Secrets
    tokens: ManageTokens
    publishing: Publishing
    repeats: Repeats
    rotate: Rotate
    operate: Operate
    reseal: Reseal
    erase: Erase
    onboard: Onboard
    provision: Provision
    credentials: Credentials
    quotas: ManageQuotas
    shares: ManageShares
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
        acting = ground.acting
        identity = _identity(ground, stack)
        accounting = _accounting(ground, stack)
        serving = _serving(ground, FairTime(accounting.terms.weight_of), stack)
        models = Models(serving.reconciler, accounting.shares)
        operate, rotate, schedule = _rotation(ground)
        provision = Provision(acting, ground.keyring, identity.passwords)
        _keep_up(ground, identity, operate, schedule)
        yield Gateway(
            authenticator=identity.authenticator,
            sign_in=identity.sign_in,
            jwks=identity.jwks,
            statements=ground.statements,
            predict=_predict(settings, models, serving.servables, accounting),
            describe=Describe(models, serving.servables),
            reconciler=serving.reconciler,
            upload=_upload(ground),
            promote=Promote(acting, ground.artifacts),
            admission=Admission.of(acting, _stores(ground), operate, SEALED),
            api_keys=ManageAPIKeys(acting),
            identity_providers=ManageIdentityProviders(acting, identity.provider_hosts, settings.base_url),
            secrets=Secrets(acting, identity.passwords, identity.refresh, throttle=identity.throttle),
            tokens=ManageTokens(acting, identity.tokens, identity.refresh, identity.authenticator),
            publishing=Publishing(acting),
            repeats=Repeats(acting),
            rotate=rotate,
            operate=operate,
            erase=Erase(acting, _stores(ground), operate),
            reseal=Reseal(acting, ground.artifacts, DataKeys(ground.keyring), operate),
            onboard=Onboard(acting, provision),
            provision=provision,
            credentials=Credentials(acting, identity.passwords, identity.throttle),
            quotas=ManageQuotas(acting),
            shares=ManageShares(acting),
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
    tasks: Tasks


@dataclass(frozen=True, slots=True)
class _Identity:
    """Who calls."""

    jwks: JWKSet
    tokens: Tokens
    sign_in: SignIn
    authenticator: Authenticator
    passwords: Passwords
    refresh: RefreshTokens
    throttle: SignInThrottle
    provider_hosts: AllowedHosts


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
        tasks=await stack.enter_async_context(background()),
    )


def _identity(ground: _Ground, stack: AsyncExitStack) -> _Identity:
    clock, settings = ground.acting.clock, ground.settings
    jwks = JWKSet(ground.keyring, clock)
    rules = TokenRules(settings.base_url, settings.tokens.audience, settings.tokens.life_s, settings.tokens.skew_s)
    tokens = Tokens(ground.keyring, jwks, rules, clock)
    standings = Standings(ground.acting.database)
    hosts = AllowedHosts(settings.oidc.allowed_hosts)
    authenticator = Authenticator(
        tokens,
        APIKeys(ground.acting.database, clock),
        standings,
        Revocations(ground.acting.database, clock),
        federation=_federation(ground, hosts, stack),
        clock=clock,
        spawn=ground.tasks.spawn,
    )
    ground.changes.listen(tenants.TOPIC, authenticator.forget_standings)
    ground.changes.listen(keys.TOPIC, authenticator.doubt_keys)
    cost = settings.passwords
    passwords = Passwords(memory_kib=cost.memory_kib, passes=cost.passes, n_parallel=cost.n_parallel)
    stack.callback(passwords.close)
    life_s, access_life_s = settings.tokens.refresh_life_s, rules.life_s + rules.skew_s
    acting = ground.acting
    refresh = RefreshTokens(
        acting.database, clock, life_s=life_s, access_life_s=access_life_s, announce=acting.announce
    )
    throttle = SignInThrottle(ground.acting.database, clock, max_at_once=passwords.max_at_once)
    sign_in = SignIn(ground.acting.database, passwords, tokens, standings, refresh=refresh, throttle=throttle)
    return _Identity(jwks, tokens, sign_in, authenticator, passwords, refresh, throttle, hosts)


def _federation(ground: _Ground, hosts: AllowedHosts, stack: AsyncExitStack) -> Federation:
    settings, clock, oidc = ground.settings, ground.acting.clock, ground.settings.oidc
    times = {"deadline_s": oidc.deadline_s, "life_s": oidc.keys_life_s, "pause_s": oidc.refetch_s}
    keys_of = ProviderKeys(hosts, clock=clock, spawn=ground.tasks.spawn, **times)
    stack.push_async_callback(keys_of.close)
    rules = FederatedRules(settings.base_url, settings.tokens.skew_s)
    return Federation(ground.acting.database, keys_of, rules, hosts=hosts, clock=clock)


@dataclass(frozen=True, slots=True)
class _Accounting:
    """What callers may ask for, and what they did."""

    shares: Shares
    terms: TermsBook
    limiter: Limiter


def _accounting(ground: _Ground, stack: AsyncExitStack) -> _Accounting:
    database, clock, settings = ground.acting.database, ground.acting.clock, ground.settings
    usage = Usage(partial(quotas.add_usage, database), clock, flush_s=settings.quotas.flush_s)
    stack.push_async_callback(usage.flush)
    budgets = Budgets(database, clock)
    stack.push_async_callback(budgets.return_idle, 0.0)
    shares = Shares(database)
    terms = TermsBook(database, shares, usage)
    buckets: Buckets = MemoryBuckets(clock, n_parts=settings.http.workers)
    if settings.quotas.url is not None:
        shared = RedisBuckets(str(settings.quotas.url), buckets, clock)
        stack.push_async_callback(shared.close)
        buckets = shared
    for topic in (tenants.TOPIC, quotas.TOPIC):
        ground.changes.listen(topic, terms.forget)
    ground.changes.listen(tenants.TOPIC, shares.forget)
    ground.tasks.loop("usage", usage.run)
    ground.tasks.loop("budgets", every(_RETURN_BUDGETS_EVERY_S, budgets.return_idle))
    return _Accounting(shares, terms, Limiter(buckets, budgets))


def _rotation(ground: _Ground) -> tuple[Operate, Rotate, Schedule]:
    operate = Operate(ground.acting, ground.tasks.spawn)
    keys_of, tokens = ground.settings.keys, ground.settings.tokens
    resign = Resign(ground.acting.database, ground.statements)
    token_life_s = tokens.life_s + 2 * tokens.skew_s
    rotate = Rotate(ground.acting, ground.keyring, operate, resign=resign, token_life_s=token_life_s)
    schedule = Schedule(
        ground.acting,
        ground.keyring,
        rotate,
        rotate_after_days={Purpose(name): days for name, days in keys_of.rotate_after_days.items()},
        retire_after_days={Purpose(name): days for name, days in keys_of.retire_after_days.items()},
    )
    return operate, rotate, schedule


def _keep_up(ground: _Ground, identity: _Identity, operate: Operate, schedule: Schedule) -> None:
    """Ask who may act still, write refusals down, take up what was left undone, rotate what is due, clear up."""
    is_due = every(_LOOK_AT_STANDING_EVERY_S, partial(_distrust_old_standing, ground, identity))
    ground.tasks.loop("standing", is_due)
    ground.tasks.loop("refusals", ground.acting.audit.run)
    ground.tasks.loop("resume", every(LEASE.total_seconds() / 2, operate.resume))
    ground.tasks.loop("schedule", every(_LOOK_AT_KEYS_EVERY_S, schedule.look))
    ground.tasks.loop("sweep", every(_SWEEP_EVERY_S, partial(sweep, ground.acting, ground.artifacts)))


def _stores(ground: _Ground) -> Stores:
    keyring = ground.keyring
    return Stores(keyring.database, keyring, DataKeys(keyring), ground.artifacts, ground.statements)


async def _distrust_old_standing(ground: _Ground, identity: _Identity) -> None:
    """Ask the database again who may act, if for some seconds it could not tell what has changed."""
    if ground.changes.age_s() > _MAX_STANDING_AGE_S:
        identity.authenticator.forget_standings()


def _predict(settings: Settings, models: Models, servables: Servables, accounting: _Accounting) -> Predict:
    turnstile = Turnstile(accounting.terms.weight_of, max_waiting=settings.inference.max_queue)
    return Predict(models, servables, accounting.terms, accounting.limiter, turnstile=turnstile)


@dataclass(frozen=True, slots=True)
class _Serving:
    """What is in memory, and what follows the registry."""

    servables: Servables
    reconciler: Reconciler


def _serving(ground: _Ground, fair_time: FairTime, stack: AsyncExitStack) -> _Serving:
    acting, tasks = ground.acting, ground.tasks
    servables = open_servables(
        ground.settings.inference,
        ground.settings.processes,
        ground.artifacts,
        fair_time=fair_time,
        acting=acting,
        metrics=ground.metrics,
        spawn=tasks.spawn,
        stack=stack,
    )
    reconciler = Reconciler(acting.database, ground.changes, servables, clock=acting.clock, spawn=tasks.spawn)
    tasks.loop("changes", ground.changes.run)
    tasks.loop("reconcile", reconciler.run)
    lease = Lease(acting.database, ground.changes, reconciler, servables, clock=acting.clock)
    stack.push_async_callback(lease.end)
    tasks.loop("lease", lease.run)
    return _Serving(servables, reconciler)


def _upload(ground: _Ground) -> Upload:
    settings = ground.settings
    return Upload(
        ground.acting,
        ground.artifacts,
        ground.statements,
        Conversions(
            max_memory_bytes=settings.uploads.conversion_memory_bytes, deadline_s=settings.uploads.conversion_deadline_s
        ),
        spool_folder=settings.data_dir / "spool",
        max_bytes=settings.uploads.max_bytes,
        bounds=UploadBounds(settings.uploads.max_tenant_bytes, settings.uploads.max_tenant_versions),
    )
