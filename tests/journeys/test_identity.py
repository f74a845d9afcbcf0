"""Who may get a token, what is no route, and what owners do with accounts and roles."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from builders.gateways import World, bearer, running_gateway
from builders.logs import Lines
from builders.models import DemoModel, published_model
from builders.requests import RawClient, ask

pytestmark = pytest.mark.anyio

NOBODY_KNOWS = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_gateway(tmp_path_factory.mktemp("identity")) as world:
        await world.tenants("acme", "globex")
        yield world


# --- OAuth ---------------------------------------------------------------------------------------


def basic(name: str, secret: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


async def test_user_gets_a_token_for_a_password(world: World) -> None:
    answer = await world.http.post("/oauth/token", data=world.owners["acme"].form())
    body = answer.json()
    assert answer.status_code == 200
    assert set(body) == {"access_token", "token_type", "expires_in", "scope", "refresh_token"}
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 900)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["pragma"] == "no-cache"
    assert (await world.http.get("/admin/v1/users", headers=bearer(body["access_token"]))).status_code == 200


@pytest.mark.parametrize("way", ["body", "Basic", "Basic, the id in the body too"])
async def test_service_account_gets_a_token_for_its_secret(world: World, way: str) -> None:
    account = await world.service("acme", "invoker")
    form = account.form()
    headers = {}
    if way != "body":
        headers = basic(account.name, form.pop("client_secret"))
        if way == "Basic":
            form.pop("client_id")
    answer = await world.http.post("/oauth/token", data=form, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["scope"] == "model:predict model:read"


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        pytest.param(None, "model:predict model:read", id="nothing asked: all that is bound"),
        pytest.param("", "model:predict model:read", id="an empty scope: all that is bound"),
        pytest.param("model:read", "model:read", id="less than is bound"),
        pytest.param("model:read model:read", "model:read", id="twice the same"),
        pytest.param("model:read model:write audit:read", "model:read", id="more than is bound: only what is"),
        pytest.param("user:write", "", id="only what is not bound: nothing"),
    ],
)
async def test_scope_is_never_more_than_what_is_bound(world: World, asked: str | None, granted: str) -> None:
    account = await world.service("acme", "invoker")
    form = account.form() if asked is None else account.form(scope=asked)
    answer = await world.http.post("/oauth/token", data=form)
    assert (answer.status_code, answer.json()["scope"]) == (200, granted)


async def test_narrower_scope_narrows_what_the_token_may(world: World) -> None:
    narrow = await world.headers(world.owners["acme"], "user:read")
    assert (await world.http.get("/admin/v1/users", headers=narrow)).status_code == 200
    assert (await world.http.get("/admin/v1/audit/events", headers=narrow)).status_code == 403


_REFUSALS: dict[str, tuple[dict[str, str] | str | bytes, int, str]] = {
    "no body": (b"", 400, "invalid_request"),
    "no grant": ({"username": "owner@acme", "password": "x"}, 400, "invalid_request"),
    "an empty grant": ({"grant_type": "", "username": "owner@acme"}, 400, "invalid_request"),
    "an unknown grant": ({"grant_type": "authorization_code", "code": "x"}, 400, "unsupported_grant_type"),
    "a refresh token that is none": ({"grant_type": "refresh_token", "refresh_token": "x"}, 400, "invalid_grant"),
    "a refresh token of nobody": ({"grant_type": "refresh_token", "refresh_token": f"mgr_{'A' * 43}"}, 400, "invalid_grant"),
    "no refresh token": ({"grant_type": "refresh_token"}, 400, "invalid_request"),
    "a grant in capitals": ({"grant_type": "PASSWORD"}, 400, "unsupported_grant_type"),
    "no username": ({"grant_type": "password", "password": "x"}, 400, "invalid_request"),
    "no password": ({"grant_type": "password", "username": "owner@acme"}, 400, "invalid_request"),
    "an empty password": ({"grant_type": "password", "username": "owner@acme", "password": ""}, 400, "invalid_request"),
    "a wrong password": ({"grant_type": "password", "username": "owner@acme", "password": "x"}, 400, "invalid_grant"),
    "an unknown user": ({"grant_type": "password", "username": "eve@acme", "password": "x"}, 400, "invalid_grant"),
    "an unknown tenant": ({"grant_type": "password", "username": "owner@none", "password": "x"}, 400, "invalid_grant"),
    "a user without tenant": ({"grant_type": "password", "username": "owner", "password": "x"}, 400, "invalid_grant"),
    "an unknown operator": ({"grant_type": "password", "username": "x@platform", "password": "x"}, 400, "invalid_grant"),
    "a NUL in the username": ("grant_type=password&username=ow%00ner%40acme&password=x", 400, "invalid_grant"),
    "a NUL in the tenant": ("grant_type=password&username=owner%40ac%00me&password=x", 400, "invalid_grant"),
    "a NUL in the password": ("grant_type=password&username=owner%40acme&password=a%00b", 400, "invalid_grant"),
    "a username of 5000 letters": (f"grant_type=password&username={'u' * 5000}%40acme&password=x", 400, "invalid_grant"),
    "a username in invalid UTF-8": ("grant_type=password&username=%ff%40acme&password=x", 400, "invalid_grant"),
    "a password of 8000 letters": (f"grant_type=password&username=owner%40acme&password={'p' * 8000}", 400, "invalid_grant"),
    "an unknown client": ({"grant_type": "client_credentials", "client_id": "x", "client_secret": "x"}, 401, "invalid_client"),
    "no client": ({"grant_type": "client_credentials"}, 401, "invalid_client"),
    "a NUL in the client": ("grant_type=client_credentials&client_id=%00&client_secret=x", 401, "invalid_client"),
    "a client of 5000 letters": (f"grant_type=client_credentials&client_id={'c' * 5000}&client_secret=x", 401, "invalid_client"),
    "a client in Cyrillic": ({"grant_type": "client_credentials", "client_id": "ключ", "client_secret": "x"}, 401, "invalid_client"),
    "a parameter twice": ("grant_type=password&username=a%40acme&password=x&password=y", 400, "invalid_request"),
    "the grant twice": ("grant_type=password&grant_type=client_credentials", 400, "invalid_request"),
    "twenty-one parameters": ("&".join(f"p{n}=1" for n in range(21)), 400, "invalid_request"),
    "a form of 17 KiB": (f"grant_type=password&username={'u' * 17_000}", 400, "invalid_request"),
    "a form of a mebibyte": (b"x" * (1 << 20), 400, "invalid_request"),
    "a body in invalid UTF-8": (b"grant_type=\xff", 400, "invalid_request"),
    "JSON": (json.dumps({"grant_type": "password"}), 400, "invalid_request"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("form", "status", "error"), [pytest.param(*case, id=name) for name, case in _REFUSALS.items()]
)
async def test_token_endpoint_refuses(world: World, form: Any, status: int, error: str) -> None:
    """Every refusal is in the dialect of RFC 6749 section 5.2, and on record."""
    headers = {"content-type": "application/x-www-form-urlencoded"}
    sent = {"data": form} if isinstance(form, dict) else {"content": form}
    answer = await world.http.post("/oauth/token", headers=headers, **sent)
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert set(answer.json()) == {"error", "error_description"}
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers.get("www-authenticate", "").startswith("Basic") == (status == 401)


@pytest.mark.parametrize("scope", ["everything", "model:read,model:write", "model:*", "model:read\x00", "MODEL:READ"])
async def test_token_endpoint_refuses_a_scope_that_is_no_permission(world: World, scope: str) -> None:
    answer = await world.http.post("/oauth/token", data=world.owners["acme"].form(scope=scope))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")


@pytest.mark.parametrize(
    ("authorization", "error", "status"),
    [
        pytest.param([b"Basic !!!"], "invalid_client", 401, id="no base64"),
        pytest.param(["Basic é".encode("latin-1")], "invalid_client", 401, id="letters that are no ASCII"),
        pytest.param([b"Basic " + base64.b64encode(b"\xff:x")], "invalid_client", 401, id="no UTF-8"),
        pytest.param([b"Basic " + base64.b64encode(b"no colon")], "invalid_client", 401, id="no colon"),
        pytest.param([b"Basic " + base64.b64encode(b"sa-x:wrong")], "invalid_client", 401, id="an unknown client"),
        pytest.param([b"Basic " + base64.b64encode(b"a%00b:x")], "invalid_client", 401, id="a NUL in the client"),
        pytest.param([b"Basic " + base64.b64encode(b"a:b")] * 2, "invalid_request", 400, id="two headers"),
        pytest.param([b"Bearer token"], "invalid_client", 401, id="a bearer token"),
    ],
)
async def test_token_endpoint_refuses_a_client_credential_that_is(
    world: World, *, authorization: list[bytes], error: str, status: int
) -> None:
    headers = [(b"authorization", value) for value in authorization]
    client = RawClient([b"grant_type=client_credentials"])
    answer = await ask(world.app, "POST", "/oauth/token", headers=headers, client=client)
    assert (answer.status, json.loads(answer.body)["error"]) == (status, error)


async def test_client_credential_is_given_in_one_way_only(world: World) -> None:
    account = await world.service("acme", "invoker")
    answer = await world.http.post("/oauth/token", data=account.form(), headers=basic(account.name, account.secret))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_documentation_pages_empty_client_credential_does_not_hinder_a_user(world: World) -> None:
    answer = await world.http.post("/oauth/token", data=world.owners["acme"].form(), headers=basic("", ""))
    assert answer.status_code == 200


async def test_unknown_user_cannot_be_told_from_a_wrong_password(world: World) -> None:
    user = await world.user("acme", "grace")
    disabled = await world.user("acme", "heidi")
    owner = await world.headers(world.owners["acme"])
    await world.http.patch(f"/admin/v1/users/{disabled.subject}", json={"enabled": False}, headers=owner)
    answers = []
    for name, password in (
        (user.name, "wrong"),
        ("nobody@acme", "wrong"),
        ("x@none", "wrong"),
        (disabled.name, disabled.secret),
    ):
        form = {"grant_type": "password", "username": name, "password": password}
        answer = await world.http.post("/oauth/token", data=form)
        kept = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
        answers.append((answer.status_code, answer.content, kept))
    assert answers.count(answers[0]) == len(answers)


async def test_too_many_sign_ins_at_once_are_told_to_come_back(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, passwords={"n_parallel": 1}) as world:
        form = (await world.tenant("acme")).form()
        crowd = [{**form, "username": f"guess-{number}@acme"} for number in range(60)]
        answers = await asyncio.gather(*[world.http.post("/oauth/token", data=guess) for guess in crowd])
        statuses = {answer.status_code for answer in answers}
        assert {400, 503} <= statuses <= {400, 429, 503}
        assert all(answer.headers["retry-after"] == "1" for answer in answers if answer.status_code == 503)


async def test_metadata_describes_what_there_is(world: World) -> None:
    found = (await world.http.get("/.well-known/oauth-authorization-server")).json()
    assert found["issuer"] == world.settings.base_url
    assert found["token_endpoint"].endswith("/oauth/token")
    assert set(found["grant_types_supported"]) == {"password", "client_credentials", "refresh_token"}


# --- what is no route ---------------------------------------------------------------------------

A = "/admin/v1"


def no_fault(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-request-id"]
    if answer.status_code >= 400 and answer.request.url.path.startswith(A):
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code
        assert answer.json()["instance"] == answer.request.url.path
        assert answer.json()["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "path", ["/admin/v1", "/admin/v1/nothing", "/admin/v2/users", "/nothing", "/admin/v1/users/x/y"]
)
async def test_unknown_address_is_a_problem_document(world: World, path: str) -> None:
    answer = await world.http.get(path)
    assert answer.status_code == 404
    no_fault(answer)


async def test_wrong_method_is_a_problem_document(world: World) -> None:
    answer = await world.http.delete("/admin/v1/users")
    assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")


# --- what owners do ------------------------------------------------------------------------------


async def test_account_is_made_bound_used_and_disabled(tmp_path: Path, database_url: str) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        operator = await world.headers(world.operator)
        onboarded = await world.http.post(f"{A}/tenants", json={"slug": "acme"}, headers=operator)
        assert (onboarded.status_code, onboarded.headers["location"]) == (201, f"{A}/tenants/acme")
        form = {"grant_type": "password", **onboarded.json()["owner"]}
        owner = bearer((await world.http.post("/oauth/token", data=form)).json()["access_token"])

        made = await world.http.post(f"{A}/service-accounts", json={"name": "ci"}, headers=owner)
        assert made.status_code == 201
        account = made.json()
        form = {
            "grant_type": "client_credentials",
            "client_id": account["client_id"],
            "client_secret": account["client_secret"],
        }
        robot = bearer((await world.http.post("/oauth/token", data=form)).json()["access_token"])
        assert (await world.http.get(f"{A}/audit/events", headers=robot)).status_code == 403

        binding = {"subject": account["id"], "role": "auditor"}
        bound = await world.http.post(f"{A}/role-bindings", json=binding, headers=owner)
        assert bound.status_code == 201
        assert (await world.http.post(f"{A}/role-bindings", json=binding, headers=owner)).status_code == 409
        # The old token's scope is what was asked for then: nothing. A new one carries the role.
        assert (await world.http.get(f"{A}/audit/events", headers=robot)).status_code == 403
        robot = bearer((await world.http.post("/oauth/token", data=form)).json()["access_token"])
        events = (await world.http.get(f"{A}/audit/events", headers=robot)).json()["events"]
        assert {"service-account.added", "role.bound"} <= {event["kind"] for event in events}
        assert account["client_secret"] not in str(events)

        listed = await world.http.get(f"{A}/service-accounts", headers=owner)
        assert account["client_secret"] not in listed.text
        assert (await world.http.delete(bound.headers["location"], headers=owner)).status_code == 204
        assert (await world.http.delete(bound.headers["location"], headers=owner)).status_code == 404
        path = f"{A}/service-accounts/{account['id']}"
        assert (await world.http.patch(path, json={"enabled": False}, headers=owner)).status_code == 204
        assert (await world.http.get(f"{A}/models", headers=robot)).status_code == 401
        assert (await world.http.post("/oauth/token", data=form)).status_code == 401
        assert (await world.http.patch(path, json={"enabled": True}, headers=owner)).status_code == 204
        assert (await world.http.post("/oauth/token", data=form)).status_code == 200


async def test_owner_erases_its_own_tenant_and_no_other(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenants("acme", "globex")
        owner, stranger = [await world.headers(world.owners[slug]) for slug in ("acme", "globex")]
        assert (await world.http.post(f"{A}/tenants/acme:erase", headers=stranger)).status_code == 404
        assert (await world.http.post(f"{A}/tenants/acme:erase", headers=owner)).json()["state"] == "succeeded"
        assert (await world.http.get(f"{A}/models", headers=owner)).status_code == 401
        assert (await world.http.get(f"{A}/models", headers=stranger)).status_code == 200


@pytest.mark.parametrize(
    ("binding", "status", "sentence"),
    [
        pytest.param({"role": "operator"}, 400, "role: 'operator' cannot be bound here", id="a role of the platform"),
        pytest.param({"role": "root"}, 400, "role: 'root' cannot be bound here", id="a role that is none"),
        pytest.param({"role": "owner", "model": "m"}, 400, "role: 'owner' cannot be bound here", id="on one model"),
        pytest.param({"role": "invoker", "model": "a/b"}, 400, "model:", id="a model that can have no such name"),
        pytest.param({"role": "invoker", "model": ""}, 400, "model:", id="a model without a name"),
        pytest.param({"role": "invoker", "subject": NOBODY_KNOWS}, 400, "subject:", id="nobody's account"),
        pytest.param({"role": "invoker", "tenant": "globex"}, 400, "tenant: there is no such field", id="a tenant"),
    ],
)
async def test_role_is_refused(world: World, *, binding: dict[str, str], status: int, sentence: str) -> None:
    owner = world.owners["acme"]
    body = {"subject": owner.subject, **binding}
    answer = await world.http.post(f"{A}/role-bindings", json=body, headers=await world.headers(owner))
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]


async def test_nobody_binds_more_than_their_own_scope(world: World) -> None:
    owner = world.owners["acme"]
    narrow = await world.headers(owner, "binding:write binding:read model:read model:predict")
    body = {"subject": owner.subject, "role": "auditor"}
    assert (await world.http.post(f"{A}/role-bindings", json=body, headers=narrow)).status_code == 403


_NO_SLUGS = {
    "empty": "",
    "one letter": "a",
    "forty letters": "a" * 40,
    "reserved: platform": "platform",
    "reserved: admin": "admin",
    "reserved: null": "null",
    "an underscore": "_",
    "a capital": "Acme",
    "a space behind": "acme ",
    "a space before": " acme",
    "a space inside": "ac me",
    "a dot behind": "acme.",
    "a newline behind": "acme\n",
    "a hyphen before": "-acme",
    "two dots": "..",
    "two encoded dots": "%2e%2e",
    "a NUL": "a\x00b",
    "a Cyrillic look-alike": "\u0430cme",
    "full-width letters": "\uff41\uff43\uff4d\uff45",
    "a right-to-left override": "acme\u202e",
    "a zero-width space": "acme\u200b",
    "a combining accent": "cafe\u0301",
    "an accent": "caf\u00e9",
    "emoji": "\U0001f600\U0001f600",
}


@pytest.mark.parametrize("slug", [pytest.param(slug, id=name) for name, slug in _NO_SLUGS.items()])
async def test_tenant_can_have_no_such_name(world: World, slug: str) -> None:
    operator = await world.headers(world.operator)
    answer = await world.http.post(f"{A}/tenants", json={"slug": slug}, headers=operator)
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("slug:")


@pytest.mark.parametrize("name", ["", "A", "a" * 64, "-a", "a b", "a@b", "a\x00", "ада", "a\n", "../a"])
async def test_account_can_have_no_such_name(world: World, name: str) -> None:
    owner = await world.headers(world.owners["acme"])
    for path in ("users", "service-accounts"):
        answer = await world.http.post(f"{A}/{path}", json={"name": name}, headers=owner)
        assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (400, "name")


async def test_taken_names_are_conflicts(world: World) -> None:
    owner = await world.headers(world.owners["acme"])
    for path in ("users", "service-accounts"):
        assert (await world.http.post(f"{A}/{path}", json={"name": "twice"}, headers=owner)).status_code == 201
        again = await world.http.post(f"{A}/{path}", json={"name": "twice"}, headers=owner)
        assert (again.status_code, "twice" in again.json()["detail"]) == (409, True)
    operator = await world.headers(world.operator)
    again = await world.http.post(f"{A}/tenants", json={"slug": "acme"}, headers=operator)
    assert again.status_code == 409


async def test_journey_leaves_no_secret_in_any_log_line(
    tmp_path: Path, database_url: str, demo: DemoModel, lines: Lines
) -> None:
    async with running_gateway(tmp_path, database_url, logs={"level": "debug", "form": "json"}) as world:
        owner = await world.tenant("acme")
        await published_model(world, "acme", "m", demo)
        headers = await world.headers(owner)
        row = [123.456789, *demo.seed.example[1:]]
        secrets = [owner.secret, world.operator.secret, headers["authorization"].split()[1], "123.456789"]
        form = owner.form()
        token = (await world.http.post("/oauth/token", data=form)).json()["access_token"]
        made = (await world.http.post("/admin/v1/service-accounts", json={"name": "ci"}, headers=headers)).json()
        added = (await world.http.post("/admin/v1/users", json={"name": "ada"}, headers=headers)).json()
        secrets += [token, token.split(".")[2], made["client_secret"], added["password"]]
        answers = [
            await world.http.post("/v1/models/m:predict", json={"instances": [row]}, headers=headers),
            await world.http.post("/v1/models/m:predict", json={"instances": [[123.456789]]}, headers=headers),
            await world.http.post("/v1/models/m:predict", content=b'{"instances": 123.456789', headers=headers),
            await world.http.post("/v2/models/m/infer", content=b"hunter2", headers=headers),
            await world.http.post("/oauth/token", data={**form, "password": "hunter2"}),
            await world.http.get("/admin/v1/users", headers=bearer("hunter2")),
            await world.http.post("/admin/v1/users", json={"name": "hunter2", "password": "hunter2"}, headers=headers),
            await world.http.post("/admin/v1/keyrings/artifacts:rotate", headers=headers),
        ]
        assert [answer.status_code for answer in answers] == [200, 400, 400, 400, 400, 401, 400, 200]
    text = lines.getvalue()
    assert "model_loaded" in text
    for secret in [*secrets, "hunter2"]:
        assert secret not in text


async def test_signing_in_leaves_a_record_in_the_tenants_own_chain(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await world.tenant("acme")
        answer = await world.http.post("/oauth/token", data=owner.form())
        headers = {"authorization": f"Bearer {answer.json()['access_token']}"}
        events = (await world.http.get("/admin/v1/audit/events", headers=headers)).json()["events"]
        issued = [event for event in events if event["kind"] == "token.issued"]
        assert [(event["actor"], event["thing"]) for event in issued] == [("owner@acme", "grant password")]
        assert answer.json()["access_token"] not in str(events)
