"""API keys: what they permit, how long, and that what ends them ends them in every process."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from builders.gateways import Account, World, joined_gateway, running_gateway
from builders.models import DemoModel, published_model
from builders.plaintext import Search

pytestmark = pytest.mark.anyio

KEYS = "/admin/v1/api-keys"
USERS = "/admin/v1/users"


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_gateway(tmp_path_factory.mktemp("api-keys")) as world:
        await world.tenants("acme", "globex")
        yield world


async def _made(world: World, *permissions: str, by: Account | None = None, **more: Any) -> dict[str, Any]:
    headers = await world.headers(by or world.owners["acme"])
    body = {"name": "ci", "permissions": permissions, **more}
    answer = await world.http.post(KEYS, json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{KEYS}/{answer.json()['id']}"
    return answer.json()  # type: ignore[no-any-return]


def _sent(text: str) -> dict[str, str]:
    return {"x-api-key": text}


async def _get(world: World, path: str, text: str) -> httpx.Response:
    return await world.http.get(path, headers=_sent(text))


async def _act(world: World, method: str, path: str, body: Any = None) -> httpx.Response:
    return await world.http.request(method, path, json=body, headers=await world.headers(world.owners["acme"]))


@pytest.mark.parametrize("way", ["X-API-Key", "Bearer", "bearer"])
async def test_a_key_acts_for_whoever_made_it_within_what_it_says(world: World, way: str) -> None:
    text = (await _made(world, "user:read"))["api_key"]
    headers = _sent(text) if way == "X-API-Key" else {"authorization": f"{way} {text}"}
    assert (await world.http.get(USERS, headers=headers)).status_code == 200
    assert (await world.http.get(KEYS, headers=headers)).status_code == 403
    refused = await world.http.post(USERS, json={"name": "eve"}, headers=headers)
    assert refused.status_code == 403


async def test_every_prediction_door_takes_a_key_in_each_way(world: World, demo: DemoModel) -> None:
    await published_model(world, "acme", "bc", demo)
    text = (await _made(world, "model:read", "model:predict"))["api_key"]
    body = {"instances": [list(demo.seed.example)]}
    basic = httpx.BasicAuth("anybody", text)
    for headers, auth in ((_sent(text), None), ({"authorization": f"Bearer {text}"}, None), ({}, basic)):
        answer = await world.http.post("/v1/models/bc:predict", json=body, headers=headers, auth=auth)
        assert answer.status_code == 200, answer.text
        assert (await world.http.get("/v2/models/bc", headers=headers, auth=auth)).status_code == 200
    assert (await world.http.get(USERS, auth=basic)).status_code == 401  # Basic is for prediction clients only


async def test_a_key_of_a_service_account_permits_no_more_than_its_bindings_of_now(world: World) -> None:
    account = await world.service("acme", "invoker", "auditor")
    made = await _made(world, "audit:read", "model:read", subject=account.subject)
    assert made["subject"] == account.subject
    assert (await _get(world, "/admin/v1/audit/events", made["api_key"])).status_code == 200
    bindings = (await _act(world, "GET", "/admin/v1/role-bindings")).json()["bindings"]
    for binding in bindings:
        if (binding["subject"], binding["role"]) == (account.subject, "auditor"):
            assert (await _act(world, "DELETE", f"/admin/v1/role-bindings/{binding['id']}")).status_code == 204
    assert (await _get(world, "/admin/v1/audit/events", made["api_key"])).status_code == 403


async def test_nobody_makes_a_key_that_permits_more_than_its_maker_or_its_account(world: World) -> None:
    invoker = await world.service("acme", "invoker")
    narrow = await world.headers(world.owners["acme"], "api-key:write api-key:read model:read")
    for body, status in (
        ({"name": "x", "permissions": ["user:write"]}, 403),
        ({"name": "x", "permissions": ["model:read", "model:write"]}, 403),
        ({"name": "x", "permissions": ["model:read"]}, 201),
    ):
        assert (await world.http.post(KEYS, json=body, headers=narrow)).status_code == status, body
    more = {"name": "x", "permissions": ["model:write"], "subject": invoker.subject}
    answer = await _act(world, "POST", KEYS, more)
    assert (answer.status_code, "model:write" in answer.json()["detail"]) == (400, True)
    made = await _made(world, "api-key:write", "api-key:read", "model:read")
    wider = {"name": "x", "permissions": ["model:predict"]}
    assert (await world.http.post(KEYS, json=wider, headers=_sent(made["api_key"]))).status_code == 403


@pytest.mark.parametrize("whose", ["another person", "another tenant's service account", "nobody"])
async def test_a_key_is_made_for_oneself_or_a_service_account_of_the_tenant_only(world: World, whose: str) -> None:
    subject = {
        "another person": lambda: world.user("acme", f"ada-{id(whose)}", "auditor"),
        "another tenant's service account": lambda: world.service("globex", "auditor"),
    }
    found = (await subject[whose]()).subject if whose in subject else "11111111-1111-4111-8111-111111111111"
    answer = await _act(world, "POST", KEYS, {"name": "x", "permissions": ["audit:read"], "subject": found})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("subject: ")


async def test_another_persons_key_is_not_rotated_because_its_secret_would_be_told(world: World) -> None:
    owner = await world.user("acme", "second-owner", "owner")
    made = await _made(world, "user:read", by=owner)
    answer = await _act(world, "POST", f"{KEYS}/{made['id']}:rotate", {})
    assert answer.status_code == 400
    assert (await _get(world, USERS, made["api_key"])).status_code == 200
    assert (await _act(world, "DELETE", f"{KEYS}/{made['id']}")).status_code == 204  # ending it is an owner's right
    assert (await _get(world, USERS, made["api_key"])).status_code == 401


async def test_rotation_keeps_the_id_and_the_old_secret_for_as_long_as_is_asked(world: World) -> None:
    made = await _made(world, "user:read")
    path = f"{KEYS}/{made['id']}:rotate"
    kept = (await _act(world, "POST", path, {"grace_s": 3600})).json()
    assert kept["id"] == made["id"]
    for text in (made["api_key"], kept["api_key"]):
        assert (await _get(world, USERS, text)).status_code == 200
    again = (await _act(world, "POST", path, {"grace_s": 3600})).json()
    assert [(await _get(world, USERS, key["api_key"])).status_code for key in (made, kept, again)] == [401, 200, 200]
    at_once = (await _act(world, "POST", path, {})).json()
    assert [(await _get(world, USERS, key["api_key"])).status_code for key in (again, at_once)] == [401, 200]
    assert at_once["former_secret_until"] is None


async def test_nobody_has_a_key_count_again_or_longer_that_permits_more_than_they_may(world: World) -> None:
    soon, later = [(datetime.now(UTC) + timedelta(days=days)).isoformat() for days in (1, 2)]
    account = await world.service("acme", "auditor")
    made = await _made(world, "audit:read", subject=account.subject, expires_at=soon)
    one = f"{KEYS}/{made['id']}"
    narrow = (await _made(world, "api-key:read", "api-key:write"))["api_key"]
    wide = (await _made(world, "api-key:read", "api-key:write", "audit:read"))["api_key"]
    for by, change, status in (
        (narrow, {"expires_at": later}, 403),
        (narrow, {"enabled": True, "expires_at": soon}, 200),  # as it is
        (narrow, {"enabled": False}, 200),  # less is everybody's to say
        (narrow, {"enabled": True}, 403),
        (narrow, {"enabled": True, "expires_at": soon}, 403),
        (wide, {"enabled": True}, 200),
        (wide, {"expires_at": later}, 200),
        (narrow, {"expires_at": soon}, 200),
    ):
        answer = await world.http.patch(one, json=change, headers=_sent(by))
        assert answer.status_code == status, (change, answer.text)
    assert (await _get(world, "/admin/v1/audit/events", made["api_key"])).status_code == 200


async def test_a_grace_ends_by_itself(world: World) -> None:
    made = await _made(world, "user:read")
    assert (await _act(world, "POST", f"{KEYS}/{made['id']}:rotate", {"grace_s": 1})).status_code == 200
    assert (await _get(world, USERS, made["api_key"])).status_code == 200
    await asyncio.sleep(1.1)
    answer = await _get(world, USERS, made["api_key"])
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/token-expired")


async def test_a_key_ends_when_it_says(world: World) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=1)
    made = await _made(world, "user:read", expires_at=ends.isoformat())
    assert (await _get(world, USERS, made["api_key"])).status_code == 200
    await asyncio.sleep(1.1)
    answer = await _get(world, USERS, made["api_key"])
    assert (answer.status_code, answer.json()["type"]) == (401, "/problems/token-expired")


@pytest.mark.parametrize("what", ["disabled", "removed", "its account is disabled"])
async def test_what_ends_a_key_ends_it_in_every_process_within_a_second(tmp_path: Path, what: str) -> None:
    async with running_gateway(tmp_path) as world, joined_gateway(world) as elsewhere:
        await world.tenant("acme")
        account = await world.service("acme", "auditor")
        made = await _made(world, "audit:read", subject=account.subject)
        processes = (world, elsewhere)
        for process in processes:
            assert (await _get(process, "/admin/v1/audit/events", made["api_key"])).status_code == 200
        act = {
            "disabled": ("PATCH", f"{KEYS}/{made['id']}", {"enabled": False}),
            "removed": ("DELETE", f"{KEYS}/{made['id']}", None),
            "its account is disabled": ("PATCH", f"/admin/v1/service-accounts/{account.subject}", {"enabled": False}),
        }[what]
        assert (await _act(world, *act)).status_code in {200, 204}
        assert (await _get(world, "/admin/v1/audit/events", made["api_key"])).status_code == 401
        await asyncio.sleep(1)
        assert (await _get(elsewhere, "/admin/v1/audit/events", made["api_key"])).status_code == 401


WRONG = {
    "another secret": lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
    "another id": lambda text: f"maas_{'0' * 16}_{text.rpartition('_')[2]}",
    "the id alone": lambda text: text[: len("maas_") + 16],
    "no secret": lambda text: text[: len("maas_") + 17],
    "a character more": lambda text: text + "A",
    "the prefix in capitals": lambda text: "MAAS" + text[4:],
    "the prefix alone": lambda text: "maas_",
    "nothing": lambda text: "",
    "a NUL behind it": lambda text: text + "%00",
    "a wildcard": lambda text: "maas_%_%",
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
async def test_a_wrong_key_is_refused_in_one_way(world: World, change: Any) -> None:
    text = (await _made(world, "user:read"))["api_key"]
    answer = await _get(world, USERS, change(text))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer realm=")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert text not in answer.text


async def test_two_credentials_at_once_are_refused(world: World) -> None:
    text = (await _made(world, "user:read"))["api_key"]
    both = {**_sent(text), "authorization": f"Bearer {text}"}
    assert (await world.http.get(USERS, headers=both)).status_code == 401


async def test_an_access_token_in_the_header_for_keys_is_refused(world: World) -> None:
    token = await world.token(world.owners["acme"])
    assert (await world.http.get(USERS, headers=_sent(token))).status_code == 401


async def test_a_secret_is_told_once_and_stands_in_no_file(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        made = await _made(world, "user:read")
        listed = await _act(world, "GET", KEYS)
        one = await _act(world, "GET", f"{KEYS}/{made['id']}")
        events = await _act(world, "GET", "/admin/v1/audit/events")
        assert (await _get(world, USERS, made["api_key"])).status_code == 200
    secret = made["api_key"].partition(made["id"])[2][1:]
    for answer in (listed, one, events):
        assert answer.status_code == 200
        assert secret not in answer.text
    assert [key["id"] for key in listed.json()["api_keys"]] == [made["id"]]
    search = Search({"secret": [secret.encode()]})
    assert search.in_files(file for file in tmp_path.rglob("*") if file.is_file()) == {}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"permissions": ["model:read"]}, "name"),
        ({"name": "x", "permissions": []}, "permissions"),
        ({"name": "x", "permissions": ["model:*"]}, "permissions"),
        ({"name": "x", "permissions": "model:read"}, "permissions"),
        ({"name": "x", "permissions": ["model:read"], "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "permissions": ["model:read"], "expires_at": "2099-01-01T00:00:00"}, "expires_at"),
        ({"name": "x", "permissions": ["model:read"], "subject": "me"}, "subject"),
        ({"name": "x", "permissions": ["model:read"], "secret": "mine"}, "secret"),
    ],
    ids=str,
)
async def test_a_bad_key_is_refused_by_the_fields_name(world: World, body: dict[str, Any], field: str) -> None:
    answer = await _act(world, "POST", KEYS, body)
    assert answer.status_code == 400
    assert field in answer.json()["detail"]
