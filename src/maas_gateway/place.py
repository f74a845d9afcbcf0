"""The place a gateway lives in: its databases and keys opened, brought to where it can start, inspected."""

from dataclasses import dataclass

from maas_gateway.audit.chain import AuditRecord
from maas_gateway.audit.store import records as read_chain
from maas_gateway.clock import Clock, SystemClock
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES, KEYS_CHANGES
from maas_gateway.database.migrations import is_current, migrate
from maas_gateway.database.unscoped import read_all
from maas_gateway.errors import Misconfigured
from maas_gateway.holders import configured_holders
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring.adoption import adopt
from maas_gateway.keyring.file import FileHolder
from maas_gateway.keyring.key import Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.keyring.root import RootRing
from maas_gateway.settings import Settings
from maas_gateway.tenants import store as tenants


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
    configured_holders(settings, clock)  # refused before anything is changed
    await migrate_all(settings)
    main, key_store = open_databases(settings)
    keyring = open_keyring(settings, key_store, clock)
    try:
        if settings.root_file.exists():
            await adopt(keyring, settings.root_file)
        await keyring.root.check()
        if makes_root_key:
            await keyring.ensure(PLATFORM, Purpose.ROOT)
        async with read_all(main) as session:
            owners = [PLATFORM, *(tenant.tenant_id for tenant in await tenants.every(session))]
        for owner in owners:
            for purpose in Purpose:
                if purpose is not Purpose.ROOT and purpose.has_ring(owner):
                    await keyring.ensure(owner, purpose)
    finally:
        await keyring.root.close()
        await main.close()
        await key_store.close()


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
