"""Refresh tokens, revocation, introspection: what a sign-in gives, how it goes on, and how it ends everywhere."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from builders.clocks import ShiftedClock
from builders.gateways import Account, World, bearer, joined_gateway, running_gateway
from builders.plaintext import Search
from maas_gateway.auth import store
from maas_gateway.auth.refresh import RefreshTokens
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.errors import TokenReused, Unauthenticated
from maas_gateway.permissions import Permission

pytestmark = pytest.mark.anyio

USERS = "/admin/v1/users"


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_gateway(tmp_path_factory.mktemp("refresh")) as world:
        await world.tenants("acme", "globex")
        yield world


async def _signed_in(world: World, account: Account | None = None, **more: str) -> dict[str, Any]:
    account = account or world.owners["acme"]
    answer = await world.http.post("/oauth/token", data={**account.form(), **more})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


async def _refresh(world: World, text: str, **more: str) -> tuple[int, dict[str, Any]]:
    form = {"grant_type": "refresh_token", "refresh_token": text, **more}
    answer = await world.http.post("/oauth/token", data=form)
    return answer.status_code, answer.json()


async def _status(world: World, token: str) -> int:
    return (await world.http.get(USERS, headers=bearer(token))).status_code


async def _post(world: World, path: str, by: str, token: str) -> tuple[int, Any]:
    answer = await world.http.post(path, data={"token": token}, headers=bearer(by))
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.json() if answer.content else None


async def test_a_sign_in_goes_on_with_new_tokens_of_the_same_scope(world: World) -> None:
    first = await _signed_in(world, scope="user:read audit:read")
    status, second = await _refresh(world, first["refresh_token"])
    assert (status, second["scope"]) == (200, first["scope"])
    assert second["refresh_token"] != first["refresh_token"]
    for told in (first, second):
        assert await _status(world, told["access_token"]) == 200
    status, third = await _refresh(world, second["refresh_token"])
    assert status == 200
    assert await _status(world, third["access_token"]) == 200


async def test_a_service_account_gets_no_refresh_token(world: World) -> None:
    account = await world.service("acme", "invoker")
    assert "refresh_token" not in await _signed_in(world, account)


async def test_a_refreshed_token_may_be_for_less_and_never_for_more_than_the_sign_in(world: World) -> None:
    first = await _signed_in(world, scope="user:read audit:read")
    _, less = await _refresh(world, first["refresh_token"], scope="user:read")
    assert less["scope"] == "user:read"
    _, again = await _refresh(world, less["refresh_token"], scope="user:read user:write audit:read")
    assert again["scope"] == "audit:read user:read"  # what the sign-in was for, not what the last token was for
    status, refused = await _refresh(world, again["refresh_token"], scope="everything")
    assert (status, refused["error"]) == (400, "invalid_scope")
    assert (await _refresh(world, again["refresh_token"]))[0] == 200  # that did not spend it


async def test_a_token_that_is_spent_twice_ends_its_sign_in_in_every_process_and_no_other(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world, joined_gateway(world) as elsewhere:
        await world.tenant("acme")
        stolen, other = await _signed_in(world), await _signed_in(world)
        _, owners = await _refresh(world, stolen["refresh_token"])
        for process in (world, elsewhere):
            assert await _status(process, owners["access_token"]) == 200
        status, refused = await _refresh(elsewhere, stolen["refresh_token"])
        assert (status, refused["error"]) == (400, "invalid_grant")
        assert (await _refresh(world, owners["refresh_token"]))[0] == 400
        await asyncio.sleep(1)
        for process in (world, elsewhere):
            for told in (stolen, owners):
                assert await _status(process, told["access_token"]) == 401
            assert await _status(process, other["access_token"]) == 200
        assert (await _refresh(elsewhere, other["refresh_token"]))[0] == 200
        events = await world.http.get("/admin/v1/audit/events?limit=1000", headers=bearer(other["access_token"]))
        (alarm,) = [event for event in events.json()["events"] if event["kind"] == "token.reused"]
        assert (alarm["outcome"], alarm["actor"]) == ("alarm", f"account {world.owners['acme'].subject}")


async def test_of_two_that_spend_a_token_at_once_at_most_one_gets_another(world: World) -> None:
    told = await _signed_in(world)
    answers = await asyncio.gather(*(_refresh(world, told["refresh_token"]) for _ in range(4)))
    assert sorted(status for status, _ in answers)[1:] == [400, 400, 400]
    assert await _status(world, (await _signed_in(world))["access_token"]) == 200


async def test_an_account_that_may_not_act_any_more_refreshes_nothing(world: World) -> None:
    user = await world.user("acme", "leaver", "auditor")
    told = await _signed_in(world, user)
    owner = await world.headers(world.owners["acme"])
    assert (await world.http.patch(f"{USERS}/{user.subject}", json={"enabled": False}, headers=owner)).is_success
    status, refused = await _refresh(world, told["refresh_token"])
    assert (status, refused["error"]) == (400, "invalid_grant")


async def test_a_role_that_was_taken_is_not_in_the_next_token(world: World) -> None:
    user = await world.user("acme", "mover", "auditor", "invoker")
    told = await _signed_in(world, user)
    owner = await world.headers(world.owners["acme"])
    bindings = (await world.http.get("/admin/v1/role-bindings", headers=owner)).json()["bindings"]
    (auditing,) = [b["id"] for b in bindings if (b["subject"], b["role"]) == (user.subject, "auditor")]
    assert (await world.http.delete(f"/admin/v1/role-bindings/{auditing}", headers=owner)).status_code == 204
    _, following = await _refresh(world, told["refresh_token"])
    assert following["scope"] == "model:predict model:read"


async def test_a_revoked_access_token_is_worth_nothing_in_every_process_within_a_second(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world, joined_gateway(world) as elsewhere:
        await world.tenant("acme")
        told = await _signed_in(world)
        one, other = told["access_token"], (await _signed_in(world))["access_token"]
        for process in (world, elsewhere):
            assert await _status(process, one) == 200
        assert (await _post(world, "/oauth/revoke", one, one))[0] == 200
        assert await _status(world, one) == 401
        await asyncio.sleep(1)
        assert await _status(elsewhere, one) == 401
        for process in (world, elsewhere):
            assert await _status(process, other) == 200
        assert (await _refresh(world, told["refresh_token"]))[0] == 200  # its sign-in goes on


async def test_a_revoked_refresh_token_ends_its_sign_in(world: World) -> None:
    told = await _signed_in(world)
    by = await world.token(world.owners["acme"])
    assert (await _post(world, "/oauth/revoke", by, told["refresh_token"]))[0] == 200
    assert await _status(world, told["access_token"]) == 401
    assert (await _refresh(world, told["refresh_token"]))[0] == 400


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
@pytest.mark.parametrize("caller", ["another tenant's owner", "a colleague without rights"])
async def test_nobody_ends_what_is_not_his_to_end(world: World, kind: str, caller: str) -> None:
    told = await _signed_in(world)
    account = world.owners["globex"] if caller.startswith("another") else await world.service("acme", "publisher")
    by = await world.token(account)
    assert await _post(world, "/oauth/revoke", by, told[kind]) == (200, None)
    assert await _status(world, told["access_token"]) == 200
    assert (await _refresh(world, told["refresh_token"]))[0] == 200


async def test_an_owner_ends_a_colleagues_sign_in(world: World) -> None:
    user = await world.user("acme", "colleague", "owner")
    told = await _signed_in(world, user)
    by = await world.token(world.owners["acme"])
    assert (await _post(world, "/oauth/revoke", by, told["refresh_token"]))[0] == 200
    assert await _status(world, told["access_token"]) == 401


async def test_introspection_tells_of_the_callers_own_tenant_only(world: World) -> None:
    told = await _signed_in(world, scope="user:read")
    by = await world.token(await world.service("acme"))
    status, found = await _post(world, "/oauth/introspect", by, told["access_token"])
    assert (status, found["active"], found["scope"], found["username"]) == (200, True, "user:read", "owner@acme")
    assert {"exp", "jti", "iss", "aud", "sub", "token_type"} <= found.keys()
    _, found = await _post(world, "/oauth/introspect", by, told["refresh_token"])
    assert (found["active"], found["scope"]) == (True, "user:read")
    await _refresh(world, told["refresh_token"])
    stranger = await world.token(world.owners["globex"])
    for caller, token in (
        (by, told["refresh_token"]),  # it is spent
        (stranger, told["access_token"]),
        (by, "nonsense"),
        (by, f"mgr_{'A' * 43}"),
        (by, f"maas_{'0' * 16}_{'A' * 43}"),
    ):
        assert await _post(world, "/oauth/introspect", caller, token) == (200, {"active": False})


async def test_introspection_tells_a_revoked_tokens_end(world: World) -> None:
    told = await _signed_in(world)
    by = await world.token(world.owners["acme"])
    await _post(world, "/oauth/revoke", by, told["access_token"])
    assert (await _post(world, "/oauth/introspect", by, told["access_token"]))[1] == {"active": False}


@pytest.mark.parametrize("path", ["/oauth/revoke", "/oauth/introspect"])
async def test_nobody_asks_without_a_credential_or_a_token(world: World, path: str) -> None:
    answer = await world.http.post(path, data={"token": "x"})
    assert (answer.status_code, answer.headers["www-authenticate"].startswith("Bearer")) == (401, True)
    by = await world.headers(world.owners["acme"])
    answer = await world.http.post(path, data={"other": "x"}, headers=by)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_an_api_key_is_not_ended_as_a_token(world: World) -> None:
    by = await world.token(world.owners["acme"])
    status, refused = await _post(world, "/oauth/revoke", by, f"maas_{'0' * 16}_{'A' * 43}")
    assert (status, refused["error"]) == (400, "unsupported_token_type")


async def test_a_refresh_token_stands_in_no_file(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        told = await _signed_in(world)
        _, following = await _refresh(world, told["refresh_token"])
    secrets = {name: [found["refresh_token"][4:].encode()] for name, found in (("old", told), ("new", following))}
    assert Search(secrets).in_files(file for file in tmp_path.rglob("*") if file.is_file()) == {}


async def test_a_sign_in_ends_a_fixed_time_after_it_began_however_often_it_is_refreshed(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await world.tenant("acme")
        clock, database = ShiftedClock(), Database(world.settings.main_url, CHANGES)
        user = await store.user(database, owner.name)
        assert user is not None
        tokens = RefreshTokens(database, clock, life_s=1_000, access_life_s=900)
        scope = frozenset({Permission.MODEL_READ})
        text, family = await tokens.begin(user, scope)
        clock.ahead_s = 600
        spent = await tokens.spend(text)
        assert (spent.token.family, spent.token.scope, spent.generation) == (family, scope, 0)
        text = spent.following
        clock.ahead_s = 1_001
        with pytest.raises(Unauthenticated) as refused:
            await tokens.spend(text)
        assert not isinstance(refused.value, TokenReused)
        await database.close()
