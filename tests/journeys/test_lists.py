"""Long lists page by page, and role bindings one by one."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from builders.gateways import World, running_gateway
from builders.listening import listening
from maas_gateway.admin.paging import USUAL
from maas_gateway.client.gateway import GatewayClient
from maas_gateway.clock import SystemClock
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.registry import store as registry

pytestmark = pytest.mark.anyio

A = "/admin/v1"
NOBODY_KNOWS = "11111111-1111-4111-8111-111111111111"
LISTS = {
    "tenants": ("tenants", "slug"),
    "users": ("accounts", "name"),
    "service-accounts": ("accounts", "name"),
    "api-keys": ("api_keys", "id"),
    "role-bindings": ("bindings", "id"),
    "models": ("models", "name"),
}
"""Each list, the member of its answer that holds the items, and what tells these apart."""


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_gateway(tmp_path_factory.mktemp("lists")) as world:
        await world.tenants("acme", "globex")
        yield world


async def _add_models(world: World, *names: str) -> None:
    """Add models without versions."""
    database = Database(world.settings.main_url, CHANGES)
    async with database.write(await world.tenant_id("acme")) as session:
        for name in names:
            await registry.ensure_model(session, name, SystemClock().now())
    await database.close()


async def _add(world: World, path: str, number: int, headers: dict[str, str]) -> str:
    """Add something to a list, at a place in its order that the number says; return what tells it apart."""
    if path == "models":
        await _add_models(world, f"m-{number:02}")
        return f"m-{number:02}"
    body: dict[str, Any] = {
        "tenants": {"slug": f"tenant-{number:02}"},
        "api-keys": {"name": "the-same-name", "permissions": ["model:read"]},
        "role-bindings": {"subject": world.owners["acme"].subject, "role": "invoker", "model": f"m-{number:02}"},
    }.get(path, {"name": f"n-{number:02}"})
    made = await world.http.post(f"{A}/{path}", json=body, headers=headers)
    assert made.status_code == 201, made.text
    return str(made.json()[LISTS[path][1]])


async def _pages(world: World, path: str, headers: dict[str, str], *, limit: int) -> AsyncIterator[list[str]]:
    cursor: str | None = None
    member, key = LISTS[path]
    while True:
        params = {"limit": limit, **({} if cursor is None else {"cursor": cursor})}
        answer = await world.http.get(f"{A}/{path}", params=params, headers=headers)
        assert answer.status_code == 200, answer.text
        yield [item[key] for item in answer.json()[member]]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return


async def test_walking_the_pages_gives_each_item_once_while_others_come_and_go(
    tmp_path: Path, database_url: str
) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        await world.tenant("acme")
        for path in LISTS:
            headers = await world.headers(world.operator if path == "tenants" else world.owners["acme"])
            there = [await _add(world, path, number, headers) for number in range(10, 50, 5)]
            seen, number = list[str](), 11
            async for page in _pages(world, path, headers, limit=3):
                assert len(page) <= 3
                seen += page
                if number < 92:  # once before what was seen last and once behind it
                    await _add(world, path, number, headers)
                    number += 20
                if path == "users" and number < 72:
                    gone = there.pop()
                    user = next(u for u in await _users(world, headers) if u["name"] == gone)
                    assert (await world.http.delete(f"{A}/users/{user['id']}", headers=headers)).status_code == 204
            assert len(seen) == len(set(seen)), path
            assert set(there) <= set(seen), path
            assert seen == sorted(seen) or path in {"role-bindings", "api-keys"}, path
            for limit in (1, 1000):
                assert [name async for page in _pages(world, path, headers, limit=limit) for name in page] == [
                    name async for page in _pages(world, path, headers, limit=7) for name in page
                ]


async def _users(world: World, headers: dict[str, str]) -> list[dict[str, Any]]:
    return list((await world.http.get(f"{A}/users", params={"limit": 1000}, headers=headers)).json()["accounts"])


async def test_a_list_of_what_one_may_read_has_no_gaps(world: World) -> None:
    await _add_models(world, *(f"mine-{number}" for number in range(5)), *(f"other-{number}" for number in range(5)))
    account = await world.service("acme", invoker="mine-1", publisher="other-3")
    headers = await world.headers(account)
    assert [page async for page in _pages(world, "models", headers, limit=1)] == [["mine-1"], ["other-3"]]
    nobody = await world.headers(await world.service("acme"))
    assert [page async for page in _pages(world, "models", nobody, limit=1)] == [[]]


def _cursor(*parts: str) -> str:
    return base64.urlsafe_b64encode("\n".join(parts).encode("utf-8", "surrogatepass")).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    [
        pytest.param("!", id="no base64"),
        pytest.param("é", id="no ASCII"),
        pytest.param("a", id="half a byte"),
        pytest.param(base64.urlsafe_b64encode(b"\xff\xfe").decode(), id="no UTF-8"),
        pytest.param(_cursor("a\x00b"), id="a NUL"),
        pytest.param(_cursor("\ud800"), id="half a surrogate pair"),
        pytest.param(_cursor("a", "b", "c"), id="too many parts"),
        pytest.param("A" * 600, id="too long"),
    ],
)
@pytest.mark.parametrize("path", LISTS)
async def test_a_malformed_cursor_is_refused_by_its_name(world: World, path: str, cursor: str) -> None:
    headers = await world.headers(world.owners["acme"])
    answer = await world.http.get(f"{A}/{path}", params={"cursor": cursor}, headers=headers)
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (400, "cursor"), answer.text


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["0", "-1", "1001", "many", ""])
async def test_a_limit_out_of_bounds_is_refused_by_its_name(world: World, path: str, limit: str) -> None:
    headers = await world.headers(world.owners["acme"])
    answer = await world.http.get(f"{A}/{path}", params={"limit": limit}, headers=headers)
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (400, "limit"), answer.text


async def test_a_cursor_gives_another_tenant_nothing_of_the_one_that_it_is_of(world: World) -> None:
    acme, globex = [await world.headers(world.owners[slug]) for slug in ("acme", "globex")]
    for path in ("users", "service-accounts", "api-keys", "role-bindings", "models"):
        for number in (1, 2):
            await _add(world, path, 60 + number, acme)
        cursor = (await world.http.get(f"{A}/{path}", params={"limit": 1}, headers=acme)).json()["next_cursor"]
        answer = await world.http.get(f"{A}/{path}", params={"cursor": cursor}, headers=globex)
        own = await world.http.get(f"{A}/{path}", headers=globex)
        member, key = LISTS[path]
        listed = [[item[key] for item in found.json()[member]] for found in (answer, own)]
        assert set(listed[0]) <= set(listed[1]), path


async def test_the_projects_own_client_follows_the_pages(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        names = [f"model-{number:03}" for number in range(USUAL + 1)]
        await _add_models(world, *names)
        credential = {"token": await world.token(world.owners["acme"])}

        def listed(url: str) -> list[str]:
            with GatewayClient(url, credential) as client:
                assert [tenant["slug"] for tenant in client.tenants()] == ["acme"]
                return [model["name"] for model in client.models()]

        async with listening(world.app) as url:
            assert await anyio.to_thread.run_sync(listed, url) == names


# --- role bindings -------------------------------------------------------------------------------


async def _bound(world: World, role: str, model: str | None = None) -> tuple[str, dict[str, str]]:
    """Bind a role to a new service account; return the binding's address and the owner's headers."""
    owner = await world.headers(world.owners["acme"])
    account = await world.service("acme")
    body = {"subject": account.subject, "role": role, **({} if model is None else {"model": model})}
    made = await world.http.post(f"{A}/role-bindings", json=body, headers=owner)
    assert made.status_code == 201
    return made.headers["location"], owner


async def test_a_bindings_role_is_changed_in_its_place_and_counts_at_once(world: World) -> None:
    owner = await world.headers(world.owners["acme"])
    account = await world.service("acme", "auditor")
    listed = (await world.http.get(f"{A}/role-bindings", params={"limit": 1000}, headers=owner)).json()["bindings"]
    (bound,) = (binding for binding in listed if binding["subject"] == account.subject)
    address = f"{A}/role-bindings/{bound['id']}"
    assert (await world.http.get(address, headers=owner)).json() == bound
    before = await world.headers(account)
    assert (await world.http.get(f"{A}/audit/events", headers=before)).status_code == 200
    changed = await world.http.patch(address, json={"role": "key-custodian"}, headers=owner)
    assert (changed.status_code, changed.json()) == (200, {**bound, "role": "key-custodian"})
    assert (await world.http.get(address, headers=owner)).json() == changed.json()
    assert (await world.http.get(f"{A}/audit/events", headers=before)).status_code == 403
    after = await world.headers(account)
    assert (await world.http.get(f"{A}/keyrings", headers=after)).status_code == 200
    again = await world.http.patch(address, json={"role": "key-custodian"}, headers=owner)
    assert (again.status_code, again.json()) == (200, changed.json())
    events = await world.gateway.browse.events(await world.principal(world.owners["acme"]), after=0, limit=1000)
    assert next(found.event.detail["before"] for found in events if found.event.kind == "role.changed") == "auditor"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param({"role": "operator"}, 400, id="a role of the platform's"),
        pytest.param({"role": "king"}, 400, id="a role that there is not"),
        pytest.param({"role": "auditor"}, 400, id="a role that is not of one model"),
        pytest.param({}, 400, id="no role"),
        pytest.param({"role": "publisher", "model": "another"}, 400, id="another model"),
        pytest.param({"role": "publisher", "subject": NOBODY_KNOWS}, 400, id="another subject"),
        pytest.param({"role": "publisher"}, 200, id="another role of one model"),
    ],
)
async def test_a_binding_of_one_model_takes_what_may_be_bound_there(
    world: World, body: dict[str, str], status: int
) -> None:
    address, owner = await _bound(world, "invoker", "m")
    answer = await world.http.patch(address, json=body, headers=owner)
    assert answer.status_code == status, answer.text
    left = (await world.http.get(address, headers=owner)).json()
    assert left["role"] == (body["role"] if status == 200 else "invoker")


async def test_nobody_binds_a_role_by_change_that_permits_more_than_he_is(world: World) -> None:
    address, owner = await _bound(world, "invoker")
    narrow = await world.headers(world.owners["acme"], "binding:read binding:write model:read model:predict")
    assert (await world.http.patch(address, json={"role": "publisher"}, headers=narrow)).status_code == 403
    assert (await world.http.patch(address, json={"role": "owner"}, headers=narrow)).status_code == 403
    assert (await world.http.get(address, headers=owner)).json()["role"] == "invoker"


async def test_a_subject_has_a_role_once(world: World) -> None:
    address, owner = await _bound(world, "invoker")
    bound = (await world.http.get(address, headers=owner)).json()
    other = {"subject": bound["subject"], "role": "publisher"}
    assert (await world.http.post(f"{A}/role-bindings", json=other, headers=owner)).status_code == 201
    refused = await world.http.patch(address, json={"role": "publisher"}, headers=owner)
    assert refused.status_code == 409
    assert (await world.http.get(address, headers=owner)).json() == bound


async def test_the_last_owner_stays_one(tmp_path: Path, database_url: str) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        owner = await world.headers(await world.tenant("acme"))
        (bound,) = (await world.http.get(f"{A}/role-bindings", headers=owner)).json()["bindings"]
        address = f"{A}/role-bindings/{bound['id']}"
        assert (await world.http.patch(address, json={"role": "publisher"}, headers=owner)).status_code == 409
        assert (await world.http.get(address, headers=owner)).json()["role"] == "owner"
        await world.user("acme", "heir", "owner")
        assert (await world.http.patch(address, json={"role": "publisher"}, headers=owner)).status_code == 200
        assert (await world.http.get(address, headers=owner)).status_code == 404
