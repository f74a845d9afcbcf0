"""How much a tenant may store, exactly; and uploads that are whole, once, or not at all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from builders.gateways import World, joined_gateway, running_gateway
from builders.models import DemoModel, convert_as_before, quarantined_model, uploaded_model, with_idle_layer
from builders.storage import n_left
from maas_gateway.confinement.conversation import Sink
from maas_gateway.controlplane.examining import Converter
from maas_gateway.errors import StorageFull
from maas_gateway.inference.conversion.answer import Conversion
from maas_gateway.registry import store
from maas_gateway.registry.model import ModelVersion

pytestmark = pytest.mark.anyio

A = "/admin/v1/models"


async def _put(
    world: World, content: Any, path: str = "bc/versions/1", *, slug: str = "acme", **headers: str
) -> httpx.Response:
    signed_in = await world.headers(world.owners[slug])
    return await world.http.put(f"{A}/{path}", content=content, headers={**signed_in, **headers})


class _Body:
    """A body that notices whether it is spooled while it is read; what is refused before is read and thrown away."""

    def __init__(self, world: World, content: bytes) -> None:
        self._world = world
        self._content = content
        self.was_spooled = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), 4_096):
            self.was_spooled |= bool(_open_spools(self._world))
            yield self._content[start : start + 4_096]


async def test_tenant_stores_so_many_versions_and_no_more_until_one_goes(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url, uploads={"max_tenant_versions": 2}) as world:
        await world.tenants("acme", "globex")
        convert_as_before(world, demo)
        archive = demo.seed.archive
        await quarantined_model(world, "acme", "bc", demo)
        assert (await _put(world, archive, "other/versions/1")).status_code == 201
        body = _Body(world, archive)
        refused = await _put(world, body, "bc/versions/2")
        assert (refused.status_code, refused.json()["type"]) == (409, "/problems/storage-full")
        assert "has 2 versions of at most 2; delete one" in refused.json()["detail"]
        assert not body.was_spooled, "it is refused before its body is read"
        assert (await _put(world, archive, slug="globex")).status_code == 201
        assert (await _put(world, archive, "other/versions/1")).status_code == 200, "what is there takes no place"
        headers = await world.headers(world.owners["acme"])
        assert (await world.http.delete(f"{A}/bc/versions/1", headers=headers)).status_code == 204
        assert (await _put(world, archive, "bc/versions/2")).status_code == 201


async def test_tenant_stores_so_many_bytes_and_no_more(tmp_path: Path, database_url: str, demo: DemoModel) -> None:
    sealed = await _sealed_bytes(tmp_path / "measured", demo)
    bound = 2 * sealed + sealed // 2
    async with running_gateway(tmp_path, database_url, uploads={"max_tenant_bytes": bound}) as world:
        await world.tenant("acme")
        convert_as_before(world, demo)
        archive = demo.seed.archive
        for number in (1, 2):
            # Undeclared: what is declared must fit as it is, and plans may be smaller than the upload.
            assert (await _put(world, _Body(world, archive), f"bc/versions/{number}")).status_code == 201
        before = await n_left(world)
        large, small = archive + bytes(5 * sealed), archive[:1_000]
        for content, status in ((large, 409), (small, 422)):
            body = _Body(world, content)
            refused = await _put(world, body, "bc/versions/3", **{"content-length": str(len(content))})
            assert (refused.status_code, body.was_spooled) == (status, status == 422)
        undeclared = await _put(world, _Body(world, archive), "bc/versions/3")
        assert (undeclared.status_code, undeclared.json()["type"]) == (409, "/problems/storage-full")
        assert f"take {2 * sealed:,} of at most {bound:,} bytes" in undeclared.json()["detail"]
        assert await n_left(world) == before


async def _sealed_bytes(folder: Path, demo: DemoModel) -> int:
    async with running_gateway(folder) as world:
        await world.tenant("acme")
        version = await uploaded_model(world, "acme", "bc", demo)
        return sum(artifact.sealed_bytes for artifact in version.artifacts)


async def test_uploads_at_once_do_not_share_the_last_place(tmp_path: Path, database_url: str, demo: DemoModel) -> None:
    async with running_gateway(tmp_path, database_url, uploads={"max_tenant_versions": 3}) as world:
        await world.tenant("acme")
        async with joined_gateway(world) as elsewhere:
            everybody_converts = asyncio.Barrier(2)
            for process in (world, elsewhere):
                process.gateway.upload._examiner._convert = _meeting(everybody_converts, demo)
            await uploaded_model(world, "acme", "bc", demo, version=9)
            await uploaded_model(world, "acme", "bc", demo, version=8)
            archive = demo.seed.archive
            answers = await asyncio.gather(
                _put(world, archive, "a/versions/1"), _put(elsewhere, archive, "b/versions/1")
            )
            assert sorted(answer.status_code for answer in answers) == [201, 409]
            assert (await n_left(world))["versions"] == 3
            assert (await n_left(world)) | {"models": 0} == {
                "models": 0,
                "versions": 3,
                "artifacts": 6,
                "blobs": 6,
                "data keys": 6,
            }


async def test_place_that_one_transaction_takes_is_seen_by_the_next_which_waits_for_it(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url, uploads={"max_tenant_versions": 2}) as world:
        await world.tenant("acme")
        there = await uploaded_model(world, "acme", "bc", demo)
        database, bounds = world.gateway.upload._acting.database, world.gateway.upload._bounds

        async def write(version: ModelVersion) -> None:
            async with database.write(there.tenant) as session:
                await bounds.take(session, version)
                await store.add_version(session, version)

        second, third = (replace(there, version=number, artifacts=()) for number in (2, 3))
        async with database.write(there.tenant) as session:
            await bounds.take(session, second)
            other = asyncio.create_task(write(third))
            await asyncio.wait({other}, timeout=0.5)  # it has come as far as it can by now
            await store.add_version(session, second)
        with pytest.raises(StorageFull):
            await other


def _meeting(barrier: asyncio.Barrier, demo: DemoModel) -> Converter:
    async def convert(
        form: str, upload: AsyncIterator[bytes], *, size_bytes: int, sink: Sink, sample: bytes = b""
    ) -> Conversion:
        assert (form, sum([len(piece) async for piece in upload])) == ("keras", size_bytes)
        await sink(demo.made.payload)
        await barrier.wait()
        return demo.made.conversion

    return convert


@pytest.mark.parametrize(
    ("second", "statuses"),
    [
        pytest.param(lambda archive: archive, [200, 201], id="the same content"),
        pytest.param(with_idle_layer, [201, 409], id="other content"),
    ],
)
async def test_uploads_of_one_number_at_once_are_one_version(
    tmp_path: Path, database_url: str, demo: DemoModel, second: Callable[[bytes], bytes], statuses: list[int]
) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        await world.tenant("acme")
        async with joined_gateway(world) as elsewhere:
            both_convert = asyncio.Barrier(2)
            for process in (world, elsewhere):
                process.gateway.upload._examiner._convert = _meeting(both_convert, demo)
            first = demo.seed.archive
            answers = await asyncio.gather(_put(world, first), _put(elsewhere, second(first)))
            assert sorted(answer.status_code for answer in answers) == statuses
            assert await n_left(world) == {"models": 1, "versions": 1, "artifacts": 2, "blobs": 2, "data keys": 2}


async def test_upload_whose_connection_breaks_off_leaves_nothing(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        headers = await world.headers(world.owners["acme"])
        before = await n_left(world)
        answered: list[dict[str, Any]] = []
        messages = [
            {"type": "http.request", "body": demo.seed.archive[:100_000], "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict[str, Any]:
            assert not messages or _open_spools(world), "what has arrived lies in a spool"
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            answered.append(message)

        await world.app(_scope(f"{A}/bc/versions/1", headers, len(demo.seed.archive)), receive, send)
        assert answered[0]["status"] == 400
        assert await n_left(world) == before
        assert _open_spools(world) == []
        assert list((world.settings.data_dir / "spool").iterdir()) == []


def _scope(path: str, headers: dict[str, str], n_bytes: int) -> dict[str, Any]:
    fields = {**headers, "content-length": str(n_bytes), "host": "gateway"}
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "PUT",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in fields.items()],
        "client": ("127.0.0.1", 50_000),
        "server": ("gateway", 80),
        "state": {},
    }


def _open_spools(world: World) -> list[str]:
    """Return the spool files, which have no name, that this process holds open."""
    folder = str(world.settings.data_dir / "spool")
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except OSError:  # the one by which this folder is read
            continue
        if target.startswith(folder):
            found.append(target)
    return found
