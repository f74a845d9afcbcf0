"""Another tenant's things do not exist: every route answers for their names as it does for names that nobody has.

Source: `api.md` section 1 (default deny); `security.md` 3.3, items 49 to 55.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from builders.gateways import World, running_gateway
from builders.models import DemoModel, published_model, uploaded_model

pytestmark = pytest.mark.anyio

A = "/admin/v1"
# Names that nobody has, each as long as the one it stands for, so that lengths tell nothing either.
UNKNOWN_ID = "11111111-1111-4111-8111-111111111111"


@dataclass(frozen=True)
class Place:
    """A world with a tenant `globex` full of things, and strangers of tenant `acme`.

    Attributes:
        world: the gateway.
        theirs: names of things of `globex`.
        nobodys: names of the same kinds that nobody has.
        strangers: headers by the stranger's role.
    """

    world: World
    theirs: dict[str, str]
    nobodys: dict[str, str]
    strangers: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory, demo: DemoModel) -> AsyncIterator[Place]:
    oidc = {"allowed_hosts": ["login.example.org"]}
    async with running_gateway(tmp_path_factory.mktemp("tenants"), oidc=oidc) as world:
        await world.tenants("acme", "globex")
        await published_model(world, "globex", "secret-model", demo)
        await uploaded_model(world, "globex", "secret-draft", demo)
        await published_model(world, "acme", "shared-name", demo)
        await published_model(world, "globex", "shared-name", demo)
        owner = await world.headers(world.owners["globex"])
        user = await world.user("globex", "grace", "auditor")
        service = await world.service("globex", "invoker")
        listed = (await world.http.get(f"{A}/role-bindings", headers=owner)).json()["bindings"]
        binding = next(b["id"] for b in listed if b["subject"] == service.subject)
        operation = await world.http.post(f"{A}/keyrings/artifacts:rotate", headers=owner)
        label = await world.http.put(f"{A}/models/secret-model/labels/stable", json={"version": 1}, headers=owner)
        assert label.status_code == 200
        provider = {"name": "sso", "issuer": "https://login.example.org", "audience": "globex"}
        registered = await world.http.post(f"{A}/identity-providers", json=provider, headers=owner)
        assert registered.status_code == 201, registered.text
        yield Place(
            world,
            theirs={
                "model": "secret-model",
                "draft": "secret-draft",
                "user": user.subject,
                "service": service.subject,
                "binding": binding,
                "operation": operation.json()["id"],
                "provider": registered.json()["id"],
                "slug": "globex",
            },
            nobodys={
                "model": "zecret-model",
                "draft": "zecret-draft",
                "user": UNKNOWN_ID,
                "service": UNKNOWN_ID,
                "binding": UNKNOWN_ID,
                "operation": UNKNOWN_ID,
                "provider": UNKNOWN_ID,
                "slug": "glubex",
            },
            strangers={
                "another tenant's owner": await world.headers(world.owners["acme"]),
                "another tenant's invoker": await world.headers(await world.service("acme", "invoker")),
                "another tenant's key custodian": await world.headers(await world.service("acme", "key-custodian")),
                "another tenant's account without roles": await world.headers(await world.service("acme")),
                "another tenant's publisher of a model of that name": await world.headers(
                    await world.service("acme", publisher="secret-model")
                ),
                "the operator": await world.headers(world.operator),
            },
        )


_INSTANCES = {"instances": [[0.0] * 30]}
_INPUTS = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 30], "data": [0.0] * 30}]}
ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/v1/models/{model}:predict", _INSTANCES),
    ("POST", "/v1/models/{model}:predict", b"{ malformed"),
    ("POST", "/v1/models/{model}/versions/1:predict", _INSTANCES),
    ("POST", "/v1/models/{model}/labels/stable:predict", _INSTANCES),
    ("POST", "/v1/models/{model}:classify", _INSTANCES),
    ("POST", "/v1/models/{draft}:predict", _INSTANCES),
    ("GET", "/v1/models/{model}", None),
    ("GET", "/v1/models/{model}/versions/1", None),
    ("GET", "/v1/models/{model}/labels/stable", None),
    ("GET", "/v1/models/{model}/metadata", None),
    ("GET", "/v1/models/{model}/versions/1/metadata", None),
    ("POST", "/v2/models/{model}/infer", _INPUTS),
    ("POST", "/v2/models/{model}/infer", b"{ malformed"),
    ("POST", "/v2/models/{model}/versions/1/infer", _INPUTS),
    ("POST", "/v2/models/{model}/labels/stable/infer", _INPUTS),
    ("GET", "/v2/models/{model}", None),
    ("GET", "/v2/models/{model}/versions/1", None),
    ("GET", "/v2/models/{model}/ready", None),
    ("GET", "/v2/models/{model}/versions/1/ready", None),
    ("GET", "/v2/models/{draft}", None),
    ("GET", A + "/models/{model}", None),
    ("GET", A + "/models/{model}/versions/1", None),
    ("PUT", A + "/models/{model}/versions/1", b"no archive"),
    ("PUT", A + "/models/{model}/versions/2", b"no archive"),
    ("POST", A + "/models/{draft}/versions/1:promote", None),
    ("POST", A + "/models/{model}/versions/1:promote?exclusive=true", None),
    ("POST", A + "/models/{model}/versions/1:retire", None),
    ("PUT", A + "/models/{model}/labels/stable", {"version": 1}),
    ("PUT", A + "/models/{model}/labels/stable", {"version": 0}),
    ("DELETE", A + "/models/{model}/labels/stable", None),
    ("PATCH", A + "/users/{user}", {"enabled": False}),
    ("PATCH", A + "/users/{service}", {"enabled": False}),
    ("PATCH", A + "/service-accounts/{service}", {"enabled": False}),
    ("POST", A + "/role-bindings", {"subject": "{user}", "role": "invoker"}),
    ("POST", A + "/role-bindings", {"subject": "{service}", "role": "invoker", "model": "{model}"}),
    ("DELETE", A + "/role-bindings/{binding}", None),
    ("GET", A + "/operations/{operation}", None),
    ("GET", A + "/identity-providers/{provider}", None),
    ("PATCH", A + "/identity-providers/{provider}", {"enabled": False}),
    ("PATCH", A + "/identity-providers/{provider}", {"rules": []}),
    ("DELETE", A + "/identity-providers/{provider}", None),
]
OPERATORS_OWN: list[tuple[str, str, Any]] = [
    ("GET", A + "/tenants/{slug}", None),
    ("POST", A + "/tenants/{slug}:suspend", None),
    ("POST", A + "/tenants/{slug}:resume", None),
]


def _id(route: tuple[str, str, Any]) -> str:
    method, path, body = route
    return f"{method} {path}" + (
        "" if body is None else f" {json.dumps(body)[:40]}" if isinstance(body, dict) else " malformed"
    )


async def answered(place: Place, route: tuple[str, str, Any], names: dict[str, str], headers: dict[str, str]) -> Any:
    """Return all that a caller sees of an answer, with the name it sent taken out."""
    method, path, body = route
    if isinstance(body, dict):
        texts = {name: value.format(**names) if isinstance(value, str) else value for name, value in body.items()}
        body = json.dumps(texts).encode()
    answer: httpx.Response = await place.world.http.request(method, path.format(**names), headers=headers, content=body)
    text = answer.text
    for kind, name in names.items():
        text = text.replace(name, f"<{kind}>" if name != UNKNOWN_ID else "<id>")
        text = (
            text.replace(f"<{kind}>", "<id>")
            if kind in {"user", "service", "binding", "operation", "provider"}
            else text
        )
    text = text.replace(answer.headers["x-request-id"], "<request id>")
    kept = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "content-length"}}
    return answer.status_code, text, kept


STRANGERS = [
    "another tenant's owner",
    "another tenant's invoker",
    "another tenant's key custodian",
    "another tenant's account without roles",
    "another tenant's publisher of a model of that name",
    "the operator",
]


@pytest.mark.parametrize("route", [pytest.param(route, id=_id(route)) for route in ROUTES])
async def test_another_tenants_thing_answers_as_one_that_nobody_has(place: Place, route: tuple[str, str, Any]) -> None:
    for who in STRANGERS:
        headers = place.strangers[who]
        if who == "another tenant's publisher of a model of that name" and "{model}" in route[1]:
            continue  # it may know of a model of that name in its own tenant
        theirs = await answered(place, route, place.theirs, headers)
        nobodys = await answered(place, route, place.nobodys, headers)
        assert theirs == nobodys, who
        assert theirs[0] in {400, 403, 404, 422}, who


@pytest.mark.parametrize("route", [pytest.param(route, id=_id(route)) for route in OPERATORS_OWN])
async def test_another_tenant_answers_as_one_that_does_not_exist(place: Place, route: tuple[str, str, Any]) -> None:
    for who in STRANGERS[:-1]:
        theirs = await answered(place, route, place.theirs, place.strangers[who])
        assert theirs == await answered(place, route, place.nobodys, place.strangers[who]), who
        assert theirs[0] == 404, who


async def test_permission_on_a_model_of_that_name_gives_no_other_tenants_model(place: Place) -> None:
    headers = place.strangers["another tenant's publisher of a model of that name"]
    for method, path, body in ROUTES:
        if "{model}" in path and path.startswith(("/v1", "/v2")) and isinstance(body, dict | None):
            answer = await place.world.http.request(method, path.format(**place.theirs), headers=headers, json=body)
            assert answer.status_code in {400, 404}, path


async def test_same_name_in_two_tenants_is_two_models(place: Place) -> None:
    world = place.world
    globex = await world.headers(world.owners["globex"])
    acme = await world.headers(world.owners["acme"])
    gone = await world.http.post(f"{A}/models/shared-name/versions/1:retire", headers=globex)
    assert gone.status_code == 200
    assert (await world.http.post("/v1/models/shared-name:predict", json=_INSTANCES, headers=globex)).status_code == 404
    assert (await world.http.post("/v1/models/shared-name:predict", json=_INSTANCES, headers=acme)).status_code == 200
    back = await world.http.post(f"{A}/models/shared-name/versions/1:promote", headers=globex)
    assert back.status_code == 200


@pytest.mark.parametrize(
    "path",
    ["models", "users", "service-accounts", "role-bindings", "keyrings", "audit/events?limit=1000", "tenants"],
)
async def test_listing_names_nothing_of_another_tenant(place: Place, path: str) -> None:
    answer = await place.world.http.get(f"{A}/{path}", headers=place.strangers["another tenant's owner"])
    assert answer.status_code == 200
    text = answer.text
    if path.startswith("audit"):  # what the stranger tried stands in its own chain, by the names that it sent itself
        text = "".join(str(event) for event in answer.json()["events"] if event["outcome"] != "refused")
    # One of the stranger's own accounts has a role on a model of the same name.
    own = {"secret-model"} if path.startswith(("audit", "role-bindings")) else set()
    for name in {*place.theirs.values(), "grace", str(await place.world.tenant_id("globex"))} - own:
        assert name not in text, name


@pytest.mark.parametrize("door", ["/v1/models", "/v2/models/secret-model", "/v1/models/secret-model"])
async def test_error_names_nothing_that_the_caller_did_not_send(place: Place, door: str) -> None:
    answer = await place.world.http.get(door, headers=place.strangers["another tenant's owner"])
    assert "globex" not in answer.text
    assert str(await place.world.tenant_id("globex")) not in answer.text


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("users", {"name": "eve", "tenant": "globex"}, id="a user into another tenant"),
        pytest.param("users", {"name": "eve", "tenant_id": UNKNOWN_ID}, id="a user into another tenant by id"),
        pytest.param("users", {"name": "eve", "role": "owner"}, id="a user with a role"),
        pytest.param("users", {"name": "eve", "password": "chosen by the caller"}, id="a user with a password"),
        pytest.param("users", {"name": "eve", "is_enabled": True}, id="a user with a state"),
        pytest.param("service-accounts", {"name": "eve", "client_id": "sa-1"}, id="a service account with an id"),
        pytest.param("service-accounts", {"name": "eve", "tenant": "globex"}, id="a service account into another tenant"),
        pytest.param("role-bindings", {"subject": UNKNOWN_ID, "role": "owner", "tenant": "globex"}, id="a role elsewhere"),
    ],
)  # fmt: skip
async def test_no_body_chooses_what_is_not_the_callers_to_choose(place: Place, path: str, body: dict[str, Any]) -> None:
    headers = place.strangers["another tenant's owner"]
    answer = await place.world.http.post(f"{A}/{path}", json=body, headers=headers)
    assert answer.status_code == 400
    assert "there is no such field" in answer.json()["detail"]


async def test_nothing_of_the_other_tenant_was_changed(place: Place) -> None:
    """Runs last: whatever the strangers tried above left everything as it was."""
    world = place.world
    owner = await world.headers(world.owners["globex"])
    users = (await world.http.get(f"{A}/users", headers=owner)).json()["accounts"]
    services = (await world.http.get(f"{A}/service-accounts", headers=owner)).json()["accounts"]
    assert all(account["enabled"] for account in (*users, *services))
    bindings = (await world.http.get(f"{A}/role-bindings", headers=owner)).json()["bindings"]
    assert place.theirs["binding"] in {binding["id"] for binding in bindings}
    models = {m["name"]: m for m in (await world.http.get(f"{A}/models", headers=owner)).json()["models"]}
    assert set(models) == {"secret-model", "secret-draft", "shared-name"}
    assert models["secret-model"]["labels"] == {"stable": 1}
    assert models["secret-draft"]["versions"][0]["stage"] == "staged"
    assert (await world.http.post("/v1/models/secret-model:predict", json=_INSTANCES, headers=owner)).status_code == 200
