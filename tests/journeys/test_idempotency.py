"""Acts with an Idempotency-Key: sent twice they are done once, and what is kept of them opens to nobody else."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import sqlalchemy as sa

from builders.gateways import Account, World, joined_gateway, running_gateway
from maas_gateway.controlplane.sweep import sweep
from maas_gateway.crypto.aead import frame
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.idempotency.request import LIFE, PATIENCE, fingerprint_of
from maas_gateway.idempotency.tables import IDEMPOTENT_REQUESTS as REQUESTS

pytestmark = pytest.mark.anyio

USERS = "/admin/v1/users"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_gateway(tmp_path) as world:
        await world.tenants("acme", "globex")
        yield world


@pytest.fixture
async def world_on_each(tmp_path: Path, database_url: str) -> AsyncIterator[World]:
    """The same, on both engines."""
    async with running_gateway(tmp_path, database_url) as world:
        await world.tenants("acme", "globex")
        yield world


def new_key() -> str:
    return str(uuid.uuid4())


async def asked(
    world: World,
    account: Account,
    key: str,
    *,
    path: str = USERS,
    body: Any = None,
    method: str = "POST",
) -> httpx.Response:
    headers = {**await world.headers(account), "Idempotency-Key": key}
    given = {} if body is None else {"json": body}
    return await world.http.request(method, path, headers=headers, **given)


async def kept(world: World) -> list[Any]:
    database = Database(world.settings.main_url, CHANGES)
    async with database.connection(is_write=False) as connection:
        found = list((await connection.execute(sa.select(REQUESTS))).mappings())
    await database.close()
    return found


async def made_older(world: World, by: timedelta) -> None:
    database = Database(world.settings.main_url, CHANGES)
    (row,) = await kept(world)
    async with database.connection(is_write=True) as connection:
        await connection.execute(sa.update(REQUESTS).values(began_at=row["began_at"] - by))
    await database.close()


async def names(world: World, account: Account) -> set[str]:
    answer = await world.http.get(USERS, headers=await world.headers(account))
    return {each["name"] for each in answer.json()["accounts"]}


async def test_request_that_is_sent_twice_is_done_once_and_answered_alike_in_every_process(
    world_on_each: World,
) -> None:
    world = world_on_each
    owner, key = world.owners["acme"], new_key()
    first = await asked(world, owner, key, body={"name": "ada"})
    assert first.status_code == 201
    assert "idempotent-replayed" not in first.headers
    second = await asked(world, owner, f'"{key}"', body={"name": "ada"})
    async with joined_gateway(world) as other:
        third = await asked(other, owner, key, body={"name": "ada"})
    for again in (second, third):
        assert (again.status_code, again.content) == (201, first.content)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.headers["location"] == first.headers["location"]
        assert again.headers["content-type"] == first.headers["content-type"]
    assert await names(world, owner) == {"owner", "ada"}


async def test_secret_that_was_told_once_is_readable_in_no_row(world: World) -> None:
    key = new_key()
    told = (await asked(world, world.owners["acme"], key, body={"name": "ada"})).json()["password"]
    (row,) = await kept(world)
    assert row["answer"]
    assert told not in str(dict(row))
    assert key not in str(dict(row))


async def test_password_that_a_request_brings_cannot_be_tried_against_its_row(world: World) -> None:
    """The same request under two keys leaves rows that have nothing in common: without the key there is nothing to try."""
    body = {"current": "not the password", "new": "another long password"}
    owner = await world.principal(world.owners["acme"])
    for key in (new_key(), new_key()):
        fingerprint = fingerprint_of(key, "POST", "/admin/v1/password?", orjson.dumps(body))
        assert await world.gateway.repeats.begin(owner, key, fingerprint) is None
    first, second = await kept(world)
    assert first["fingerprint"] != second["fingerprint"]
    plain = hashlib.sha256(frame("POST", "/admin/v1/password?") + orjson.dumps(body)).hexdigest()
    assert plain not in {first["fingerprint"], second["fingerprint"]}


async def test_two_at_once_are_done_once(world_on_each: World) -> None:
    world = world_on_each
    owner, key = world.owners["acme"], new_key()
    answers = await asyncio.gather(*(asked(world, owner, key, body={"name": "ada"}) for _ in range(8)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.content for answer in answers if answer.status_code == 201}) == 1
    assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 409)
    assert await names(world, owner) == {"owner", "ada"}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", USERS, {"name": "eve"}, id="another body"),
        pytest.param("POST", f"{USERS}?for=eve", {"name": "ada"}, id="another query"),
        pytest.param("POST", "/admin/v1/service-accounts", {"name": "ada"}, id="another path"),
        pytest.param("PATCH", f"{USERS}/00000000-0000-4000-8000-000000000000", {"name": "ada"}, id="another method"),
    ],
)
async def test_key_that_came_with_another_request_is_refused(world: World, method: str, path: str, body: Any) -> None:
    owner, key = world.owners["acme"], new_key()
    assert (await asked(world, owner, key, body={"name": "ada"})).status_code == 201
    refused = await asked(world, owner, key, method=method, path=path, body=body)
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/idempotency-key-reused")
    assert await names(world, owner) == {"owner", "ada"}


async def test_key_is_its_callers_own(world: World) -> None:
    key = new_key()
    clerk = await world.user("acme", "clerk", "owner")
    answers = [await asked(world, who, key, body={"name": "ada"}) for who in (world.owners["globex"], clerk)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["id"] != answers[1].json()["id"]
    refused = await asked(world, world.owners["acme"], key, body={"name": "ada"})
    assert refused.status_code == 409, "it is this caller's first with that key, and the name is taken"


async def test_refused_request_changed_nothing_and_may_come_again(world: World) -> None:
    owner, key = world.owners["acme"], new_key()
    made = await asked(world, owner, new_key(), body={"name": "ada"})
    assert (await asked(world, owner, key, body={"name": "ada"})).status_code == 409
    removed = await asked(world, owner, new_key(), method="DELETE", path=made.headers["location"])
    assert removed.status_code == 204
    assert (await asked(world, owner, key, body={"name": "ada"})).status_code == 201
    assert len(await kept(world)) == 3


async def test_nothing_that_is_wrong_with_a_request_is_kept(world: World) -> None:
    owner = world.owners["acme"]
    for body in ({}, {"name": "ada", "age": 3}):
        assert (await asked(world, owner, new_key(), body=body)).status_code == 400
    wrong = await asked(world, owner, new_key(), method="DELETE", path=f"{USERS}/nobody")
    assert wrong.status_code in {400, 404}
    assert await kept(world) == []


async def test_deletion_that_is_sent_again_is_answered_as_before(world: World) -> None:
    owner, key = world.owners["acme"], new_key()
    path = (await asked(world, owner, new_key(), body={"name": "ada"})).headers["location"]
    for _ in range(2):
        assert (await asked(world, owner, key, method="DELETE", path=path)).status_code == 204
    assert (await asked(world, owner, new_key(), method="DELETE", path=path)).status_code == 404


async def test_request_that_broke_off_is_not_done_again_under_its_key(world: World) -> None:
    owner, key = world.owners["acme"], new_key()
    principal = await world.principal(owner)
    fingerprint = fingerprint_of(key, "POST", f"{USERS}?", b'{"name":"ada"}')
    assert await world.gateway.repeats.begin(principal, key, fingerprint) is None
    waiting = await asked(world, owner, key, body={"name": "ada"})
    assert (waiting.status_code, waiting.headers["retry-after"]) == (409, "1")
    await made_older(world, PATIENCE)
    broken = await asked(world, owner, key, body={"name": "ada"})
    assert broken.status_code == 409
    assert "nobody knows whether it took effect" in broken.json()["detail"]
    assert await names(world, owner) == {"owner"}


async def test_answer_is_kept_for_a_day(world_on_each: World) -> None:
    world = world_on_each
    owner, key = world.owners["acme"], new_key()
    assert (await asked(world, owner, key, body={"name": "ada"})).status_code == 201
    await made_older(world, LIFE + timedelta(seconds=1))
    assert (await asked(world, owner, key, body={"name": "ada"})).status_code == 409, "done anew: the name is taken"
    assert (await asked(world, owner, key, body={"name": "eve"})).status_code == 201
    await made_older(world, LIFE + timedelta(seconds=1))
    upload = world.gateway.upload
    await sweep(upload._acting, upload._artifacts)
    assert await kept(world) == []


async def test_erased_tenant_leaves_none(world: World) -> None:
    owner = world.owners["acme"]
    assert (await asked(world, owner, new_key(), body={"name": "ada"})).status_code == 201
    erased = await asked(world, world.operator, new_key(), path="/admin/v1/tenants/acme:erase")
    assert (erased.status_code, erased.json()["state"]) == (200, "succeeded"), erased.text
    tenants = {row["tenant_id"] for row in await kept(world)}
    assert len(tenants) == 1, "the operator's own"


@pytest.mark.parametrize("key", ["", "short", "x" * 256, "with a blank inside it", "\u00e9" * 20], ids=repr)
async def test_key_that_could_be_guessed_is_refused_and_nothing_is_done(world: World, key: str) -> None:
    owner = world.owners["acme"]
    headers = [
        (b"idempotency-key", key.encode()),
        *((n.encode(), v.encode()) for n, v in (await world.headers(owner)).items()),
    ]
    refused = await world.http.post(USERS, json={"name": "ada"}, headers=headers)
    assert refused.status_code == 400
    assert refused.json()["detail"].startswith("Idempotency-Key: ")
    assert await names(world, owner) == {"owner"}


async def test_caller_is_known_before_the_key_is_looked_at(world: World) -> None:
    assert (await world.http.post(USERS, json={"name": "ada"}, headers={"Idempotency-Key": "?"})).status_code == 401
    assert await kept(world) == []


async def test_document_says_which_routes_take_it(world: World) -> None:
    document = world.app.openapi()
    takes = {
        (method, path)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", []))
    }
    unsafe = {
        (method, path)
        for path, item in document["paths"].items()
        for method in item
        if path.startswith("/admin/v1") and method in {"post", "patch", "delete"}
    }
    assert takes == unsafe
    assert len(unsafe) > 30
