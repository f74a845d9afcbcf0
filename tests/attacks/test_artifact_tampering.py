"""Whoever can write to the blob store or the databases cannot have altered models served."""

import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from builders.gateways import World, joined_gateway, running_gateway
from builders.models import DemoModel, published_model
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES, KEYS_CHANGES
from maas_gateway.keyring.tables import DATA_KEYS, KEY_VERSIONS
from maas_gateway.registry.model import ArtifactRole
from maas_gateway.registry.tables import ARTIFACTS, MODEL_VERSIONS

pytestmark = pytest.mark.anyio


class _Stored:
    """Where a published model's plan lies, for whoever tampers with it."""

    def __init__(self, world: World, artifact: uuid.UUID) -> None:
        self.world = world
        self.artifact = artifact
        name = str(artifact)
        self.blob = world.settings.data_dir / "blobs" / name[:2] / name

    def flip(self, offset: int) -> None:
        content = bytearray(self.blob.read_bytes())
        content[offset] ^= 1
        self.blob.write_bytes(content)

    def cut(self, n_bytes: int) -> None:
        self.blob.write_bytes(self.blob.read_bytes()[:-n_bytes])

    def grow(self) -> None:
        self.blob.write_bytes(self.blob.read_bytes() + b"\0")

    def replace_by(self, other: "_Stored") -> None:
        shutil.copyfile(other.blob, self.blob)


async def _change(url: str, is_keys: bool, statement: sa.Update | sa.Delete) -> None:  # noqa: FBT001
    database = Database(url, KEYS_CHANGES if is_keys else CHANGES)
    async with database.connection(is_write=True) as connection:
        await connection.execute(statement)
    await database.close()


async def _keys(stored: _Stored, statement: sa.Update | sa.Delete) -> None:
    await _change(stored.world.settings.keys_url, True, statement)


async def _main(stored: _Stored, statement: sa.Update | sa.Delete) -> None:
    await _change(stored.world.settings.main_url, False, statement)


def _own(stored: _Stored) -> sa.ColumnElement[bool]:
    return DATA_KEYS.c.artifact_id == stored.artifact


async def _give_it_the_others_row(own: _Stored, other: _Stored) -> None:
    """Another tenant's blob under our name, with that blob's own wrapped key under our artifact's id."""
    own.replace_by(other)
    database = Database(own.world.settings.keys_url, KEYS_CHANGES)
    async with database.connection(is_write=True) as connection:
        row = (await connection.execute(sa.select(DATA_KEYS).where(DATA_KEYS.c.artifact_id == other.artifact))).one()
        stolen = {"nonce": row.nonce, "context": row.context, "ciphertext": row.ciphertext}
        await connection.execute(sa.update(DATA_KEYS).where(_own(own)).values(**stolen))
    await database.close()


Tamper = Callable[[_Stored, _Stored, _Stored], Any]

CASES: list[Any] = [
    pytest.param(lambda own, _v2, _other: own.flip(0), id="a bit of the magic"),
    pytest.param(lambda own, _v2, _other: own.flip(5), id="a bit of the format"),
    pytest.param(lambda own, _v2, _other: own.flip(9), id="a bit of the header's length"),
    pytest.param(lambda own, _v2, _other: own.flip(40), id="a bit of the header"),
    pytest.param(lambda own, _v2, _other: own.flip(300), id="a bit of the commitment or the stream's head"),
    pytest.param(lambda own, _v2, _other: own.flip(5_000), id="a bit of the body"),
    pytest.param(lambda own, _v2, _other: own.flip(-1), id="a bit of the last tag"),
    pytest.param(lambda own, _v2, _other: own.cut(1), id="the last byte cut off"),
    pytest.param(lambda own, _v2, _other: own.cut(1_000), id="the end cut off"),
    pytest.param(lambda own, _v2, _other: own.blob.write_bytes(b""), id="emptied"),
    pytest.param(lambda own, _v2, _other: own.grow(), id="a byte more"),
    pytest.param(lambda own, _v2, _other: own.blob.unlink(), id="deleted"),
    pytest.param(lambda own, v2, _other: own.replace_by(v2), id="another version's blob in its place"),
    pytest.param(lambda own, _v2, other: own.replace_by(other), id="another tenant's blob in its place"),
    pytest.param(lambda own, _v2, other: _give_it_the_others_row(own, other), id="another tenant's blob and its key"),
    pytest.param(
        lambda own, _v2, _other: _keys(own, sa.update(DATA_KEYS).where(_own(own)).values(ciphertext=bytes(48))),
        id="the wrapped key altered",
    ),
    pytest.param(
        lambda own, _v2, _other: _keys(own, sa.update(DATA_KEYS).where(_own(own)).values(nonce=bytes(12))),
        id="its nonce altered",
    ),
    pytest.param(
        lambda own, _v2, _other: _keys(own, sa.update(DATA_KEYS).where(_own(own)).values(key_version=7)),
        id="a key version that does not exist",
    ),
    pytest.param(
        lambda own, _v2, _other: _keys(own, sa.delete(DATA_KEYS).where(_own(own))), id="its key's row deleted"
    ),
    pytest.param(
        lambda own, _v2, _other: _keys(
            own, sa.update(KEY_VERSIONS).where(KEY_VERSIONS.c.purpose == "artifacts").values(state="disabled")
        ),
        id="the tenants' ring disabled by hand",
    ),
    pytest.param(
        lambda own, v2, _other: _main(
            own, sa.update(ARTIFACTS).where(ARTIFACTS.c.id == own.artifact).values(role=ArtifactRole.SOURCE.value + "x")
        ),
        id="the row names another role",
    ),
]


@pytest.mark.parametrize("tamper", CASES)
async def test_a_tampered_version_is_not_served_and_raises_the_alarm(
    tmp_path: Path, demo: DemoModel, tamper: Tamper, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running_gateway(tmp_path, logs={"form": "json"}) as world:
        await world.tenants("acme", "globex")
        stored = [
            _Stored(
                world,
                (await published_model(world, slug, "bc", demo, version=n)).artifact(ArtifactRole.LITERT).artifact_id,
            )
            for slug, n in (("acme", 1), ("acme", 2), ("globex", 1))
        ]
        done = tamper(stored[0], stored[1], stored[2])
        if done is not None and hasattr(done, "__await__"):
            await done
        async with joined_gateway(world) as restarted:
            owner = await restarted.headers(world.owners["acme"])
            refused = await _predict(restarted, owner, demo, "/versions/1")
            assert refused.status_code == 503, refused.text
            assert "predictions" not in refused.text
            status = (await restarted.http.get("/v1/models/bc/versions/1", headers=owner)).json()
            assert status["model_version_status"][0]["state"] == "END"
            if "ring" not in str(tamper):
                others = await restarted.headers(world.owners["globex"])
                expected = 200 if _is_alone(tamper) else 503
                assert (await _predict(restarted, others, demo, "")).status_code == expected
            events = (await restarted.http.get("/admin/v1/audit/events?limit=1000", headers=owner)).json()["events"]
    logged = [json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")]
    assert any(line["event"] in {"integrity_alarm", "model_not_loaded"} for line in logged)
    if any(line["event"] == "integrity_alarm" for line in logged):
        assert any(event["outcome"] == "alarm" and "bc/versions/1" in event["thing"] for event in events)


def _is_alone(tamper: Tamper) -> bool:
    return CASES[-2].values[0] is not tamper


async def _predict(world: World, headers: dict[str, str], demo: DemoModel, which: str) -> httpx.Response:
    body = {"instances": [list(demo.seed.example)]}
    return await world.http.post(f"/v1/models/bc{which}:predict", json=body, headers=headers)


async def test_a_version_row_pointed_at_another_tenants_model_serves_nothing(tmp_path: Path, demo: DemoModel) -> None:
    """Whoever writes to the main database alone cannot have another tenant's model opened under his own."""
    async with running_gateway(tmp_path) as world:
        await world.tenants("acme", "globex")
        await published_model(world, "acme", "secret", demo)
        await published_model(world, "globex", "mine", demo)
        theirs, mine = await world.tenant_id("acme"), await world.tenant_id("globex")
        database = Database(world.settings.main_url, CHANGES)
        async with database.connection(is_write=True) as connection:
            await connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
            rows = dict((await connection.execute(sa.select(ARTIFACTS.c.tenant_id, ARTIFACTS.c.model_id))).all())
            await connection.execute(sa.delete(ARTIFACTS).where(ARTIFACTS.c.tenant_id == mine))
            await connection.execute(
                sa.update(ARTIFACTS).where(ARTIFACTS.c.tenant_id == theirs).values(tenant_id=mine, model_id=rows[mine])
            )
            assert (await connection.execute(sa.select(sa.func.count()).select_from(MODEL_VERSIONS))).scalar_one() == 2
        await database.close()
        async with joined_gateway(world) as restarted:
            headers = await restarted.headers(world.owners["globex"])
            answer = await restarted.http.post(
                "/v1/models/mine:predict", json={"instances": [list(demo.seed.example)]}, headers=headers
            )
            assert answer.status_code == 503
