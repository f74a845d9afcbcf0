"""The root-key file: who may read it, how it changes, what it refuses."""

import asyncio
import json
from pathlib import Path

import pytest

from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected, Conflict, IllegalTransition, KeyNotFound, Misconfigured
from maas_gateway.keyring.file import FileHolder
from maas_gateway.keyring.key import KeyState
from simulators.clock import ManualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "keys" / "root.json"
    FileHolder.create(file, ManualClock())
    return file


def test_create_makes_a_file_that_only_its_owner_can_read(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_create_leaves_an_existing_keyset_as_it_is(path: Path) -> None:
    before = path.read_bytes()
    assert FileHolder.create(path, ManualClock()) is False
    assert path.read_bytes() == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610], ids=lambda mode: f"{mode:o}")
def test_holder_refuses_a_file_that_others_can_use(path: Path, mode: int) -> None:
    path.chmod(mode)
    with pytest.raises(Misconfigured, match="chmod 600"):
        FileHolder(path, ManualClock())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="an empty file"),
        pytest.param(b"not JSON", id="no JSON"),
        pytest.param(b"[]", id="another JSON"),
        pytest.param(b'{"format": 1}', id="no versions"),
        pytest.param(b'{"format": 2, "versions": {}}', id="a newer format"),
        pytest.param(b'{"format": 1, "versions": {}}', id="no primary"),
        pytest.param(b'{"format": 1, "versions": {"1": {"state": "primary", "key": "AAAA"}}}', id="a short key"),
    ],
)
def test_holder_refuses_what_is_no_keyset_and_does_not_quote_it(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(Misconfigured) as refused:
        FileHolder(path, ManualClock())
    assert "AAAA" not in str(refused.value)
    assert refused.value.__cause__ is None or isinstance(refused.value.__cause__, OSError)


def test_holder_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file"):
        FileHolder(tmp_path / "root.json", ManualClock())


def test_unwrap_gives_back_what_wrap_took_only_for_the_same_purpose(path: Path) -> None:
    async def story() -> None:
        holder = FileHolder(path, ManualClock())
        key = KeyMaterial.generate()
        version, wrapped = await holder.wrap(key, b"artifacts of one tenant")
        assert await holder.unwrap(version, wrapped, b"artifacts of one tenant") == key
        with pytest.raises(CiphertextRejected):
            await holder.unwrap(version, wrapped, b"artifacts of another")
        with pytest.raises(CiphertextRejected):
            await holder.unwrap(version + 1, wrapped, b"artifacts of one tenant")

    asyncio.run(story())


def test_a_new_primary_demotes_the_old_one_which_still_opens(path: Path) -> None:
    async def story() -> None:
        holder = FileHolder(path, ManualClock())
        key = KeyMaterial.generate()
        old, wrapped = await holder.wrap(key, b"")
        new = await holder.add_version()
        assert await holder.add_version() == new  # a killed rotation's pending version is used, not another made
        assert (await holder.wrap(key, b""))[0] == old
        await holder.move(new, KeyState.PRIMARY)
        assert [v.state for v in await holder.versions()] == [KeyState.ENABLED, KeyState.PRIMARY]
        assert (await holder.wrap(key, b""))[0] == new
        assert await holder.unwrap(old, wrapped, b"") == key

    asyncio.run(story())


def test_another_process_finds_a_version_that_it_has_not_seen(path: Path) -> None:
    async def story() -> None:
        here, there = FileHolder(path, ManualClock()), FileHolder(path, ManualClock())
        await here.move(await here.add_version(), KeyState.PRIMARY)
        key = KeyMaterial.generate()
        version, wrapped = await here.wrap(key, b"")
        assert version == 2
        assert await there.unwrap(version, wrapped, b"") == key

    asyncio.run(story())


def test_two_processes_that_rotate_at_once_lose_no_version(path: Path) -> None:
    async def story() -> None:
        holders = [FileHolder(path, ManualClock()) for _ in range(4)]
        made = await asyncio.gather(*(holder.add_version() for holder in holders))
        assert set(made) == {2}

    asyncio.run(story())


def test_destroy_drops_the_bytes_from_the_file(path: Path) -> None:
    async def story() -> None:
        holder = FileHolder(path, ManualClock())
        key = json.loads(path.read_bytes())["versions"]["1"]["key"]
        await holder.move(await holder.add_version(), KeyState.PRIMARY)
        await holder.move(1, KeyState.DISABLED)
        assert key in path.read_text()
        await holder.move(1, KeyState.DESTROYED)
        assert key not in path.read_text()
        _, wrapped = await holder.wrap(KeyMaterial.generate(), b"")
        with pytest.raises(CiphertextRejected):
            await holder.unwrap(1, wrapped, b"")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("version", "state", "refusal"),
    [
        pytest.param(1, KeyState.DISABLED, Conflict, id="the primary is not retired"),
        pytest.param(2, KeyState.DISABLED, IllegalTransition, id="a pending one is not retired"),
        pytest.param(2, KeyState.DESTROYED, IllegalTransition, id="a pending one is not destroyed"),
        pytest.param(7, KeyState.PRIMARY, KeyNotFound, id="an unknown one is not promoted"),
    ],
)
def test_move_refuses_steps_that_a_life_does_not_have(
    path: Path, version: int, state: KeyState, refusal: type[Exception]
) -> None:
    async def story() -> None:
        holder = FileHolder(path, ManualClock())
        await holder.add_version()
        before = path.read_bytes()
        with pytest.raises(refusal):
            await holder.move(version, state)
        assert path.read_bytes() == before

    asyncio.run(story())


def test_a_change_leaves_no_half_written_file_behind(path: Path) -> None:
    asyncio.run(FileHolder(path, ManualClock()).add_version())
    assert sorted(file.name for file in path.parent.iterdir()) == ["root.json", "root.json.lock"]
