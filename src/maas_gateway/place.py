"""The place a gateway lives in: its databases and keys opened, brought to where it can start, inspected."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final

from maas_gateway.audit.chain import AuditRecord
from maas_gateway.audit.store import records as read_chain
from maas_gateway.clock import Clock, SystemClock
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES, KEYS_CHANGES
from maas_gateway.database.migrations import is_current, migrate, revision
from maas_gateway.database.unscoped import read_all
from maas_gateway.errors import GatewayError, Misconfigured
from maas_gateway.holders import configured_holders
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring import store as keys
from maas_gateway.keyring.adoption import adopt
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.keyring.file import FileHolder
from maas_gateway.keyring.key import Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.keyring.root import RootRing
from maas_gateway.keyring.statements import Statements
from maas_gateway.registry import store as registry
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.directory import DirectoryBlobs
from maas_gateway.registry.manifest import KIND as MANIFEST
from maas_gateway.registry.manifest import digest_in, manifest_of
from maas_gateway.registry.model import ArtifactRole, ModelVersion
from maas_gateway.settings import Settings
from maas_gateway.tenants import store as tenants
from maas_gateway.tenants.tenant import TenantState

_WITHOUT_MANIFESTS: Final = frozenset({"0001_main", "0002_main"})
"""Schemas whose versions were published unsigned."""


async def prepare(settings: Settings, *, makes_root_key: bool) -> None:
    """Bring a place to where a gateway can start: folders, root key, schemas, the platform's rings. Safe to repeat.

    Args:
        settings: the configuration.
        makes_root_key: whether a missing root key is made; without, it is refused.

    Raises:
        Misconfigured: the root key is missing or unreadable, or a database is newer than this program.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    clock = SystemClock()
    if makes_root_key and settings.keys.holder == FileHolder.kind:
        FileHolder.make(settings.root_file)
    async with AsyncExitStack() as stack:
        main, key_store = open_databases(settings)
        stack.push_async_callback(main.close)
        stack.push_async_callback(key_store.close)
        keyring = open_keyring(settings, key_store, clock)  # a holder is refused before anything is changed
        stack.push_async_callback(keyring.root.close)
        before = await revision(main, "main")
        await migrate_all(settings)
        if settings.root_file.exists():
            await adopt(keyring, settings.root_file)
        await keyring.root.check()
        if makes_root_key:
            await keyring.ensure(PLATFORM, Purpose.ROOT)
        await _ensure_rings(main, keyring)
        if before in _WITHOUT_MANIFESTS:
            await _sign_first(settings, main, keyring)


async def _ensure_rings(main: Database, keyring: Keyring) -> None:
    """Give the platform and every tenant that is not erased the rings of this version."""
    async with read_all(main) as session:
        found = await tenants.every(session)
    there = await keys.rings(keyring.database)
    for owner in [PLATFORM, *(tenant.tenant_id for tenant in found if tenant.state is not TenantState.ERASED)]:
        for purpose in Purpose:
            if purpose is not Purpose.ROOT and purpose.has_ring(owner) and (owner, purpose.value) not in there:
                await keyring.ensure(owner, purpose)


async def _sign_first(settings: Settings, main: Database, keyring: Keyring) -> None:
    """Sign a manifest for every version of before there were any.

    Only the start that upgrades the schema does this, and only for what opens and is what was uploaded:
    at any later start a version without a manifest is one that somebody has tampered with.
    """
    statements = Statements(keyring)
    artifacts = Artifacts(DirectoryBlobs(settings.data_dir / "blobs"), DataKeys(keyring), statements)
    async with read_all(main) as session:
        unsigned = [v for model in await registry.models(session) for v in model.versions if not v.manifest]
    for version in unsigned:
        try:
            found = [replace(a, digest=await artifacts.unsigned_digest(version, a.role)) for a in version.artifacts]
        except GatewayError:
            continue  # it does not open; whoever loads it will say so
        known = replace(version, artifacts=tuple(found))
        # Versions of that time hold what was uploaded; those of later times have a manifest from their beginning.
        if any(a.role is ArtifactRole.SOURCE and a.digest == version.digest for a in found):
            said = manifest_of(known, scanners={})
            async with main.write(version.tenant) as session:
                await registry.sign_first(session, replace(known, manifest=await statements.sign(MANIFEST, said)))


async def migrate_all(settings: Settings) -> bool:
    """Bring both databases to this program's schema; return whether anything had to be done.

    Raises:
        Misconfigured: a database does not answer, or a newer program made it.
    """
    done = []
    for database, name in zip(open_databases(settings), ("main", "keys"), strict=True):
        try:
            done.append(await migrate(database, name))
        finally:
            await database.close()
    return any(done)


def open_keyring(settings: Settings, key_store: Database, clock: Clock) -> Keyring:
    """Return the keyring over a key store.

    Raises:
        Misconfigured: a root-key holder's file is missing, unreadable, or readable by others.
    """
    holders = configured_holders(settings, clock)
    return Keyring(key_store, RootRing(key_store, holders, makes_at=settings.keys.holder, clock=clock), clock)


def open_databases(settings: Settings) -> tuple[Database, Database]:
    """Return the main database and the key store, not connected yet."""
    pool_size = settings.database.pool_size
    main = Database(settings.main_url, CHANGES, pool_size=pool_size)
    return main, Database(settings.keys_url, KEYS_CHANGES, overwrites_deleted=True, pool_size=pool_size)


async def _key_faults(keyring: Keyring) -> list[str]:
    try:
        await keyring.root.check()
    except Misconfigured as error:
        return [error.detail]
    finally:
        await keyring.root.close()
    if not await keyring.published(PLATFORM, Purpose.TOKEN_SIGNING):
        return ["there is no key that signs tokens; run: maas-gateway init"]
    return []


@dataclass(frozen=True, slots=True)
class Inspection:
    """What `inspect` found.

    Attributes:
        faults: in sentences.
        chains: every audit chain, whole.
    """

    faults: tuple[str, ...]
    chains: tuple[list[AuditRecord], ...]


async def inspect(settings: Settings) -> Inspection:
    """Look at a place without changing it.

    Raises:
        Misconfigured: a database cannot be opened.
    """
    main, key_store = open_databases(settings)
    faults = []
    chains: list[list[AuditRecord]] = []
    try:
        for database, name in ((main, "main"), (key_store, "keys")):
            if not await is_current(database, name):
                faults.append(
                    f"the {name} database is not at this version's schema; run: maas-gateway database upgrade"
                )
        if not faults:
            async with read_all(main) as session:
                owners = [PLATFORM, *(tenant.tenant_id for tenant in await tenants.every(session))]
                chains = [await read_chain(session.within(owner)) for owner in owners]
            faults += await _key_faults(open_keyring(settings, key_store, SystemClock()))
    finally:
        await main.close()
        await key_store.close()
    return Inspection(tuple(faults), tuple(chains))


async def deep_faults(settings: Settings, tell: Callable[[int, int], None]) -> list[str]:
    """Open every sealed artifact and compare its plaintext's digest with its manifest's; return what is wrong, in sentences.

    Args:
        settings: the configuration.
        tell: told how many artifacts are done, and how many there are.

    Raises:
        Misconfigured: a database cannot be opened.
    """
    main, key_store = open_databases(settings)
    keyring = open_keyring(settings, key_store, SystemClock())
    artifacts = Artifacts(DirectoryBlobs(settings.data_dir / "blobs"), DataKeys(keyring), Statements(keyring))
    faults = []
    try:
        async with read_all(main) as session:
            models = await registry.models(session)
        todo = [(v, artifact.role) for model in models for v in model.versions for artifact in v.artifacts]
        for done, (version, role) in enumerate(todo, start=1):
            try:
                said = digest_in(await artifacts.manifest(version), role)
                if await artifacts.digest(version, role) != said:
                    faults.append(_deep_fault(version, role, "its plaintext is not what its manifest says"))
            except GatewayError as error:
                faults.append(_deep_fault(version, role, error.detail))
            tell(done, len(todo))
    finally:
        await keyring.root.close()
        await main.close()
        await key_store.close()
    return faults


def _deep_fault(version: ModelVersion, role: ArtifactRole, why: str) -> str:
    return f"tenant {version.tenant}, model '{version.model}' version {version.version}, {role}: {why}"
