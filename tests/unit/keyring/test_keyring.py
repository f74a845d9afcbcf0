"""Rings: what they make and open, how they rotate, what another process sees of it."""

import asyncio
import uuid
from pathlib import Path

import pytest
import sqlalchemy as sa

from builders.keyrings import open_keyring
from maas_gateway.crypto.envelope import DataKey
from maas_gateway.crypto.signatures import verify_es256
from maas_gateway.errors import CiphertextRejected, Conflict, KeyNotFound
from maas_gateway.identifiers import PLATFORM, ArtifactId, TenantId
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.keyring.key import KeyState, Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.keyring.rewrap import n_to_rewrap, n_uses, rewrap
from maas_gateway.keyring.tables import DATA_KEYS, KEY_VERSIONS

TENANT = TenantId(uuid.UUID(int=1))
OTHER = TenantId(uuid.UUID(int=2))
CONTEXT = bytes(32)


async def _rotate(keyring: Keyring, tenant: TenantId, purpose: Purpose) -> int:
    version = await keyring.add_version(tenant, purpose)
    await keyring.move(tenant, purpose, version, state=KeyState.PRIMARY)
    async for _ in rewrap(keyring, tenant, purpose):
        pass
    return version


async def _store(keys: DataKeys, tenant: TenantId = TENANT) -> tuple[ArtifactId, DataKey]:
    artifact, key = ArtifactId(uuid.uuid4()), DataKey.generate()
    await keys.add(tenant, artifact, key, context=CONTEXT)
    return artifact, key


def test_ensure_makes_one_version_however_often_it_is_called(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as keyring:
            for _ in range(3):
                await keyring.ensure(TENANT, Purpose.ARTIFACTS)
            (version,) = await keyring.versions(TENANT, Purpose.ARTIFACTS)
            assert (version.version, version.state) == (1, KeyState.PRIMARY)

    asyncio.run(story())


def test_a_data_key_comes_back_for_its_own_tenant_only(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as keyring:
            for tenant in (TENANT, OTHER):
                await keyring.ensure(tenant, Purpose.ARTIFACTS)
            keys = DataKeys(keyring)
            artifact, key = await _store(keys)
            assert await keys.open(TENANT, artifact) == (key, CONTEXT)
            with pytest.raises(CiphertextRejected):
                await keys.open(OTHER, artifact)

    asyncio.run(story())


def test_rewrapping_moves_every_data_key_and_changes_none(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as keyring:
            await keyring.ensure(TENANT, Purpose.ARTIFACTS)
            keys = DataKeys(keyring)
            stored = [await _store(keys) for _ in range(450)]  # more than two batches
            assert await _rotate(keyring, TENANT, Purpose.ARTIFACTS) == 2
            assert await n_uses(keyring, TENANT, Purpose.ARTIFACTS, 1) == 0
            assert await n_uses(keyring, TENANT, Purpose.ARTIFACTS, 2) == 450
            for artifact, key in stored:
                assert (await keys.open(TENANT, artifact))[0] == key

    asyncio.run(story())


def test_rewrapping_one_tenants_keys_leaves_anothers(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as keyring:
            for tenant in (TENANT, OTHER):
                await keyring.ensure(tenant, Purpose.ARTIFACTS)
                await _store(DataKeys(keyring), tenant)
            await _rotate(keyring, TENANT, Purpose.ARTIFACTS)
            assert await n_uses(keyring, OTHER, Purpose.ARTIFACTS, 1) == 1

    asyncio.run(story())


def test_a_new_root_key_rewraps_ring_keys_and_no_data_key(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as keyring:
            await keyring.ensure(TENANT, Purpose.ARTIFACTS)
            await keyring.ensure(PLATFORM, Purpose.TOKEN_SIGNING)
            artifact, key = await _store(DataKeys(keyring))
            async with keyring.database.connection(is_write=False) as connection:
                before = (await connection.execute(sa.select(DATA_KEYS))).all()
            await _rotate(keyring, PLATFORM, Purpose.ROOT)
            async with keyring.database.connection(is_write=False) as connection:
                assert (await connection.execute(sa.select(DATA_KEYS))).all() == before
                roots = (await connection.execute(sa.select(KEY_VERSIONS.c.root_version))).scalars().all()
            assert sorted(roots) == [0, 0, 2, 2]  # the root ring's own two versions are under none
            assert await n_to_rewrap(keyring, PLATFORM, Purpose.ROOT) == 0
            keyring.forget()
            assert (await DataKeys(keyring).open(TENANT, artifact))[0] == key

    asyncio.run(story())


def test_another_process_opens_what_a_rotation_has_rewrapped_meanwhile(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as here, open_keyring(tmp_path) as there:
            await here.ensure(TENANT, Purpose.ARTIFACTS)
            artifact, key = await _store(DataKeys(here))
            assert (await DataKeys(there).open(TENANT, artifact))[0] == key  # knows version 1 by now
            for purpose in (Purpose.ARTIFACTS, Purpose.ROOT):
                await _rotate(here, PLATFORM if purpose is Purpose.ROOT else TENANT, purpose)
                assert (await DataKeys(there).open(TENANT, artifact))[0] == key

    asyncio.run(story())


def test_another_process_seals_with_a_new_primary_it_has_not_been_told_of(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as here, open_keyring(tmp_path) as there:
            await here.ensure(TENANT, Purpose.ARTIFACTS)
            await _store(DataKeys(there))
            await _rotate(here, TENANT, Purpose.ARTIFACTS)
            await _store(DataKeys(there))
            assert await n_uses(here, TENANT, Purpose.ARTIFACTS, 1) == 0

    asyncio.run(story())


def test_a_retired_version_opens_nothing_in_any_process_that_was_told(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as keyring:
            await keyring.ensure(TENANT, Purpose.ARTIFACTS)
            await _store(DataKeys(keyring))
            await _rotate(keyring, TENANT, Purpose.ARTIFACTS)
            await keyring.move(TENANT, Purpose.ARTIFACTS, 1, state=KeyState.DISABLED)
            with pytest.raises(CiphertextRejected):
                await keyring.key(TENANT, Purpose.ARTIFACTS, 1)

    asyncio.run(story())


def test_a_destroyed_version_has_no_bytes_left_in_the_files(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as keyring:
            await keyring.ensure(TENANT, Purpose.ARTIFACTS)
            async with keyring.database.connection(is_write=False) as connection:
                wrapped = (
                    await connection.execute(
                        sa.select(KEY_VERSIONS.c.wrapped).where(KEY_VERSIONS.c.purpose == Purpose.ARTIFACTS.value)
                    )
                ).scalar_one()
            await _rotate(keyring, TENANT, Purpose.ARTIFACTS)
            for state in (KeyState.DISABLED, KeyState.DESTROYED):
                await keyring.move(TENANT, Purpose.ARTIFACTS, 1, state=state)
            async with keyring.database.connection(is_write=False) as connection:
                await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        assert all(wrapped not in file.read_bytes() for file in tmp_path.iterdir())

    asyncio.run(story())


def test_the_primary_gives_way_only_to_a_rotation(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as keyring:
            await keyring.ensure(TENANT, Purpose.ARTIFACTS)
            with pytest.raises(Conflict):
                await keyring.move(TENANT, Purpose.ARTIFACTS, 1, state=KeyState.DISABLED)
            with pytest.raises(KeyNotFound):
                await keyring.move(TENANT, Purpose.ARTIFACTS, 9, state=KeyState.PRIMARY)
            with pytest.raises(KeyNotFound):
                await keyring.add_version(OTHER, Purpose.ARTIFACTS)

    asyncio.run(story())


def test_signatures_verify_by_the_published_key_before_and_after_a_rotation(tmp_path: Path) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as keyring:
            await keyring.ensure(PLATFORM, Purpose.TOKEN_SIGNING)
            old = await keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)
            signature = old.sign(b"claims")
            pending = await keyring.add_version(PLATFORM, Purpose.TOKEN_SIGNING)
            assert [v.state for v in await keyring.published(PLATFORM, Purpose.TOKEN_SIGNING)] == [
                KeyState.PRIMARY,
                KeyState.PENDING,
            ]
            assert (await keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)).key_id == old.key_id
            await keyring.move(PLATFORM, Purpose.TOKEN_SIGNING, pending, state=KeyState.PRIMARY)
            assert (await keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)).key_id != old.key_id
            by_id = {
                v.public["kid"]: v.public
                for v in await keyring.published(PLATFORM, Purpose.TOKEN_SIGNING)
                if v.public is not None
            }
            verify_es256(by_id[old.key_id], b"claims", signature)

    asyncio.run(story())


@pytest.mark.parametrize("column", ["tenant_id", "purpose", "version", "wrapped"])
def test_a_ring_key_whose_row_was_altered_is_refused(tmp_path: Path, column: str) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as keyring:
            await keyring.ensure(TENANT, Purpose.ARTIFACTS)
            artifact, _ = await _store(DataKeys(keyring))
            altered = {"tenant_id": OTHER, "purpose": "token-signing", "version": 3, "wrapped": bytes(60)}
            where = {"tenant_id": OTHER if column == "tenant_id" else TENANT}
            async with keyring.database.connection(is_write=True) as connection:
                await connection.execute(sa.update(KEY_VERSIONS).values({column: altered[column]}))
                await connection.execute(sa.update(DATA_KEYS).values(where))
            keyring.forget()
            with pytest.raises(CiphertextRejected):
                await DataKeys(keyring).open(TenantId(where["tenant_id"]), artifact)

    asyncio.run(story())


@pytest.mark.parametrize("column", ["nonce", "context", "ciphertext", "key_version", "tenant_id"])
def test_a_data_key_whose_row_was_altered_is_refused(tmp_path: Path, column: str) -> None:
    async def story() -> None:
        async with open_keyring(tmp_path) as keyring:
            for tenant in (TENANT, OTHER):
                await keyring.ensure(tenant, Purpose.ARTIFACTS)
            await _rotate(keyring, TENANT, Purpose.ARTIFACTS)
            artifact, _ = await _store(DataKeys(keyring))
            altered = {
                "nonce": bytes(12),
                "context": b"\x01" * 32,
                "ciphertext": bytes(48),
                "key_version": 1,
                "tenant_id": OTHER,
            }
            async with keyring.database.connection(is_write=True) as connection:
                await connection.execute(sa.update(DATA_KEYS).values({column: altered[column]}))
            with pytest.raises(CiphertextRejected):
                await DataKeys(keyring).open(OTHER if column == "tenant_id" else TENANT, artifact)

    asyncio.run(story())
