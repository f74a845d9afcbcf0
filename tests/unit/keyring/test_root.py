"""The root ring: whose keys it takes, what moves between holders, what a file of the first format becomes."""

import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from builders.keyrings import open_keyring
from maas_gateway.clock import SystemClock
from maas_gateway.crypto.aead import open_sealed, seal
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected, Conflict, InvalidRequest, KeyHolderUnavailable, Misconfigured
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring.adoption import adopt
from maas_gateway.keyring.file import FileHolder
from maas_gateway.keyring.holder import RootKeyHolder
from maas_gateway.keyring.key import KeyState, Purpose
from maas_gateway.keyring.keyring import Keyring, associated_data
from maas_gateway.keyring.rewrap import rewrap
from maas_gateway.keyring.root import RootRing

pytestmark = pytest.mark.anyio


class Elsewhere:
    """Another holder, in memory, that can be switched off."""

    kind = "kms"

    def __init__(self) -> None:
        self.keys: dict[str, KeyMaterial] = {}
        self.is_down = False

    async def create(self, name: str) -> Mapping[str, str]:
        self.keys.setdefault(name, KeyMaterial.generate())
        return {"key": name}

    async def wrap(self, reference: Mapping[str, str], key: KeyMaterial, associated_data: bytes) -> bytes:
        return seal(self._key(reference), key.expose(), associated_data)

    async def unwrap(self, reference: Mapping[str, str], wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        return KeyMaterial.from_bytes(open_sealed(self._key(reference), wrapped, associated_data))

    async def destroy(self, reference: Mapping[str, str]) -> None:
        self.keys.pop(reference["key"], None)

    async def close(self) -> None:
        self.is_down = True

    def _key(self, reference: Mapping[str, str]) -> KeyMaterial:
        if self.is_down or reference["key"] not in self.keys:
            raise KeyHolderUnavailable("it is down")
        return self.keys[reference["key"]]


def over(keyring: Keyring, *holders: RootKeyHolder, makes_at: str = "file") -> Keyring:
    """Return another process's view of a key store, with these holders."""
    by_kind = {holder.kind: holder for holder in holders}
    root = RootRing(keyring.database, by_kind, makes_at=makes_at, clock=SystemClock())
    return Keyring(keyring.database, root, SystemClock())


@asynccontextmanager
async def two_holders(folder: Path) -> AsyncIterator[tuple[Keyring, Elsewhere]]:
    async with open_keyring(folder) as keyring:
        elsewhere = Elsewhere()
        await keyring.ensure(PLATFORM, Purpose.TOKEN_SIGNING)
        yield over(keyring, FileHolder(folder / "root.json", SystemClock()), elsewhere), elsewhere


async def test_root_keys_of_the_deployment_are_accepted(tmp_path: Path) -> None:
    async with open_keyring(tmp_path) as keyring:
        await keyring.root.check()


async def test_another_deployments_root_key_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    async with open_keyring(tmp_path / "one"), open_keyring(tmp_path / "other") as keyring:
        before = (tmp_path / "one" / "root.json").read_bytes()
        swapped = over(keyring, FileHolder(tmp_path / "one" / "root.json", SystemClock()))
        with pytest.raises(Misconfigured, match="is not this deployment's"):
            await swapped.root.check()
        assert (tmp_path / "one" / "root.json").read_bytes() == before


async def test_another_key_under_the_same_name_is_refused(tmp_path: Path) -> None:
    async with open_keyring(tmp_path) as keyring:
        file = tmp_path / "root.json"
        keyset = json.loads(file.read_bytes())
        (entry,) = keyset["keys"].values()
        entry["key"] = "A" * 43 + "="
        file.write_text(json.dumps(keyset))
        with pytest.raises(Misconfigured, match="is not this deployment's"):
            await over(keyring, FileHolder(file, SystemClock())).root.check()


async def test_holder_that_is_not_configured_any_more_is_refused_at_the_start(tmp_path: Path) -> None:
    async with two_holders(tmp_path) as (keyring, elsewhere):
        with pytest.raises(Misconfigured, match="holder 'file'"):
            await over(keyring, elsewhere, makes_at="kms").root.check()


async def test_holder_that_is_down_is_no_reason_not_to_start(tmp_path: Path) -> None:
    async with two_holders(tmp_path) as (keyring, elsewhere):
        await keyring.add_version(PLATFORM, Purpose.ROOT, holder="kms")
        elsewhere.is_down = True
        await keyring.root.check()


async def test_moving_to_another_holder_rewraps_every_ring_key_and_lets_the_old_one_be_destroyed(
    tmp_path: Path,
) -> None:
    async with two_holders(tmp_path) as (keyring, elsewhere):
        before = await keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)
        new = await keyring.add_version(PLATFORM, Purpose.ROOT, holder="kms")
        await keyring.move(PLATFORM, Purpose.ROOT, new, state=KeyState.PRIMARY)
        with pytest.raises(Conflict, match="items are still wrapped"):
            await keyring.move(PLATFORM, Purpose.ROOT, 1, state=KeyState.DISABLED)
        assert sum([n async for n in rewrap(keyring, PLATFORM, Purpose.ROOT)]) == 1
        for state in (KeyState.DISABLED, KeyState.DESTROYED):
            await keyring.move(PLATFORM, Purpose.ROOT, 1, state=state)
        assert json.loads((tmp_path / "root.json").read_bytes())["keys"] == {}
        without_file = over(keyring, elsewhere, makes_at="kms")
        await without_file.root.check()
        assert (await without_file.signer(PLATFORM, Purpose.TOKEN_SIGNING)).key_id == before.key_id


async def test_holder_that_gives_the_same_key_again_makes_no_new_version(tmp_path: Path) -> None:
    async with two_holders(tmp_path) as (keyring, elsewhere):
        new = await keyring.add_version(PLATFORM, Purpose.ROOT, holder="kms")
        await keyring.move(PLATFORM, Purpose.ROOT, new, state=KeyState.PRIMARY)
        same = await elsewhere.create("the only one")
        (only,) = [v for v in await keyring.versions(PLATFORM, Purpose.ROOT) if v.state is KeyState.PRIMARY]
        assert only.public is not None
        elsewhere.create = lambda _: _answer({"key": only.public["key"]})  # type: ignore[method-assign,index]
        assert same
        with pytest.raises(Conflict, match="no other key"):
            await keyring.add_version(PLATFORM, Purpose.ROOT, holder="kms")


async def _answer(reference: Mapping[str, str]) -> Mapping[str, str]:
    return reference


async def test_holder_that_is_not_configured_cannot_be_moved_to(tmp_path: Path) -> None:
    async with open_keyring(tmp_path) as keyring:
        with pytest.raises(InvalidRequest, match="'transit' is not configured; there are file"):
            await keyring.add_version(PLATFORM, Purpose.ROOT, holder="transit")


async def test_signatures_can_be_verified_while_the_holder_is_down(tmp_path: Path) -> None:
    async with two_holders(tmp_path) as (keyring, elsewhere):
        new = await keyring.add_version(PLATFORM, Purpose.ROOT, holder="kms")
        await keyring.move(PLATFORM, Purpose.ROOT, new, state=KeyState.PRIMARY)
        _ = [n async for n in rewrap(keyring, PLATFORM, Purpose.ROOT)]
        keyring.forget()
        elsewhere.is_down = True
        assert len(await keyring.published(PLATFORM, Purpose.TOKEN_SIGNING)) == 1
        with pytest.raises(KeyHolderUnavailable):
            await keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)
        elsewhere.is_down = False
        await keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)


async def test_disabled_root_version_opens_nothing(tmp_path: Path) -> None:
    async with two_holders(tmp_path) as (keyring, _):
        key = KeyMaterial.generate()
        number, wrapped = await keyring.root.wrap(key, b"x")
        new = await keyring.add_version(PLATFORM, Purpose.ROOT, holder="kms")
        await keyring.move(PLATFORM, Purpose.ROOT, new, state=KeyState.PRIMARY)
        _ = [n async for n in rewrap(keyring, PLATFORM, Purpose.ROOT)]
        assert await keyring.root.unwrap(number, wrapped, b"x") == key
        await keyring.move(PLATFORM, Purpose.ROOT, number, state=KeyState.DISABLED)
        with pytest.raises(CiphertextRejected):
            await keyring.root.unwrap(number, wrapped, b"x")


async def test_ring_of_a_file_of_the_first_format_moves_into_the_key_store_once(tmp_path: Path) -> None:
    async with open_keyring(tmp_path) as made:
        await made.ensure(PLATFORM, Purpose.TOKEN_SIGNING)
        kid = (await made.signer(PLATFORM, Purpose.TOKEN_SIGNING)).key_id
        await _as_the_first_format_left_it(made, tmp_path / "root.json")
        keyring = over(made, FileHolder(tmp_path / "root.json", SystemClock()))
        assert await adopt(keyring, tmp_path / "root.json")
        assert not await adopt(keyring, tmp_path / "root.json")
        assert [(v.version, v.state) for v in await keyring.versions(PLATFORM, Purpose.ROOT)] == [
            (1, KeyState.PRIMARY),
            (2, KeyState.DESTROYED),
        ]
        await keyring.root.check()
        assert (await keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)).key_id == kid


async def _as_the_first_format_left_it(keyring: Keyring, file: Path) -> None:
    (entry,) = json.loads(file.read_bytes())["keys"].values()
    times = {"created_at": entry["created_at"], "changed_at": entry["created_at"]}
    versions = {"1": {"state": "primary", "key": entry["key"], **times}, "2": {"state": "destroyed", **times}}
    file.write_text(json.dumps({"format": 1, "versions": versions}))
    async with keyring.database.connection(is_write=True) as connection:
        await connection.exec_driver_sql("DELETE FROM key_versions WHERE purpose = 'root'")


async def test_a_ring_key_is_bound_to_its_owner_purpose_and_number(tmp_path: Path) -> None:
    async with open_keyring(tmp_path) as keyring:
        await keyring.ensure(PLATFORM, Purpose.TOKEN_SIGNING)
        (version,) = await keyring.versions(PLATFORM, Purpose.TOKEN_SIGNING)
        number, wrapped = await keyring.root.wrap(KeyMaterial.generate(), associated_data(version))
        with pytest.raises(CiphertextRejected):
            await keyring.root.unwrap(number, wrapped, associated_data(version) + secrets.token_bytes(1))
