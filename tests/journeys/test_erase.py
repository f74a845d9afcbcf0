"""Erasing a model or a tenant: nothing opens any more, nobody serves it, a signed certificate says so."""

import asyncio
import uuid
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from builders.gateways import Account, World, joined_gateway, running_gateway
from builders.models import DemoModel, published_model
from maas_gateway.controlplane.erase import CERTIFICATE
from maas_gateway.controlplane.operate import Report, _Stopped
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import KEYS_CHANGES
from maas_gateway.keyring.tables import DATA_KEYS, KEY_VERSIONS
from maas_gateway.operations import store as operations
from maas_gateway.operations.operation import Operation

pytestmark = pytest.mark.anyio


async def _post(world: World, account: Account, path: str) -> Any:
    answer = await world.http.post(f"/admin/v1/{path}", headers=await world.headers(account))
    return answer.status_code, answer.json()


async def _predict(world: World, account: Account, demo: DemoModel, model: str = "bc") -> int:
    body = {"instances": [list(demo.seed.example)]}
    answer = await world.http.post(f"/v1/models/{model}:predict", json=body, headers=await world.headers(account))
    return answer.status_code


async def _wrapped(world: World) -> list[bytes]:
    """Return every wrapped key of the tenant acme, as the key store has it."""
    tenant = await world.tenant_id("acme")
    database = Database(world.settings.keys_url, KEYS_CHANGES)
    async with database.connection(is_write=False) as connection:
        rings = sa.select(KEY_VERSIONS.c.wrapped).where(KEY_VERSIONS.c.tenant_id == tenant)
        data_keys = sa.select(DATA_KEYS.c.ciphertext).where(DATA_KEYS.c.tenant_id == tenant)
        found = [
            *(await connection.execute(rings)).scalars().all(),
            *(await connection.execute(data_keys)).scalars().all(),
        ]
    await database.close()
    return [bytes(key) for key in found if key is not None]


def _holding(folder: Path, secrets: list[bytes]) -> list[str]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return [file.name for file in files if any(secret in file.read_bytes() for secret in secrets)]


async def test_erased_model_is_gone_from_every_process_and_the_others_serve_on(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url) as world, joined_gateway(world) as elsewhere:
        await world.tenant("acme")
        owner = world.owners["acme"]
        for name in ("bc", "kept"):
            await published_model(world, "acme", name, demo)
        assert await _predict(elsewhere, owner, demo) == 200
        status, operation = await _post(world, owner, "models/bc:erase")
        assert (status, operation["state"]) == (200, "succeeded"), operation
        assert operation["result"]["says"]["n_workers_confirmed"] == 2
        for process in (world, elsewhere):
            assert await _predict(process, owner, demo) == 404
            assert await _predict(process, owner, demo, "kept") == 200
        assert (await _post(world, owner, "models/bc:erase"))[0] == 404
        blobs = [file for file in (world.settings.data_dir / "blobs").rglob("*") if file.is_file()]
        assert len(blobs) == 2


async def test_model_of_an_erased_ones_name_begins_without_its_bindings_and_quotas(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        owner = await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        invoker = await world.service("acme", invoker="bc")
        body = {"model": "bc", "quota": {"lifetime_rows": 0}}
        headers = await world.headers(owner)
        assert (await world.http.post("/admin/v1/quotas", json=body, headers=headers)).status_code == 201
        assert await _predict(world, invoker, demo) == 429
        await _post(world, owner, "models/bc:erase")
        await published_model(world, "acme", "bc", demo)
        assert await _predict(world, owner, demo) == 200
        assert await _predict(world, invoker, demo) == 404


async def test_certificate_verifies_and_names_the_keys_and_the_audit_record(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        version = await published_model(world, "acme", "bc", demo)
        _, operation = await _post(world, world.owners["acme"], "models/bc:erase")
        says = operation["result"]["says"]
        statements = world.gateway.erase._stores.statements
        assert await statements.verify(CERTIFICATE, operation["result"]["certificate"]) == says
        assert says["keys_destroyed"] == sorted(f"data-key/{artifact.artifact_id}" for artifact in version.artifacts)
        assert says["what"]["model"] == "bc"
        headers = await world.headers(world.owners["acme"])
        events = (await world.http.get("/admin/v1/audit/events?limit=1000", headers=headers)).json()["events"]
        (record,) = [event for event in events if event["kind"] == "erasure.certified"]
        assert says["audit_record"] == {"number": record["number"], "digest": record["digest"]}


async def test_certificate_of_an_erasure_that_died_after_its_rows_were_gone_names_what_there_was(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        version = await published_model(world, "acme", "bc", demo)
        erase, operate = world.gateway.erase, world.gateway.operate
        work = operate._works["erase"]

        async def dies(operation: Operation, report: Report) -> None:
            async def until_the_rows_are_gone(done: int, total: int) -> None:
                await report(done, total)
                if done == 2:
                    raise _Stopped

            await work(operation, until_the_rows_are_gone)

        operate._works["erase"] = dies
        _, operation = await _post(world, world.owners["acme"], "models/bc:erase")
        assert (operation["state"], operation["done"], operation["result"]) == ("running", 2, None)
        assert await published_model(world, "acme", "bc", demo) is not None  # the name is free again
        async with world.gateway.erase._acting.database.read(version.tenant) as session:
            found = await operations.get(session, uuid.UUID(operation["id"]))
        assert found is not None
        says = (await erase._steps(found, _tell_nobody))["says"]
        assert says["keys_destroyed"] == sorted(f"data-key/{artifact.artifact_id}" for artifact in version.artifacts)
        assert await _predict(world, world.owners["acme"], demo) == 200


async def _tell_nobody(done: int, total: int) -> None:
    pass


async def test_erased_tenant_has_no_key_left_in_any_file_and_its_people_cannot_act(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenants("acme", "globex")
        for slug in ("acme", "globex"):
            await published_model(world, slug, "bc", demo)
        owner, headers = world.owners["acme"], await world.headers(world.owners["acme"])
        keys = await _wrapped(world)
        assert len(keys) == 4  # two rings, two artifacts
        assert _holding(world.settings.data_dir, keys)
        status, operation = await _post(world, world.operator, "tenants/acme:erase")
        assert (status, operation["state"]) == (200, "succeeded"), operation
        assert len(operation["result"]["says"]["keys_destroyed"]) == 4
        assert _holding(world.settings.data_dir, keys) == []
        assert (await world.http.get("/admin/v1/models", headers=headers)).status_code == 401
        assert (await world.http.post("/oauth/token", data=owner.form())).status_code in {400, 401}
        assert await _predict(world, world.owners["globex"], demo) == 200
        assert (await _post(world, world.operator, "tenants/acme:resume"))[0] == 404


async def test_key_store_from_before_the_erasure_opens_and_one_from_after_does_not(
    tmp_path: Path, demo: DemoModel
) -> None:
    """Shredding counts once no backup of the key store from before lives any more; until then it does not."""
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        blobs = {file: file.read_bytes() for file in (world.settings.data_dir / "blobs").rglob("*") if file.is_file()}
        main = world.settings.data_dir / "gateway.sqlite"
        database = Database(world.settings.main_url, KEYS_CHANGES)
        await database.purge()
        before = main.read_bytes()
        await _post(world, world.owners["acme"], "models/bc:erase")
        await database.close()
    for file, content in blobs.items():
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    for file in main.parent.glob("gateway.sqlite*"):
        file.unlink()
    main.write_bytes(before)
    async with joined_gateway(world) as restored:
        assert await _predict(restored, world.owners["acme"], demo) == 503


async def test_erasing_waits_no_longer_than_a_lease_for_a_process_that_does_not_answer(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path) as world, joined_gateway(world) as silent:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        silent.gateway.reconciler._applying[(await world.tenant_id("acme"), "stuck")] = asyncio.Event()
        began = asyncio.get_running_loop().time()
        _, operation = await _post(world, world.owners["acme"], "models/bc:erase")
        assert operation["result"]["says"]["n_workers_confirmed"] == 1
        assert asyncio.get_running_loop().time() - began < 8
        silent.gateway.reconciler._applying.clear()


@pytest.mark.parametrize(
    ("role", "expected"),
    [("publisher", 403), ("invoker", 403), ("auditor", 403), ("key-custodian", 404), ("owner", 200)],
)
async def test_only_an_owner_erases_a_model(tmp_path: Path, demo: DemoModel, role: str, expected: int) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        assert (await _post(world, await world.service("acme", role), "models/bc:erase"))[0] == expected


async def test_a_tenant_is_erased_by_an_operator_or_its_owner_and_nobody_else(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenants("acme", "globex")
        assert (await _post(world, world.owners["globex"], "tenants/acme:erase"))[0] == 404
        assert (await _post(world, await world.service("acme", "publisher"), "tenants/acme:erase"))[0] == 404
        assert (await _post(world, world.owners["acme"], "tenants/acme:erase"))[0] == 200
        assert (await _post(world, world.operator, "tenants/globex:erase"))[0] == 200
        assert (await _post(world, world.operator, "tenants/nobody:erase"))[0] == 404
