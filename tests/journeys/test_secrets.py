"""Passwords and secrets that change, accounts that go, and that a tenant keeps an owner."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from builders.gateways import Account, World, bearer, joined_gateway, running_gateway

pytestmark = pytest.mark.anyio

A = "/admin/v1"
NEW = "a new password of mine"


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_gateway(tmp_path_factory.mktemp("secrets")) as world:
        await world.tenants("acme", "globex")
        yield world


async def _token(world: World, username: str, password: str) -> httpx.Response:
    form = {"grant_type": "password", "username": username, "password": password}
    return await world.http.post("/oauth/token", data=form)


async def _act(world: World, method: str, path: str, by: Account, body: Any = None) -> httpx.Response:
    return await world.http.request(method, f"{A}/{path}", json=body, headers=await world.headers(by))


async def test_a_changed_password_ends_every_sign_in_of_that_user_in_every_process(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world, joined_gateway(world) as elsewhere:
        await world.tenant("acme")
        user, other = await world.user("acme", "ada", "auditor"), await world.user("acme", "bob", "auditor")
        old = (await _token(world, user.name, user.secret)).json()
        others = await world.headers(other)
        change = {"current": user.secret, "new": NEW}
        answer = await world.http.post(f"{A}/password", json=change, headers=bearer(old["access_token"]))
        assert answer.status_code == 204, answer.text
        assert (await _token(world, user.name, user.secret)).status_code == 400
        assert (await _token(elsewhere, user.name, NEW)).status_code == 200
        refresh = {"grant_type": "refresh_token", "refresh_token": old["refresh_token"]}
        assert (await elsewhere.http.post("/oauth/token", data=refresh)).status_code == 400
        await asyncio.sleep(1)
        for process in (world, elsewhere):
            for headers, status in ((bearer(old["access_token"]), 401), (others, 200)):
                assert (await process.http.get(f"{A}/audit/events", headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"current": "wrong", "new": NEW}, "current"),
        ({"current": "", "new": NEW}, "current"),
        ({"current": "{}", "new": "short"}, "password"),
        ({"current": "{}"}, "new"),
        ({"current": "{}", "new": NEW, "user": "bob"}, "user"),
    ],
    ids=str,
)
async def test_a_password_is_not_changed_when(world: World, change: dict[str, str], field: str) -> None:
    owner = world.owners["acme"]
    sent = {name: owner.secret if text == "{}" else text for name, text in change.items()}
    answer = await _act(world, "POST", "password", owner, sent)
    assert (answer.status_code, field in answer.json()["detail"]) == (400, True), answer.text
    assert (await _token(world, owner.name, owner.secret)).status_code == 200


async def test_a_service_account_has_no_password_to_change(world: World) -> None:
    account = await world.service("acme", "owner")
    answer = await _act(world, "POST", "password", account, {"current": account.secret, "new": NEW})
    assert answer.status_code == 400


async def test_a_reset_password_is_told_once_and_ends_the_users_sign_ins(world: World) -> None:
    user = await world.user("acme", "carol", "auditor")
    headers = await world.headers(user)
    answer = await _act(world, "POST", f"users/{user.subject}:reset-password", world.owners["acme"])
    assert answer.status_code == 200
    assert (await world.http.get(f"{A}/audit/events", headers=headers)).status_code == 401
    assert (await _token(world, user.name, user.secret)).status_code == 400
    assert (await _token(world, user.name, answer.json()["password"])).status_code == 200


async def test_a_rotated_secret_is_the_only_one_that_counts(world: World) -> None:
    account = await world.service("acme", "auditor")
    answer = await _act(world, "POST", f"service-accounts/{account.subject}:rotate", world.owners["acme"])
    assert (answer.status_code, answer.json()["client_id"]) == (200, account.name)
    for secret, status in ((account.secret, 401), (answer.json()["client_secret"], 200)):
        form = {"grant_type": "client_credentials", "client_id": account.name, "client_secret": secret}
        assert (await world.http.post("/oauth/token", data=form)).status_code == status


async def test_tokens_of_a_secret_that_was_rotated_are_worth_nothing_in_every_process(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world, joined_gateway(world) as elsewhere:
        await world.tenant("acme")
        account, other = await world.service("acme", "auditor"), await world.service("acme", "auditor")
        old, others = await world.headers(account), await world.headers(other)
        for process in (world, elsewhere):
            assert (await process.http.get(f"{A}/audit/events", headers=old)).status_code == 200
        rotated = await _act(world, "POST", f"service-accounts/{account.subject}:rotate", world.owners["acme"])
        assert (await world.http.get(f"{A}/audit/events", headers=old)).status_code == 401
        new = replace(account, secret=rotated.json()["client_secret"])
        fresh = await world.headers(new)
        # A token that is younger than what another process knows counts there at once.
        assert (await elsewhere.http.get(f"{A}/audit/events", headers=fresh)).status_code == 200
        await asyncio.sleep(1)
        for headers, status in ((old, 401), (fresh, 200), (others, 200)):
            assert (await elsewhere.http.get(f"{A}/audit/events", headers=headers)).status_code == status


@pytest.mark.parametrize("kind", ["users", "service-accounts"])
async def test_who_was_disabled_and_is_enabled_again_signs_in_anew(world: World, kind: str) -> None:
    owner = world.owners["acme"]
    account = await (world.user("acme", "judy", "auditor") if kind == "users" else world.service("acme", "auditor"))
    told = (await world.http.post("/oauth/token", data=account.form())).json()
    assert (await world.http.get(f"{A}/audit/events", headers=bearer(told["access_token"]))).status_code == 200
    for enabled in (False, True):
        assert (await _act(world, "PATCH", f"{kind}/{account.subject}", owner, {"enabled": enabled})).is_success
    assert (await world.http.get(f"{A}/audit/events", headers=bearer(told["access_token"]))).status_code == 401
    if kind == "users":
        refresh = {"grant_type": "refresh_token", "refresh_token": told["refresh_token"]}
        assert (await world.http.post("/oauth/token", data=refresh)).status_code == 400
    headers = await world.headers(account)
    assert (await world.http.get(f"{A}/audit/events", headers=headers)).status_code == 200
    assert (await _act(world, "PATCH", f"{kind}/{account.subject}", owner, {"enabled": True})).is_success
    assert (await world.http.get(f"{A}/audit/events", headers=headers)).status_code == 200, (
        "enabling alone ends nothing"
    )


async def test_nobody_is_told_the_secret_of_an_account_that_is_permitted_more(world: World) -> None:
    owner = world.owners["acme"]
    auditor, publisher = await world.user("acme", "frank", "auditor"), await world.service("acme", publisher="m")
    scopes = "user:read user:write service-account:read service-account:write"
    for scope in (scopes, f"{scopes} audit:read"):
        headers = await world.headers(owner, scope)
        for path in (
            f"users/{owner.subject}:reset-password",
            f"users/{auditor.subject}:reset-password",
            f"service-accounts/{publisher.subject}:rotate",
        ):
            assert (await world.http.post(f"{A}/{path}", headers=headers)).status_code == 403, path
    for account in (owner, auditor, publisher):
        assert (await world.http.post("/oauth/token", data=account.form())).status_code == 200
    headers = await world.headers(owner, f"{scopes} audit:read model:read")
    told = await world.http.post(f"{A}/users/{auditor.subject}:reset-password", headers=headers)
    assert told.status_code == 200


@pytest.mark.parametrize("kind", ["users", "service-accounts"])
async def test_a_removed_account_is_gone_with_its_tokens_keys_and_roles(world: World, kind: str) -> None:
    owner = world.owners["acme"]
    is_user = kind == "users"
    account = await (world.user("acme", "dave", "auditor") if is_user else world.service("acme", "auditor"))
    headers = await world.headers(account)
    assert (await world.http.get(f"{A}/audit/events", headers=headers)).status_code == 200
    assert (await _act(world, "GET", f"{kind}/{account.subject}", owner)).json()["enabled"] is True
    assert (await _act(world, "DELETE", f"{kind}/{account.subject}", owner)).status_code == 204
    assert (await world.http.get(f"{A}/audit/events", headers=headers)).status_code == 401
    assert (await world.http.post("/oauth/token", data=account.form())).status_code in {400, 401}
    assert (await _act(world, "GET", f"{kind}/{account.subject}", owner)).status_code == 404
    assert (await _act(world, "DELETE", f"{kind}/{account.subject}", owner)).status_code == 404
    bindings = (await _act(world, "GET", "role-bindings", owner)).json()["bindings"]
    assert account.subject not in {binding["subject"] for binding in bindings}


async def test_an_account_is_of_one_kind_only(world: World) -> None:
    owner, user = world.owners["acme"], await world.user("acme", "erin")
    service = await world.service("acme")
    for path in (f"users/{service.subject}", f"service-accounts/{user.subject}"):
        for method in ("GET", "DELETE"):
            assert (await _act(world, method, path, owner)).status_code == 404


@pytest.mark.parametrize("way", ["disabled", "removed", "its role is taken away"])
async def test_a_tenant_keeps_an_owner_who_can_act(tmp_path: Path, way: str) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await world.tenant("acme")
        bindings = (await _act(world, "GET", "role-bindings", owner)).json()["bindings"]
        (binding,) = [b["id"] for b in bindings if b["subject"] == owner.subject]
        act = {
            "disabled": ("PATCH", f"users/{owner.subject}", {"enabled": False}),
            "removed": ("DELETE", f"users/{owner.subject}", None),
            "its role is taken away": ("DELETE", f"role-bindings/{binding}", None),
        }[way]
        await world.service("acme", "owner")  # a program lets nobody in again
        refused = await _act(world, act[0], act[1], owner, act[2])
        assert (refused.status_code, "last owner" in refused.json()["detail"]) == (409, True)
        assert (await _act(world, "GET", "users", owner)).status_code == 200
        second = await world.user("acme", "second", "owner")
        assert (await _act(world, act[0], act[1], second, act[2])).status_code == 204
