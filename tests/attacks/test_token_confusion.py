"""Good credentials whose time is over, here at once and in every other process within a second.

Those that never counted, and those that do not any more at every route: `test_negative_cases.py`.
Source: `security.md` 3.3, items 21 and 36 to 42.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from builders.gateways import Account, World, bearer, joined_gateway, running_gateway
from maas_gateway.identifiers import PLATFORM, TenantId
from maas_gateway.keyring.key import KeyState, Purpose

pytestmark = pytest.mark.anyio

NOTICED_WITHIN_S = 1.0


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_gateway(tmp_path_factory.mktemp("confusion")) as world:
        await world.tenants("acme", "globex")
        yield world


async def test_refusals_are_counted_in_the_platforms_chain(world: World) -> None:
    operator = await world.headers(world.operator)
    for _ in range(3):
        await world.http.get("/admin/v1/users", headers=bearer("nonsense"))
    events = (await world.http.get("/admin/v1/audit/events?limit=1000", headers=operator)).json()["events"]
    refused = [e for e in events if e["thing"] == "GET /admin/v1/users" and e["reason"] == "token-invalid"]
    assert sum(event["n_times"] for event in refused) == 3
    assert {event["actor"] for event in refused} == {"anonymous"}
    assert "nonsense" not in str(events)


# --- good once -----------------------------------------------------------------------------------


async def disable_user(world: World, account: Account) -> None:
    owner = await world.headers(world.owners["acme"])
    done = await world.http.patch(f"/admin/v1/users/{account.subject}", json={"enabled": False}, headers=owner)
    assert done.status_code == 204


async def disable_service_account(world: World, account: Account) -> None:
    owner = await world.headers(world.owners["acme"])
    path = f"/admin/v1/service-accounts/{account.subject}"
    assert (await world.http.patch(path, json={"enabled": False}, headers=owner)).status_code == 204


async def suspend_tenant(world: World, account: Account) -> None:
    operator = await world.headers(world.operator)
    assert (await world.http.post("/admin/v1/tenants/acme:suspend", headers=operator)).status_code == 200


async def delete_account(world: World, account: Account) -> None:
    owner = await world.headers(world.owners["acme"])
    gone = await world.http.delete(f"/admin/v1/users/{account.subject}", headers=owner)
    assert gone.status_code == 204


async def remove_bindings(world: World, account: Account) -> None:
    owner = await world.headers(world.owners["acme"])
    listed = (await world.http.get("/admin/v1/role-bindings", headers=owner)).json()["bindings"]
    for binding in listed:
        if binding["subject"] == account.subject:
            gone = await world.http.delete(f"/admin/v1/role-bindings/{binding['id']}", headers=owner)
            assert gone.status_code == 204


async def auditing_user(world: World) -> Account:
    return await world.user("acme", "ada", "auditor")


async def auditing_service(world: World) -> Account:
    return await world.service("acme", "auditor")


Make = Callable[[World], Awaitable[Account]]
Act = Callable[[World, Account], Awaitable[None]]


@pytest.mark.parametrize(
    ("make", "act", "status"),
    [
        pytest.param(auditing_user, disable_user, 401, id="disabled user"),
        pytest.param(auditing_service, disable_service_account, 401, id="disabled service account"),
        pytest.param(auditing_user, suspend_tenant, 401, id="user of a suspended tenant"),
        pytest.param(auditing_service, suspend_tenant, 401, id="service account of a suspended tenant"),
        pytest.param(auditing_user, delete_account, 401, id="deleted user"),
        pytest.param(auditing_user, remove_bindings, 403, id="user whose role was taken away"),
        pytest.param(auditing_service, remove_bindings, 403, id="service account whose role was taken away"),
    ],
)
async def test_token_is_worth_nothing_at_once_here_and_within_a_second_elsewhere(
    tmp_path: Path, database_url: str, *, make: Make, act: Act, status: int
) -> None:
    async with running_gateway(tmp_path, database_url) as world, joined_gateway(world) as elsewhere:
        await world.tenant("acme")
        account = await make(world)
        headers = await world.headers(account)
        for place in (world, elsewhere):
            assert (await place.http.get("/admin/v1/audit/events", headers=headers)).status_code == 200
            assert (await place.http.get("/v2", headers=headers)).status_code == 200
        await act(world, account)
        assert (await world.http.get("/admin/v1/audit/events", headers=headers)).status_code == status
        for place in (world, elsewhere):
            await until(place, headers, status)
            assert (await place.http.get("/v2", headers=headers)).status_code == (401 if status == 401 else 200)
            if status == 401:
                form = account.form()
                assert (await place.http.post("/oauth/token", data=form)).status_code in {400, 401}


async def until(world: World, headers: dict[str, str], status: int) -> None:
    ends_at = time.monotonic() + NOTICED_WITHIN_S
    while (await world.http.get("/admin/v1/audit/events", headers=headers)).status_code != status:
        assert time.monotonic() < ends_at, "not noticed within a second"
        await asyncio.sleep(0.02)


async def test_resumed_tenants_tokens_count_again(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await world.tenant("acme")
        headers = await world.headers(owner)
        await suspend_tenant(world, owner)
        assert (await world.http.get("/admin/v1/users", headers=headers)).status_code == 401
        operator = await world.headers(world.operator)
        assert (await world.http.post("/admin/v1/tenants/acme:resume", headers=operator)).status_code == 200
        assert (await world.http.get("/admin/v1/users", headers=headers)).status_code == 200


async def test_rotated_signing_key_keeps_tokens_good_and_a_retired_one_ends_them_everywhere(
    tmp_path: Path, database_url: str
) -> None:
    async with running_gateway(tmp_path, database_url) as world, joined_gateway(world) as elsewhere:
        owner = await world.tenant("acme")
        operator = await world.headers(world.operator)
        old = await world.headers(owner)
        for place in (world, elsewhere):
            assert (await place.http.get("/admin/v1/audit/events", headers=old)).status_code == 200
        rotated = await world.http.post("/admin/v1/keyrings/token-signing:rotate", headers=operator)
        assert rotated.json()["state"] == "succeeded"
        new = await world.headers(owner)
        for headers in (old, new):
            for place in (elsewhere, world):  # the other process has not seen the new key yet
                assert (await place.http.get("/admin/v1/audit/events", headers=headers)).status_code == 200
        kids = [key["kid"] for key in (await elsewhere.http.get("/.well-known/jwks.json")).json()["keys"]]
        assert len(kids) == 2

        early = await world.http.post("/admin/v1/keyrings/token-signing/versions/1:retire", headers=operator)
        assert (early.status_code, early.headers["retry-after"].isdigit()) == (409, True)
        # The wait is over at once: what the retirement does then.
        keyring = world.gateway.jwks._keyring
        await keyring.move(PLATFORM, Purpose.TOKEN_SIGNING, 1, state=KeyState.DISABLED)
        for place in (world, elsewhere):
            await until(place, old, 401)
            assert (await place.http.get("/admin/v1/audit/events", headers=new)).status_code == 200
            assert len((await place.http.get("/.well-known/jwks.json")).json()["keys"]) == 1


def test_platform_is_no_tenant() -> None:
    assert TenantId(PLATFORM).int == 0
