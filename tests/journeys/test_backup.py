"""Backup and restore, as an operator runs them: what was served is served again, and what is gone stays gone."""

import asyncio
import base64
import hashlib
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from builders.gateways import SQLITE, Account, World, gateway_settings, joined_gateway, running_gateway
from builders.models import DemoModel, published_model, uploaded_model
from builders.processes import PROGRAM, environment, run_command
from maas_gateway.audit.chain import verify
from maas_gateway.audit.event import AuditEvent, Outcome
from maas_gateway.cli.backup import run_backup
from maas_gateway.cli.restore import run_restore
from maas_gateway.clock import SystemClock
from maas_gateway.database.dump import Standing, snapshot
from maas_gateway.database.engine import Database
from maas_gateway.errors import GatewayError, IntegrityFailure, Misconfigured, NotFound
from maas_gateway.identifiers import new_id
from maas_gateway.place import inspect, open_databases, prepare
from maas_gateway.settings import Settings
from services import PostgresServer

pytestmark = pytest.mark.anyio

N_RECORDS = 3_000
"""So many audit records and data keys that a restore of them can be killed in the middle."""

SCHEMA_BYTES = 20_000
"""So much SQLite writes for the empty tables; the rows come next, in one transaction."""

Ended = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Place:
    """Where a gateway is, or may be.

    Attributes:
        folder: its data directory lies below.
        database: "sqlite", or its main database's URL.
    """

    folder: Path
    database: str = SQLITE

    @property
    def settings(self) -> Settings:
        return gateway_settings(self.folder, self.database)

    def command(self, *arguments: str | Path) -> list[str]:
        """Return the words of a `database` command on it."""
        place = [*self._config, "--data-dir", str(self.settings.data_dir)]
        return ["database", *map(str, arguments), *place]

    def run(self, *arguments: str | Path) -> Ended:
        """Run a `database` command on it, as its operator does."""
        return run_command(*self.command(*arguments))

    async def backup(self, to: Path, *only: str) -> None:
        """Back it up in this process, while the loop goes on."""
        await asyncio.to_thread(run_backup, *self._options, to, only)

    async def restore(self, source: Path, *only: str) -> None:
        """Restore it in this process."""
        await asyncio.to_thread(run_restore, *self._options, source, only)

    @property
    def _options(self) -> tuple[Path | None, dict[str, Path]]:
        config = Path(self._config[1]) if self._config else None
        return config, {"data_dir": self.settings.data_dir}

    @property
    def _config(self) -> list[str]:
        if self.database == SQLITE:
            return []
        self.folder.mkdir(exist_ok=True)
        path = self.folder / "config.toml"
        path.write_text(f'[database]\nurl = "{self.database}"\n')
        return ["--config", str(path)]

    def take_root_key(self, other: "Place") -> None:
        """Have the root key of another place."""
        path = self.settings.root_file
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        path.parent.parent.chmod(0o700)
        shutil.copy(other.settings.root_file, path)


NewPlace = Callable[[str], Place]


@pytest.fixture
def new_place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[NewPlace]:
    """Gives a place that nothing is in yet, on an engine."""
    made: list[str] = []

    def make(engine: str) -> Place:
        name = f"backup_{secrets.token_hex(6)}"
        if engine == SQLITE:
            return Place(tmp_path / name)
        server: PostgresServer = request.getfixturevalue("postgres")
        server.create(name, f"{name}_keys")
        made.extend((name, f"{name}_keys"))
        return Place(tmp_path / name, server.url(name))

    yield make
    if made:
        request.getfixturevalue("postgres").drop(*made)


ENGINES = [SQLITE, pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.slow])]
FROM_ONE_TO_THE_OTHER = [
    (SQLITE, SQLITE),
    pytest.param((SQLITE, "postgres"), marks=pytest.mark.postgres),
    pytest.param(("postgres", SQLITE), marks=[pytest.mark.postgres, pytest.mark.slow]),
    pytest.param(("postgres", "postgres"), marks=[pytest.mark.postgres, pytest.mark.slow]),
]


@asynccontextmanager
async def restored_gateway(place: Place, before: World) -> AsyncIterator[World]:
    """Run a gateway on a restored place, with the accounts that were known before."""
    await prepare(place.settings, makes_root_key=False)
    async with joined_gateway(place.settings, before.operator) as world:
        world.owners |= before.owners
        yield world


def assert_refused(ended: Ended, code: int, sentence: str) -> None:
    assert (ended.returncode, ended.stdout) == (code, ""), ended
    assert sentence in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("maas-gateway: ")


async def predicted(world: World, headers: dict[str, str], demo: DemoModel, model: str = "bc") -> Any:
    body = {"instances": [list(demo.seed.example)]}
    answer = await world.http.post(f"/v1/models/{model}:predict", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def assert_sound(place: Place, *, n_chains: int) -> None:
    """Check what `doctor` checks: schemas, keys, and every audit chain."""
    found = await inspect(place.settings)
    assert found.faults == ()
    assert len(found.chains) == n_chains
    assert any(found.chains)
    for chain in found.chains:
        verify(chain)


async def rows(database: Database, statement: str) -> list[Any]:
    async with database.connection(is_write=False) as connection:
        return list((await connection.execute(text(statement))).scalars())


def files(folder: Path) -> dict[str, str]:
    """Return what every file holds; SQLite's own bookkeeping beside a database aside."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


@pytest.mark.parametrize("pair", FROM_ONE_TO_THE_OTHER, ids="-to-".join)
async def test_what_was_served_while_it_was_backed_up_is_served_from_another_place(
    tmp_path: Path, new_place: NewPlace, pair: tuple[str, str], demo: DemoModel
) -> None:
    place, other = (new_place(engine) for engine in pair)
    to = tmp_path / "backup"
    async with running_gateway(place.folder, place.database) as world:
        await world.tenants("acme", "empty")
        await published_model(world, "acme", "bc", demo)
        invoker, clerk = await world.service("acme", "invoker"), await world.user("acme", "clerk", "publisher")
        headers = await world.headers(invoker)
        before = await predicted(world, headers, demo)
        backup = asyncio.create_task(asyncio.to_thread(place.run, "backup", "--to", to))
        n_answers = 0
        while not backup.done():
            assert await predicted(world, headers, demo) == before
            n_answers += 1
            await asyncio.sleep(0.01)
        ended = await backup
        assert (ended.returncode, ended.stderr) == (0, "")
        assert n_answers > 5
    assert str(place.settings.root_file) in ended.stdout
    assert "Keep keys/ apart" in ended.stdout
    ended = other.run("restore", "--from", to)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert str(other.settings.root_file) in ended.stdout
    assert ended.stdout.endswith("Next: maas-gateway doctor, then maas-gateway serve\n")
    other.take_root_key(place)
    await assert_sound(other, n_chains=3)
    async with restored_gateway(other, world) as again:
        assert await predicted(again, headers, demo) == before  # a token from before the backup
        assert await predicted(again, await again.headers(invoker), demo) == before
        listed = await again.http.get("/admin/v1/models", headers=await again.headers(clerk))
        assert [model["name"] for model in listed.json()["models"]] == ["bc"]
        for account in (again.operator, *again.owners.values()):
            await again.principal(account)
        await published_model(again, "acme", "second", demo)
    await assert_sound(other, n_chains=3)


async def test_backup_is_private_and_names_what_it_holds_and_no_secret(
    tmp_path: Path, new_place: NewPlace, demo: DemoModel
) -> None:
    place, to = new_place(SQLITE), tmp_path / "new" / "backup"
    async with running_gateway(place.folder) as world:
        await world.tenant("acme")
        version = await published_model(world, "acme", "bc", demo)
        await place.backup(to)
        secret = world.operator.secret
    assert {path.stat().st_mode & 0o777 for path in to.rglob("*") if path.is_dir()} | {to.stat().st_mode & 0o777} == {
        0o700
    }
    assert {path.stat().st_mode & 0o777 for path in to.rglob("*") if path.is_file()} == {0o600}
    blobs = {f"blobs/{name[:2]}/{name}" for name in (str(artifact.artifact_id) for artifact in version.artifacts)}
    assert set(files(to)) == {"manifest.json", "main/rows.ndjson", "keys/rows.ndjson", "blobs/index.ndjson", *blobs}
    manifest = json.loads((to / "manifest.json").read_text())
    assert list(manifest["parts"]) == ["main", "keys", "blobs"]
    assert manifest["parts"]["blobs"]["rows"] == 2
    whole = b"".join(path.read_bytes() for path in to.rglob("*") if path.is_file())
    root_keys = [entry["key"] for entry in _keyset(place.settings.root_file)]
    assert root_keys
    for word in (*root_keys, secret):
        assert word.encode() not in whole
    for name, content in files(place.settings.data_dir / "blobs").items():
        assert files(to / "blobs")[name] == content
    for path in to.rglob("*"):
        assert path.name == "manifest.json" or demo.seed.archive[:64] not in (
            path.read_bytes() if path.is_file() else b""
        )


def _keyset(path: Path) -> list[dict[str, str]]:
    """Return whatever in a root key's file has a key."""

    def entries(value: Any) -> Iterator[dict[str, str]]:
        if isinstance(value, dict):
            if isinstance(value.get("key"), str):
                yield value
            for inner in value.values():
                yield from entries(inner)

    return list(entries(json.loads(path.read_text())))


@pytest.mark.parametrize("engine", ENGINES)
async def test_backup_taken_while_models_come_in_misses_no_key_and_no_blob_of_what_it_names(
    tmp_path: Path, new_place: NewPlace, engine: str, demo: DemoModel
) -> None:
    place, other = new_place(engine), new_place(engine)
    async with running_gateway(place.folder, place.database) as world:
        await world.tenant("acme")
        uploads = asyncio.create_task(_uploads(world, demo))
        backups: list[Path] = []
        while not uploads.done():
            backups.append(tmp_path / f"backup-{len(backups)}")
            await place.backup(backups[-1])
        await uploads
    n_named = set()
    for backup in backups:
        named = _identifiers(backup / "main" / "rows.ndjson", "artifacts")
        assert named <= _identifiers(backup / "keys" / "rows.ndjson", "data_keys")
        assert named == _identifiers(backup / "blobs" / "index.ndjson", "blobs")
        n_named.add(len(named))
    assert len(n_named) > 3
    await other.restore(backups[-1])
    other.take_root_key(place)
    await assert_sound(other, n_chains=2)
    async with restored_gateway(other, world) as again:
        headers = await again.headers(again.owners["acme"])
        for model in (await again.http.get("/admin/v1/models", headers=headers)).json()["models"]:
            for version in model["versions"]:
                path = f"/admin/v1/models/{model['name']}/versions/{version['version']}:promote"
                assert (await again.http.post(path, headers=headers)).status_code == 200
                await predicted(again, headers, demo, model["name"])


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("act", "held", "only"),
    [
        ("erase", "keys", ()),
        ("erase", "main", ()),
        ("reseal", "keys", ()),
        pytest.param("reseal", "keys", ("main", "keys"), marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value) or "all",
)
async def test_backup_during_which_a_model_is_sealed_anew_or_erased_holds_what_there_is_afterwards(
    tmp_path: Path, new_place: NewPlace, act: str, held: str, only: tuple[str, ...], demo: DemoModel
) -> None:
    """The backup is held before it reads main, or between main and keys, until what main named at first is gone."""
    place, other = new_place("postgres"), new_place(SQLITE)
    async with running_gateway(place.folder, place.database) as world:
        owner = await world.tenant("acme")
        await published_model(world, "acme", "stays", demo)
        version = await published_model(world, "acme", "bc", demo)
        old = {str(artifact.artifact_id) for artifact in version.artifacts}
        main, keys = open_databases(world.settings)
        async with (main if held == "main" else keys).connection(is_write=True) as holding:
            await holding.execute(text("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE"))
            backup = asyncio.create_task(place.backup(tmp_path / "backup", *only))
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%alembic%'"
            await _soon(lambda: rows(main, waits), lambda found: found != [0])
            principal = await world.principal(owner)
            if act == "erase":
                await world.gateway.erase.model(principal, "bc")
            else:
                await world.gateway.reseal.reseal(principal, "artifacts")
            left = "SELECT CAST(artifact_id AS text) FROM data_keys"
            await _soon(lambda: rows(keys, left), lambda found: not old & set(found))
            assert not backup.done()
        await backup
        await main.close()
        await keys.close()
    named = _identifiers(tmp_path / "backup/main/rows.ndjson", "artifacts")
    keyed = _identifiers(tmp_path / "backup/keys/rows.ndjson", "data_keys")
    assert not old & (named | keyed)
    assert named <= keyed
    if only:
        return
    assert named == _identifiers(tmp_path / "backup/blobs/index.ndjson", "blobs")
    assert named == {path.name for path in (tmp_path / "backup/blobs").glob("??/*")}
    await other.restore(tmp_path / "backup")
    other.take_root_key(place)
    async with restored_gateway(other, world) as again:
        headers = await again.headers(owner)
        await predicted(again, headers, demo, "stays")
        body = {"instances": [list(demo.seed.example)]}
        answer = await again.http.post("/v1/models/bc:predict", json=body, headers=headers)
        assert answer.status_code == (404 if act == "erase" else 200)


async def test_blob_that_main_no_longer_names_when_it_is_read_again_is_taken_out_of_the_backup(
    tmp_path: Path, new_place: NewPlace, demo: DemoModel
) -> None:
    """As when an erasure has destroyed the keys and has not dropped the rows yet."""
    place = new_place(SQLITE)
    async with running_gateway(place.folder) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "stays", demo)
        version = await published_model(world, "acme", "bc", demo)
        old = {str(artifact.artifact_id) for artifact in version.artifacts}
        main, keys = open_databases(world.settings)
        half = [{"id": artifact.artifact_id.hex} for artifact in version.artifacts]
        async with keys.connection(is_write=True) as connection:
            await connection.execute(text("DELETE FROM data_keys WHERE artifact_id = :id"), half)
        backup = asyncio.create_task(place.backup(tmp_path / "backup"))
        copies = [tmp_path / "backup" / "blobs" / name[:2] / name for name in old]
        while not all(copy.exists() for copy in copies):
            await asyncio.sleep(0.005)
            assert not backup.done()
        async with main.connection(is_write=True) as connection:
            await connection.execute(text("DELETE FROM artifacts WHERE id = :id"), half)
        await backup
        await main.close()
        await keys.close()
    named = _identifiers(tmp_path / "backup/main/rows.ndjson", "artifacts")
    assert len(named) == 2
    assert not old & named
    assert named == _identifiers(tmp_path / "backup/blobs/index.ndjson", "blobs")
    assert named == {path.name for path in (tmp_path / "backup/blobs").glob("??/*")}


async def _soon(ask: Callable[[], Awaitable[list[Any]]], is_right: Callable[[list[Any]], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_right(await ask()):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def _uploads(world: World, demo: DemoModel) -> None:
    for number in range(30):
        await uploaded_model(world, "acme", f"model-{number}", demo)


def _identifiers(path: Path, table: str) -> set[str]:
    """Return the first column of a table's rows."""
    found, is_in_it = set(), False
    for line in path.read_text().splitlines():
        value = json.loads(line)
        if isinstance(value, dict):
            is_in_it = value.get("table") == table
        elif is_in_it:
            found.add(value[0])
    return found


async def test_restored_place_without_its_root_key_or_with_another_is_refused(
    tmp_path: Path, new_place: NewPlace, demo: DemoModel
) -> None:
    place, other, stranger = (new_place(SQLITE) for _ in range(3))
    async with running_gateway(place.folder) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        await place.backup(tmp_path / "backup")
    await other.restore(tmp_path / "backup")
    with pytest.raises(Misconfigured, match="root key"):
        await prepare(other.settings, makes_root_key=False)
    await prepare(stranger.settings, makes_root_key=True)
    other.take_root_key(stranger)
    with pytest.raises(GatewayError):
        await prepare(other.settings, makes_root_key=False)
    other.take_root_key(place)
    await assert_sound(other, n_chains=2)
    async with restored_gateway(other, world) as again:
        await predicted(again, await again.headers(again.owners["acme"]), demo)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("what", [(), ("main",), ("keys",)], ids=["all", "main", "keys"])
async def test_place_that_is_not_empty_takes_no_backup_and_stays_as_it_is(
    tmp_path: Path, new_place: NewPlace, engine: str, what: tuple[str, ...]
) -> None:
    place, other = new_place(engine), new_place(engine)
    async with running_gateway(place.folder, place.database):
        await place.backup(tmp_path / "backup")
    async with running_gateway(other.folder, other.database) as world:
        await world.tenant("acme")
    await other.backup(tmp_path / "before")
    with pytest.raises(Misconfigured) as caught:
        await other.restore(tmp_path / "backup", *what)
    assert "database is not empty, and a backup goes into an empty one; nothing was changed" in caught.value.detail
    await other.backup(tmp_path / "after")
    assert _content(tmp_path / "before") == _content(tmp_path / "after")
    await assert_sound(other, n_chains=2)


def _content(backup: Path) -> list[list[str]]:
    """Return a backup's rows, without the time at which they were read."""
    return [(backup / part / "rows.ndjson").read_text().splitlines()[1:-1] for part in ("main", "keys")]


async def test_main_without_its_keys_leaves_models_that_say_so_and_nothing_crashes(
    tmp_path: Path, new_place: NewPlace, capsys: pytest.CaptureFixture[str], demo: DemoModel
) -> None:
    place, other = new_place(SQLITE), new_place(SQLITE)
    async with running_gateway(place.folder) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        await place.backup(tmp_path / "backup")
    await other.restore(tmp_path / "backup", "main")
    assert "Restore the other parts too before a gateway starts" in capsys.readouterr().out
    await prepare(other.settings, makes_root_key=True)
    async with joined_gateway(other.settings, world.operator) as again:
        again.owners |= world.owners
        headers = await again.headers(again.owners["acme"])
        body = {"instances": [list(demo.seed.example)]}
        answer = await again.http.post("/v1/models/bc:predict", json=body, headers=headers)
        assert (answer.status_code, "cannot be served" in answer.json()["error"]) == (503, True), answer.text
        status = await again.http.get("/v1/models/bc", headers=headers)
        (version,) = status.json()["model_version_status"]
        assert version["status"]["error_code"] == "UNAVAILABLE"
        await published_model(again, "acme", "second", demo)
        await predicted(again, headers, demo, "second")
    await assert_sound(other, n_chains=2)


async def test_parts_that_were_kept_apart_are_restored_one_by_one_or_together_again(
    tmp_path: Path, new_place: NewPlace, demo: DemoModel
) -> None:
    place, one, other = (new_place(SQLITE) for _ in range(3))
    to, safe = tmp_path / "backup", tmp_path / "safe"
    async with running_gateway(place.folder) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        await place.backup(to)
    safe.mkdir()
    (to / "keys").rename(safe / "keys")
    with pytest.raises(NotFound, match="has no keys/: put it back beside the others"):
        await one.restore(to)
    assert not one.settings.data_dir.exists()
    await one.restore(safe, "keys")
    await one.restore(to, "main", "blobs")
    (safe / "keys").rename(to / "keys")
    await other.restore(to)
    for place_again in (one, other):
        place_again.take_root_key(place)
        async with restored_gateway(place_again, world) as again:
            await predicted(again, await again.headers(again.owners["acme"]), demo)


async def test_parts_taken_one_by_one_are_backups_of_their_own(
    tmp_path: Path, new_place: NewPlace, capsys: pytest.CaptureFixture[str], demo: DemoModel
) -> None:
    place, other = new_place(SQLITE), new_place(SQLITE)
    async with running_gateway(place.folder) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        for part in ("main", "keys", "blobs"):
            await place.backup(tmp_path / part, part)
            assert ("Keep keys/ apart" in capsys.readouterr().out) == (part == "keys")
            assert {path.name for path in (tmp_path / part).iterdir()} == {part, "manifest.json"}
    for part in ("keys", "blobs", "main"):
        await other.restore(tmp_path / part)
    other.take_root_key(place)
    async with restored_gateway(other, world) as again:
        await predicted(again, await again.headers(again.owners["acme"]), demo)


async def test_part_of_another_backup_does_not_pass_for_this_ones(tmp_path: Path, new_place: NewPlace) -> None:
    place, other = new_place(SQLITE), new_place(SQLITE)
    async with running_gateway(place.folder) as world:
        await place.backup(tmp_path / "one")
        await world.tenant("acme")
        await place.backup(tmp_path / "two")
    shutil.rmtree(tmp_path / "one" / "keys")
    shutil.copytree(tmp_path / "two" / "keys", tmp_path / "one" / "keys")
    with pytest.raises(IntegrityFailure, match="is of another backup than"):
        await other.restore(tmp_path / "one")
    assert not other.settings.data_dir.exists()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _blob(to: Path) -> Path:
    return max((to / "blobs").glob("??/*"))


SPOILT: dict[str, tuple[Callable[[Path], object], type[GatewayError], str]] = {
    "main is cut": (lambda to: _cut(to / "main/rows.ndjson"), IntegrityFailure, "is cut or altered"),
    "main is altered": (lambda to: _alter(to / "main/rows.ndjson"), IntegrityFailure, "is cut or altered"),
    "keys is cut": (lambda to: _cut(to / "keys/rows.ndjson"), IntegrityFailure, "is cut or altered"),
    "main is keys": (
        lambda to: shutil.copy(to / "keys/rows.ndjson", to / "main/rows.ndjson"),
        IntegrityFailure,
        "holds 'keys', not 'main'",
    ),
    "the list of blobs is altered": (lambda to: _alter(to / "blobs/index.ndjson"), IntegrityFailure, "cut or altered"),
    "a blob is cut": (lambda to: _cut(_blob(to)), IntegrityFailure, "of the backup is cut"),
    "a blob is missing": (lambda to: _blob(to).unlink(), IntegrityFailure, "is missing"),
    "the manifest is missing": (lambda to: (to / "manifest.json").unlink(), NotFound, "no finished backup"),
    "the manifest is cut": (lambda to: _cut(to / "manifest.json"), IntegrityFailure, "is not a manifest"),
    "the manifest is a list": (
        lambda to: (to / "manifest.json").write_text("[]"),
        IntegrityFailure,
        "is not a manifest",
    ),
    "the backup is missing": (shutil.rmtree, NotFound, "no finished backup"),
}


async def test_backup_that_is_not_whole_is_refused_before_anything_is_written(
    tmp_path: Path, new_place: NewPlace, demo: DemoModel
) -> None:
    place, other = new_place(SQLITE), new_place(SQLITE)
    async with running_gateway(place.folder) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        await place.backup(tmp_path / "whole")
    for name, (spoil, error, sentence) in SPOILT.items():
        spoilt = tmp_path / name
        shutil.copytree(tmp_path / "whole", spoilt)
        spoil(spoilt)
        with pytest.raises(error) as caught:
            await other.restore(spoilt)
        assert sentence in caught.value.detail, name
        assert not other.settings.data_dir.exists(), name


async def test_blob_that_is_altered_stops_the_restore_before_main_names_it_and_a_whole_one_takes_it_up(
    tmp_path: Path, new_place: NewPlace, demo: DemoModel
) -> None:
    """A blob's size is looked at first and its digest when it is copied, so that it is read once."""
    place, other = new_place(SQLITE), new_place(SQLITE)
    async with running_gateway(place.folder) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        await place.backup(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "altered")
    _alter(_blob(tmp_path / "altered"))
    with pytest.raises(IntegrityFailure, match="is not what was copied"):
        await other.restore(tmp_path / "altered")
    assert _blob(tmp_path / "altered").name not in {path.name for path in other.settings.data_dir.rglob("*")}
    assert b"CREATE TABLE" not in (other.settings.data_dir / "gateway.sqlite").read_bytes()
    await other.restore(tmp_path / "whole")
    other.take_root_key(place)
    async with restored_gateway(other, world) as again:
        await predicted(again, await again.headers(again.owners["acme"]), demo)
    damaged = min((other.settings.data_dir / "blobs").glob("??/*"))
    _alter(damaged)
    before = damaged.read_bytes()
    with pytest.raises(IntegrityFailure, match=f"a blob {damaged.name} is there already, and is not the backup's"):
        await other.restore(tmp_path / "whole", "blobs")
    assert damaged.read_bytes() == before
    damaged.unlink()
    await other.restore(tmp_path / "whole", "blobs")
    assert files(other.settings.data_dir / "blobs").items() <= files(tmp_path / "whole" / "blobs").items()


async def test_blob_that_the_place_itself_lacks_is_told_and_all_else_is_backed_up(
    tmp_path: Path, new_place: NewPlace, demo: DemoModel
) -> None:
    place, other = new_place(SQLITE), new_place(SQLITE)
    async with running_gateway(place.folder) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        lost = await published_model(world, "acme", "lost", demo)
        for artifact in lost.artifacts:
            next((place.settings.data_dir / "blobs").glob(f"??/{artifact.artifact_id}")).unlink()
        with pytest.raises(IntegrityFailure) as caught:
            await place.backup(tmp_path / "backup")
    assert "2 sealed artifacts that the main database names lack their key or their blob" in caught.value.detail
    await other.restore(tmp_path / "backup")
    other.take_root_key(place)
    async with restored_gateway(other, world) as again:
        headers = await again.headers(again.owners["acme"])
        await predicted(again, headers, demo)
        body = {"instances": [list(demo.seed.example)]}
        assert (await again.http.post("/v1/models/lost:predict", json=body, headers=headers)).status_code == 503


@dataclass(frozen=True)
class Much:
    """A gateway at rest with so much in it that its restore can be killed in the middle.

    Attributes:
        place: where it is.
        backup: of it.
        operator, owner: who may sign in.
        example: what its model answers.
    """

    place: Place
    backup: Path
    operator: Account
    owner: Account
    example: tuple[float, ...]


@pytest.fixture(scope="module")
def much(tmp_path_factory: pytest.TempPathFactory, demo: DemoModel) -> Much:
    """Made once for this module."""
    folder = tmp_path_factory.mktemp("much")
    place = Place(folder / "place")

    async def story() -> Much:
        async with running_gateway(place.folder) as world:
            owner = await world.tenant("acme")
            for number in range(5):
                await uploaded_model(world, "acme", f"model-{number}", demo)
            await published_model(world, "acme", "bc", demo)
            await _fill(world)
            await place.backup(folder / "backup")
        return Much(place, folder / "backup", world.operator, owner, demo.seed.example)

    return asyncio.run(story())


async def _fill(world: World) -> None:
    tenant = await world.tenant_id("acme")
    main, keys = open_databases(world.settings)
    async with main.write(tenant) as session:
        for number in range(N_RECORDS):
            event = AuditEvent("test.done", "a test", f"thing {number}", Outcome.DONE)
            await world.gateway.audit.record(session, event)
    statement = text(
        "INSERT INTO data_keys SELECT :id, tenant_id, purpose, key_version, nonce, context, ciphertext, created_at "
        "FROM data_keys LIMIT 1"
    )
    async with keys.connection(is_write=True) as connection:
        await connection.execute(statement, [{"id": new_id().hex} for _ in range(N_RECORDS)])
    await main.close()
    await keys.close()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("moment", ["keys", "blobs", "main"])
async def test_restore_that_was_killed_left_all_of_a_database_or_nothing_and_is_run_again(
    new_place: NewPlace, engine: str, moment: str, much: Much
) -> None:
    other = new_place(engine)
    command = [PROGRAM, *other.command("restore", "--from", much.backup)]
    process = subprocess.Popen(  # noqa: ASYNC220  the test has the loop to itself
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    main, keys = open_databases(other.settings)
    try:
        await _until(moment, other, main if moment == "main" else keys, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        for database, name in ((main, "main"), (keys, "keys")):
            async with snapshot(database, name) as at_rest:
                standing = await at_rest.standing(much.backup / name / "rows.ndjson")
            assert standing is not Standing.OTHER
            assert name != moment or standing is Standing.EMPTY
    finally:
        await main.close()
        await keys.close()
    for _ in range(2):  # what is restored already is left as it is
        await other.restore(much.backup)
    other.take_root_key(much.place)
    await assert_sound(other, n_chains=2)
    async with joined_gateway(other.settings, much.operator) as again:
        headers = await again.headers(much.owner)
        promoted = await again.http.post("/admin/v1/models/model-4/versions/1:promote", headers=headers)
        assert promoted.status_code == 200
        for model in ("bc", "model-4"):
            body = {"instances": [list(much.example)]}
            answer = await again.http.post(f"/v1/models/{model}:predict", json=body, headers=headers)
            assert answer.status_code == 200


async def _until(moment: str, place: Place, database: Database, process: subprocess.Popen[bytes]) -> None:
    """Wait until a restore is in the middle of a part."""
    blobs = place.settings.data_dir / "blobs"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None
        if moment == "blobs":
            if any(blobs.glob("??/*")):
                return
        elif database.is_sqlite:
            log = Path(database.url.partition(":///")[2] + "-wal")
            if log.exists() and log.stat().st_size > SCHEMA_BYTES:
                return
        elif moment != "main" or blobs.exists():
            busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'INSERT INTO %s%%'"
            table = "audit_records" if moment == "main" else "data_keys"
            try:
                if (await rows(database, busy % table))[0]:
                    return
            except GatewayError:
                pass
        await asyncio.sleep(0.001)
    raise AssertionError("it was over before it could be killed")


async def test_key_that_was_deleted_is_in_no_byte_of_a_backup_nor_of_the_key_store(
    tmp_path: Path, new_place: NewPlace
) -> None:
    place = new_place(SQLITE)
    secret = secrets.token_bytes(48)
    spellings = (secret, base64.b64encode(secret), secret.hex().encode())
    async with running_gateway(place.folder) as world:
        await world.tenant("acme")
        tenant = await world.tenant_id("acme")
        _, keys = open_databases(world.settings)
        values = {"id": new_id().hex, "tenant": tenant.hex, "secret": secret, "at": str(SystemClock().now())[:26]}
        async with keys.connection(is_write=True) as connection:
            columns = "artifact_id, tenant_id, purpose, key_version, nonce, context, ciphertext, created_at"
            await connection.execute(
                text(
                    f"INSERT INTO data_keys ({columns}) VALUES (:id, :tenant, 'artifacts', 1, :secret, :secret, :secret, :at)"
                ),
                values,
            )
        await place.backup(tmp_path / "with")
        assert any(spelling in _all_bytes(tmp_path / "with") for spelling in spellings)
        async with keys.connection(is_write=True) as connection:
            await connection.execute(text("DELETE FROM data_keys WHERE artifact_id = :id"), values)
        await place.backup(tmp_path / "without")
        assert not any(spelling in _all_bytes(tmp_path / "without") for spelling in spellings)
        await keys.close()
        checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)"  # until then, the log still has the page as it was before
        with closing(sqlite3.connect(place.settings.data_dir / "keys.sqlite", timeout=30)) as by_hand:
            assert by_hand.execute(checkpoint).fetchone()[0] == 0
        assert not any(spelling in _all_bytes(place.settings.data_dir) for spelling in spellings)


def _all_bytes(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_what_cannot_be_backed_up_or_put_there_is_one_sentence_and_a_code(
    tmp_path: Path, new_place: NewPlace, capsys: pytest.CaptureFixture[str]
) -> None:
    place = new_place(SQLITE)
    await prepare(place.settings, makes_root_key=True)
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "something").touch()
    file.touch()
    assert_refused(place.run("backup", "--to", full), os.EX_CANTCREAT, f"{full}: a backup goes into a directory of its")
    for to in (full, file, Path("/proc/nowhere")):
        with pytest.raises(SystemExit) as left:
            await place.backup(to)
        assert left.value.code == os.EX_CANTCREAT
        (sentence,) = capsys.readouterr().err.splitlines()
        assert sentence.startswith(f"maas-gateway: {to}: ")
    assert [path.name for path in full.iterdir()] == ["something"]
    none = Place(tmp_path / "none")
    assert_refused(none.run("backup", "--to", tmp_path / "backup"), os.EX_CONFIG, "there is no data directory")
    none.settings.data_dir.mkdir(parents=True)
    with pytest.raises(Misconfigured, match="run: maas-gateway database upgrade"):
        await none.backup(tmp_path / "backup")
    assert list((tmp_path / "backup").iterdir()) == []  # nothing half-done lies about
    await place.backup(tmp_path / "backup")
    away = Place(tmp_path / "away", "postgresql+asyncpg://nobody:hunter2@127.0.0.1:9/none")
    ended = away.run("restore", "--from", tmp_path / "backup")
    assert_refused(ended, os.EX_CONFIG, "database cannot be opened")
    assert "hunter2" not in ended.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [("backup", ("main/", "keys/", "blobs/", "root key", "apart")), ("restore", ("root key", "init"))],
)
def test_help_teaches_what_is_in_a_backup_and_what_is_kept_apart(command: str, words: tuple[str, ...]) -> None:
    shown = run_command("database", command, "--help").stdout
    for word in words:
        assert word in shown
