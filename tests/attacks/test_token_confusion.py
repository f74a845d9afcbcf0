"""Credentials that must not count, at a prediction door and at a management route; and good ones whose time is over.

Source: `security.md` 3.3, items 1 to 42.
"""

import asyncio
import base64
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from builders.gateways import Account, World, bearer, joined_gateway, running_gateway
from builders.requests import RawClient, ask
from builders.tokens import BAD_TOKENS, Bad, Forge, forge
from maas_gateway.identifiers import PLATFORM, TenantId
from maas_gateway.keyring.key import KeyState, Purpose

pytestmark = pytest.mark.anyio

Route = tuple[str, str]

PREDICT: Route = ("POST", "/v1/models/m:predict")
INFER: Route = ("POST", "/v2/models/m/infer")
EVENTS: Route = ("GET", "/admin/v1/audit/events")
ALL_ROUTES = (PREDICT, INFER, EVENTS)
ROUTES = [
    pytest.param(PREDICT, id="TF Serving predict"),
    pytest.param(INFER, id="Open Inference infer"),
    pytest.param(EVENTS, id="management"),
]
CHALLENGE = b'Bearer realm="maas-gateway"'
NOTICED_WITHIN_S = 1.0


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_gateway(tmp_path_factory.mktemp("confusion")) as world:
        await world.tenants("acme", "globex")
        yield world


@pytest.fixture
async def forged(world: World) -> Forge:
    return await forge(world, world.owners["acme"])


async def asked(world: World, route: Route, *authorization: bytes) -> RawClient:
    method, path = route
    headers = [(b"authorization", value) for value in authorization]
    return await ask(world.app, method, path, headers=headers)


def refused_as_unauthenticated(answer: RawClient) -> None:
    assert answer.status == 401, answer.body
    assert answer.headers[b"www-authenticate"].startswith(CHALLENGE + b', error="invalid_token"')
    assert b"Traceback" not in answer.body
    assert b'"request_id"' in answer.body
    assert answer.n_received_at_start == 0, "the body was read before the caller was known"
    assert answer.is_whole


@pytest.mark.parametrize("bad", BAD_TOKENS)
async def test_every_door_refuses_a_token_with(world: World, forged: Forge, bad: Bad) -> None:
    token = bad(forged).encode("utf-8", "surrogatepass")
    for route in ALL_ROUTES:
        answer = await asked(world, route, b"Bearer " + token)
        if token.endswith(b"\n"):  # no server passes that on: it ends the header
            assert answer.status in {200, 401, 404}
        else:
            refused_as_unauthenticated(answer)


@pytest.mark.parametrize("route", ROUTES)
async def test_door_lets_in_a_forged_token_with_nothing_wrong(world: World, forged: Forge, route: Route) -> None:
    answer = await asked(world, route, b"Bearer " + forged.token().encode())
    assert answer.status in {200, 404}, answer.body


@pytest.mark.parametrize("route", ROUTES)
async def test_challenge_names_no_error_where_no_credential_was_sent(world: World, route: Route) -> None:
    answer = await asked(world, route)
    assert (answer.status, answer.headers[b"www-authenticate"]) == (401, CHALLENGE)
    assert answer.n_received_at_start == 0


_NON_BEARERS = {
    "the scheme alone": [b"Bearer"],
    "the scheme and a space": [b"Bearer "],
    "the scheme and many spaces": [b"Bearer        "],
    "nothing at all": [b""],
    "the token without its scheme": [b"%(token)s"],
    "another scheme": [b"Token %(token)s"],
    "Digest": [b'Digest username="owner"'],
    "a scheme that only begins so": [b"Bearers %(token)s"],
    "a comma behind the token": [b"Bearer %(token)s,"],
    "two tokens in one header": [b"Bearer %(token)s, Bearer %(token)s"],
    "two headers": [b"Bearer %(token)s", b"Bearer %(token)s"],
    "Basic that is no base64": [b"Basic !!!"],
    "Basic with letters that are no ASCII": ["Basic ключ".encode()],
    "Basic with Latin letters that are no ASCII": ["Basic é".encode("latin-1")],
    "Basic whose content is no UTF-8": [b"Basic " + base64.b64encode(b"\xff\xfe:x")],
    "Basic without a colon": [b"Basic " + base64.b64encode(b"abc")],
    "Basic with a password": [b"Basic " + base64.b64encode(b"owner@acme:a password")],
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("sent", [pytest.param(value, id=name) for name, value in _NON_BEARERS.items()])
async def test_door_refuses_a_credential_that_is(world: World, forged: Forge, route: Route, sent: list[bytes]) -> None:
    token = forged.token().encode()
    refused_as_unauthenticated(await asked(world, route, *[value.replace(b"%(token)s", token) for value in sent]))


@pytest.mark.parametrize("route", ROUTES)
async def test_door_refuses_a_second_credential_in_another_header(world: World, forged: Forge, route: Route) -> None:
    headers = [(b"authorization", b"Bearer " + forged.token().encode()), (b"x-api-key", b"maas_1_secret")]
    refused_as_unauthenticated(await ask(world.app, *route, headers=headers))


@pytest.mark.parametrize("route", ROUTES)
async def test_door_takes_no_token_from_query_or_body(world: World, forged: Forge, route: Route) -> None:
    method, path = route
    token = forged.token()
    answer = await world.http.request(method, f"{path}?access_token={token}", data={"access_token": token})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == CHALLENGE.decode()


async def test_basic_with_a_token_counts_at_prediction_doors_only(world: World, forged: Forge) -> None:
    basic = b"Basic " + base64.b64encode(b"anyone:" + forged.token().encode())
    statuses = [(await asked(world, route, basic)).status for route in ALL_ROUTES]
    assert statuses == [404, 404, 401]


@pytest.mark.parametrize("name", ["jku", "x5u"])
async def test_no_address_that_a_token_names_is_called(world: World, forged: Forge, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as attacker:
        attacker.settimeout(0.2)
        address = f"http://127.0.0.1:{attacker.getsockname()[1]}/jwks.json"
        headers = b"Bearer " + forged.with_header(**{name: address}).encode()
        refused_as_unauthenticated(await asked(world, PREDICT, headers))
        with pytest.raises(TimeoutError):
            attacker.accept()


async def test_token_of_a_subject_in_another_tenant_is_refused(world: World, forged: Forge) -> None:
    globex = str(await world.tenant_id("globex"))
    for route in ALL_ROUTES:
        sent = b"Bearer " + forged.with_claims(tenant=globex).encode()
        refused_as_unauthenticated(await asked(world, route, sent))


async def test_scope_that_says_more_than_the_bindings_gives_nothing(world: World) -> None:
    invoker = await world.service("acme", "invoker")
    forged = await forge(world, invoker)
    everything = "tenant:read user:read user:write audit:read keyring:read keyring:rotate model:write model:promote"
    headers = bearer(forged.with_claims(scope=everything, roles=["owner"], role="operator", is_admin=True))
    for path in ("/admin/v1/users", "/admin/v1/audit/events", "/admin/v1/keyrings", "/admin/v1/tenants"):
        answer = await world.http.get(path, headers=headers)
        assert answer.status_code == 403, path


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
