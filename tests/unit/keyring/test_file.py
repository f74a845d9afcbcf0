"""The root-key file: who may read it, how it changes, what it refuses."""

import asyncio
import base64
import json
from pathlib import Path

import pytest

from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected, KeyHolderUnavailable, Misconfigured
from maas_gateway.keyring.file import FileHolder, ring_in_file
from simulators.clock import ManualClock

pytestmark = pytest.mark.anyio

FIRST_FORMAT = {
    "format": 1,
    "versions": {
        "1": {
            "state": "destroyed",
            "created_at": "2026-01-01T00:00:00+00:00",
            "changed_at": "2026-02-01T00:00:00+00:00",
        },
        "2": {
            "state": "primary",
            "created_at": "2026-01-02T00:00:00+00:00",
            "changed_at": "2026-01-02T00:00:00+00:00",
            "key": base64.b64encode(bytes(range(32))).decode(),
        },
    },
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "keys" / "root.json"
    assert FileHolder.make(file)
    return file


def test_make_writes_a_file_that_only_its_owner_can_read(path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_make_leaves_an_existing_keyset_as_it_is(path: Path) -> None:
    await FileHolder(path, ManualClock()).create("a")
    before = path.read_bytes()
    assert not FileHolder.make(path)
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
        pytest.param(b'{"format": 2}', id="no keys"),
        pytest.param(b'{"format": "x", "keys": {}}', id="no number"),
        pytest.param(b'{"format": 3, "keys": {}}', id="a newer format"),
        pytest.param(b'{"format": 2, "keys": []}', id="keys without names"),
        pytest.param(b'{"format": 2, "keys": {"a": {"key": "AAAA", "created_at": ""}}}', id="a short key"),
    ],
)
def test_holder_refuses_what_is_no_keyset_and_does_not_quote_it(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(Misconfigured) as refused:
        FileHolder(path, ManualClock())
    assert "AAAA" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_holder_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="No such file"):
        FileHolder(tmp_path / "root.json", ManualClock())


async def test_unwrap_gives_back_what_wrap_took_only_under_the_same_key_and_for_the_same_purpose(path: Path) -> None:
    holder = FileHolder(path, ManualClock())
    one, other = await holder.create("one"), await holder.create("other")
    key = KeyMaterial.generate()
    wrapped = await holder.wrap(one, key, b"artifacts of one tenant")
    assert await holder.unwrap(one, wrapped, b"artifacts of one tenant") == key
    for reference, bound_to in ((one, b"artifacts of another"), (other, b"artifacts of one tenant")):
        with pytest.raises(CiphertextRejected):
            await holder.unwrap(reference, wrapped, bound_to)


async def test_create_of_the_same_name_again_gives_the_same_key(path: Path) -> None:
    holder = FileHolder(path, ManualClock())
    key = KeyMaterial.generate()
    wrapped = await holder.wrap(await holder.create("a"), key, b"")
    before = path.read_bytes()
    assert await holder.unwrap(await holder.create("a"), wrapped, b"") == key
    assert path.read_bytes() == before


async def test_another_process_finds_a_key_that_it_has_not_seen(path: Path) -> None:
    here, there = FileHolder(path, ManualClock()), FileHolder(path, ManualClock())
    reference = await here.create("new")
    key = KeyMaterial.generate()
    assert await there.unwrap(reference, await here.wrap(reference, key, b""), b"") == key


async def test_processes_that_make_keys_at_once_lose_none(path: Path) -> None:
    holders = [FileHolder(path, ManualClock()) for _ in range(4)]
    await asyncio.gather(*(holder.create(f"key-{n}") for n, holder in enumerate(holders)))
    assert sorted(json.loads(path.read_bytes())["keys"]) == ["key-0", "key-1", "key-2", "key-3"]


async def test_destroy_drops_the_bytes_from_the_file_and_may_be_repeated(path: Path) -> None:
    holder = FileHolder(path, ManualClock())
    reference = await holder.create("old")
    secret = json.loads(path.read_bytes())["keys"]["old"]["key"]
    wrapped = await holder.wrap(reference, KeyMaterial.generate(), b"")
    for _ in range(2):
        await holder.destroy(reference)
    assert secret not in path.read_text()
    with pytest.raises(CiphertextRejected):
        await holder.unwrap(reference, wrapped, b"")


async def test_holder_is_unavailable_while_its_file_is_away_and_recovers_by_itself(path: Path) -> None:
    reference = await FileHolder(path, ManualClock()).create("a")
    holder = FileHolder(path, ManualClock())
    holder._held = {}
    away = path.rename(path.with_suffix(".away"))
    with pytest.raises(KeyHolderUnavailable):
        await holder.wrap(reference, KeyMaterial.generate(), b"")
    with pytest.raises(KeyHolderUnavailable):
        await holder.create("b")
    away.rename(path)
    await holder.wrap(reference, KeyMaterial.generate(), b"")


async def test_a_change_leaves_no_half_written_file_behind(path: Path) -> None:
    await FileHolder(path, ManualClock()).create("a")
    assert sorted(file.name for file in path.parent.iterdir()) == ["root.json", "root.json.lock"]


async def test_first_formats_keys_are_named_by_their_numbers_and_its_ring_can_be_read(path: Path) -> None:
    path.write_text(json.dumps(FIRST_FORMAT))
    assert {number: said["state"] for number, said in ring_in_file(path).items()} == {1: "destroyed", 2: "primary"}
    assert all("key" not in said for said in ring_in_file(path).values())
    holder = FileHolder(path, ManualClock())
    key = KeyMaterial.generate()
    wrapped = await holder.wrap({"name": "2"}, key, b"")
    await holder.create("later")
    assert json.loads(path.read_bytes())["format"] == 2
    assert ring_in_file(path) == {}
    assert await FileHolder(path, ManualClock()).unwrap({"name": "2"}, wrapped, b"") == key
