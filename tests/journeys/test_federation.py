"""Identity providers: who registers them, what their tokens open, and that what ends them ends them in every process."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from builders.gateways import Account, World, bearer, joined_gateway, running_gateway
from builders.models import DemoModel, published_model
from builders.oidc import RESOURCE, RealProvider, real_provider
from maas_gateway.auth import store
from maas_gateway.auth.identity_provider import MAX_PROVIDERS
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.identifiers import new_id
from maas_gateway.settings import Settings
from simulators.identity_provider import AUDIENCE, DISCOVERY, Mode, ProviderSimulator, identity_provider, signing_key

pytestmark = pytest.mark.anyio

A = "/admin/v1"
PROVIDERS = f"{A}/identity-providers"
INVOKER = {"value": "ml-team", "role": "invoker", "model": None}
AUDITOR = {"value": "audit", "role": "auditor", "model": None}
OWNER = {"value": "boss", "role": "owner", "model": None}
EVENTS = f"{A}/audit/events"


@dataclass
class Place:
    world: World
    provider: ProviderSimulator
    registered: dict[str, Any]

    async def get(self, path: str, **claims: Any) -> httpx.Response:
        return await self.world.http.get(path, headers=self.headers(**claims))

    def headers(self, **claims: Any) -> dict[str, str]:
        return bearer(self.provider.token(**claims))


def _body(issuer: str, *rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "sso", "issuer": issuer, "audience": AUDIENCE, "claim": "groups", "rules": rules, **more}


async def _act(world: World, method: str, path: str, body: Any = None, by: Account | None = None) -> httpx.Response:
    headers = await world.headers(by or world.owners["acme"])
    return await world.http.request(method, path, json=body, headers=headers)


async def _registered(world: World, body: dict[str, Any]) -> dict[str, Any]:
    answer = await _act(world, "POST", PROVIDERS, body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{PROVIDERS}/{answer.json()['id']}"
    return answer.json()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with identity_provider() as provider:
        oidc = {"allowed_hosts": [provider.host, "login.example.org"]}
        async with running_gateway(tmp_path_factory.mktemp("federation"), oidc=oidc) as world:
            await world.tenants("acme", "globex")
            yield Place(world, provider, await _registered(world, _body(provider.issuer, INVOKER, AUDITOR, OWNER)))


async def test_a_provider_is_registered_described_changed_and_removed_on_record(place: Place) -> None:
    world = place.world
    made = await _registered(world, _body("https://login.example.org/a", INVOKER, name="a"))
    expected = {**_body("https://login.example.org/a", INVOKER, name="a"), "rules": [INVOKER], "enabled": True}
    assert {name: value for name, value in made.items() if name not in {"id", "created_at"}} == expected
    one = f"{PROVIDERS}/{made['id']}"
    listed = (await _act(world, "GET", PROVIDERS)).json()["identity_providers"]
    assert [found for found in listed if found["id"] == made["id"]] == [made]
    assert (await _act(world, "GET", one)).json() == made
    changed = await _act(world, "PATCH", one, {"enabled": False})
    assert changed.json() == {**made, "enabled": False}
    changed = await _act(world, "PATCH", one, {"rules": [AUDITOR]})
    assert changed.json() == {**made, "enabled": False, "rules": [AUDITOR]}
    assert (await _act(world, "DELETE", one)).status_code == 204
    assert (await _act(world, "GET", one)).status_code == 404
    assert (await _act(world, "DELETE", one)).status_code == 404
    assert (await _act(world, "PATCH", one, {"enabled": True})).status_code == 404
    events = (await _act(world, "GET", EVENTS)).json()["events"]
    ours = [event for event in events if event["thing"] == f"identity provider {made['id']}"]
    assert [event["kind"].partition(".")[2] for event in ours] == ["added", "changed", "changed", "removed"]
    assert ours[0]["detail"]["issuer"] == "https://login.example.org/a"
    assert ours[0]["detail"]["rules"] == "ml-team: invoker"
    assert all(event["actor"] == "owner@acme" for event in ours)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no issuer": ({"issuer": ""}, "issuer: "),
    "a host that is not listed": ({"issuer": "https://evil.example"}, "issuer: the host evil.example is not"),
    "a host that only we reach": ({"issuer": "http://169.254.169.254/latest"}, "issuer: https only"),
    "another port": ({"issuer": "https://login.example.org:8443"}, "issuer: the host login.example.org:8443"),
    "http": ({"issuer": "http://login.example.org"}, "issuer: https only"),
    "a query": ({"issuer": "https://login.example.org/?a=b"}, "issuer: "),
    "a fragment": ({"issuer": "https://login.example.org/#a"}, "issuer: "),
    "credentials": ({"issuer": "https://a:b@login.example.org"}, "issuer: "),
    "a long issuer": ({"issuer": "https://login.example.org/" + "a" * 255}, "issuer: "),
    "ourselves": ({"issuer": "http://127.0.0.1:8080"}, "issuer: that is this gateway"),
    "ourselves with a slash": ({"issuer": "http://127.0.0.1:8080/"}, "issuer: that is this gateway"),
    "no audience": ({"audience": ""}, "audience: "),
    "an audience with a space": ({"audience": "a b"}, "audience: "),
    "no claim": ({"claim": ""}, "claim: "),
    "a name in capitals": ({"name": "SSO"}, "name: "),
    "a name with an @": ({"name": "sso@acme"}, "name: "),
    "a long name": ({"name": "s" * 33}, "name: "),
    "an unknown field": ({"jwks_uri": "https://evil.example"}, "jwks_uri: "),
    "an unknown role": ({"rules": [{"value": "x", "role": "root"}]}, "rules: the role 'root'"),
    "the operator's role": ({"rules": [{"value": "x", "role": "operator"}]}, "rules: the role 'operator'"),
    "an owner of one model": ({"rules": [{"value": "x", "role": "owner", "model": "m"}]}, "rules: the role 'owner'"),
    "a model that cannot be": ({"rules": [{"value": "x", "role": "invoker", "model": "a.b"}]}, "model: "),
    "an empty value": ({"rules": [{"value": "", "role": "invoker"}]}, "rules.0.value: "),
    "a value with a NUL": ({"rules": [{"value": "a\x00", "role": "invoker"}]}, "rules.0.value: "),
    "a rule that says more": ({"rules": [{**INVOKER, "if": 1}]}, "rules.0.if: "),
    "sixty-five rules": ({"rules": [INVOKER] * 65}, "rules: "),
    "rules that are no list": ({"rules": INVOKER}, "rules: "),
}


@pytest.mark.parametrize(("changes", "detail"), BAD.values(), ids=BAD)
async def test_a_bad_provider_is_refused_by_the_fields_name(place: Place, changes: Any, detail: str) -> None:
    body = {**_body("https://login.example.org/bad", INVOKER, name="bad"), **changes}
    answer = await _act(place.world, "POST", PROVIDERS, body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["detail"].startswith(detail)


async def test_federation_is_off_until_the_operator_lists_a_host(tmp_path: Path) -> None:
    async with identity_provider() as provider, running_gateway(tmp_path) as world:
        await world.tenant("acme")
        answer = await _act(world, "POST", PROVIDERS, _body(provider.issuer, INVOKER))
        assert answer.status_code == 400
        assert "MAAS_OIDC__ALLOWED_HOSTS" in answer.json()["detail"]
        assert (await world.http.get(EVENTS, headers=bearer(provider.token()))).status_code == 401
        assert provider.n_connections == 0


async def test_a_host_that_the_operator_lists_no_more_counts_no_more(tmp_path: Path) -> None:
    async with identity_provider() as provider:
        token = bearer(provider.token(groups="audit"))
        async with running_gateway(tmp_path, oidc={"allowed_hosts": [provider.host]}) as world:
            await world.tenant("acme")
            await _registered(world, _body(provider.issuer, AUDITOR))
            assert (await world.http.get(EVENTS, headers=token)).status_code == 200
        settings = world.settings.model_copy(
            update={"oidc": world.settings.oidc.model_copy(update={"allowed_hosts": ("a",)})}
        )
        n_connections = provider.n_connections
        async with joined_gateway(settings, world.operator) as later:
            assert (await later.http.get(EVENTS, headers=token)).status_code == 401
        assert provider.n_connections == n_connections


async def test_our_own_tokens_are_ours_although_our_address_was_registered_before_we_had_it(tmp_path: Path) -> None:
    async with identity_provider() as provider:
        async with running_gateway(tmp_path, oidc={"allowed_hosts": [provider.host]}) as world:
            await world.tenant("acme")
            await _registered(world, _body(provider.issuer, AUDITOR))
        moved = Settings.model_validate({**world.settings.model_dump(), "public_url": provider.issuer})
        async with joined_gateway(moved, world.operator) as later:
            assert later.settings.base_url == provider.issuer
            headers = await later.headers(world.owners["acme"])
            assert (await later.http.get(EVENTS, headers=headers)).status_code == 200
            assert (await later.http.get(EVENTS, headers=bearer(provider.token()))).status_code == 401
        assert provider.n_connections == 0


async def test_an_issuer_belongs_to_whoever_was_first_with_all_its_audiences(place: Place) -> None:
    """Else another tenant could register a further audience of the same tokens, which then would say of nobody that
    they are meant for it; and could find out by trying which audiences are registered."""
    world, issuer = place.world, place.provider.issuer
    taken = await _act(world, "POST", PROVIDERS, _body(issuer, INVOKER, name="again"))
    assert (taken.status_code, taken.json()["type"]) == (409, "/problems/conflict")
    assert taken.json()["detail"] == "issuer: it is registered for this audience already"
    told = set()
    for audience in (AUDIENCE, "account"):
        body = _body(issuer, INVOKER, audience=audience)
        taken = await _act(world, "POST", PROVIDERS, body, by=world.owners["globex"])
        assert (taken.status_code, taken.json()["type"]) == (409, "/problems/conflict")
        told.add(taken.json()["detail"])
    assert len(told) == 1
    assert told.pop().startswith("issuer: it is registered already, and belongs to one tenant; ")
    token = place.headers(groups=["audit"], aud=[AUDIENCE, "account"])
    assert (await world.http.get(EVENTS, headers=token)).status_code == 200
    named = await _act(world, "POST", PROVIDERS, _body(issuer, INVOKER, audience="other"))
    assert (named.status_code, named.json()["detail"]) == (409, "name: identity provider 'sso' exists")
    token = place.headers(groups=["audit"])
    events = (await world.http.get(EVENTS, headers=token)).json()["events"]
    assert any(event["thing"] == f"identity provider {place.registered['id']}" for event in events), "the first one's"


async def test_a_host_that_is_listed_for_a_tenant_is_no_others_to_register(tmp_path: Path) -> None:
    async with identity_provider() as provider:
        oidc = {"allowed_hosts": [f"acme@{provider.host}", "globex@login.example.org"]}
        async with running_gateway(tmp_path, oidc=oidc) as world:
            await world.tenants("acme", "globex")
            body = _body(provider.issuer, AUDITOR)
            refused = await _act(world, "POST", PROVIDERS, body, by=world.owners["globex"])
            unlisted = _body("https://login.example.com", AUDITOR)
            nobodys = await _act(world, "POST", PROVIDERS, unlisted, by=world.owners["globex"])
            assert (refused.status_code, nobodys.status_code) == (400, 400)
            details = [refused.json()["detail"], nobodys.json()["detail"]]
            assert details[0] == details[1].replace("login.example.com", provider.host), "whose it is is not told"
            await _registered(world, body)
            token = bearer(provider.token(groups="audit"))
            assert (await world.http.get(EVENTS, headers=token)).status_code == 200
        others = world.settings.oidc.model_copy(update={"allowed_hosts": (f"globex@{provider.host}",)})
        settings = world.settings.model_copy(update={"oidc": others})
        async with joined_gateway(settings, world.operator) as later:  # the operator has thought better of it
            assert (await later.http.get(EVENTS, headers=token)).status_code == 401


async def test_tenants_for_which_a_host_is_listed_share_an_issuer_by_audience(tmp_path: Path) -> None:
    async with identity_provider() as provider:
        oidc = {"allowed_hosts": [f"acme@{provider.host}", f"globex@{provider.host}"]}
        async with running_gateway(tmp_path, oidc=oidc) as world:
            await world.tenants("acme", "globex")
            for slug in ("acme", "globex"):
                body = _body(provider.issuer, AUDITOR, audience=slug)
                made = await _act(world, "POST", PROVIDERS, body, by=world.owners[slug])
                assert made.status_code == 201, made.text
            taken = await _act(world, "POST", PROVIDERS, _body(provider.issuer, audience="globex", name="x"))
            assert taken.json()["detail"] == "issuer: it is registered for this audience already"
            for audience, actor in (("acme", "ada@sso.acme"), ("globex", "ada@sso.globex")):
                token = provider.token(groups="audit", aud=[audience, "account"])
                assert (await world.gateway.authenticator.principal(token)).name == actor
            both = bearer(provider.token(groups="audit", aud=["acme", "globex"]))
            assert (await world.http.get(EVENTS, headers=both)).status_code == 401


async def test_of_two_tenants_that_have_an_issuer_from_before_it_is_the_first_ones(
    tmp_path: Path, database_url: str
) -> None:
    """As an earlier version let them, or two who register it at once; also while the first one's does not count."""
    async with (
        identity_provider() as provider,
        running_gateway(tmp_path, database_url, oidc={"allowed_hosts": [provider.host]}) as world,
    ):
        await world.tenants("acme", "globex")
        made = await _registered(world, _body(provider.issuer, AUDITOR))
        globex = await world.tenant_id("globex")
        database = Database(world.settings.main_url, CHANGES)
        async with database.write(await world.tenant_id("acme")) as session:
            first = await store.identity_provider(session, UUID(made["id"]))
        assert first is not None
        later = first.created_at + timedelta(seconds=1)
        second = replace(first, provider_id=new_id(), tenant=globex, audience="account", created_at=later)
        async with database.write(globex) as session:
            await store.add_identity_provider(session, second)
        await database.close()
        world.gateway.authenticator.forget_standings()
        for audience, status in ((AUDIENCE, 200), ([AUDIENCE, "account"], 200), ("account", 401)):
            token = bearer(provider.token(groups="audit", aud=audience))
            assert (await world.http.get(EVENTS, headers=token)).status_code == status
        await _act(world, "PATCH", f"{PROVIDERS}/{made['id']}", {"enabled": False})
        assert (await world.http.get(EVENTS, headers=token)).status_code == 401
        await _act(world, "DELETE", f"{PROVIDERS}/{made['id']}")
        assert (await world.http.get(EVENTS, headers=token)).status_code == 200


async def test_a_tenant_has_so_many_providers_and_no_more(place: Place) -> None:
    world, by = place.world, place.world.owners["globex"]
    for number in range(MAX_PROVIDERS + 1):
        body = _body(f"https://login.example.org/{number}", INVOKER, name=f"n{number}")
        answer = await _act(world, "POST", PROVIDERS, body, by=by)
        assert answer.status_code == (201 if number < MAX_PROVIDERS else 409), number
    for made in (await _act(world, "GET", PROVIDERS, by=by)).json()["identity_providers"]:
        assert (await _act(world, "DELETE", f"{PROVIDERS}/{made['id']}", by=by)).status_code == 204


async def test_a_rule_may_name_a_model_that_another_tenant_shares(place: Place) -> None:
    rule = {**INVOKER, "model": "globex.bc"}
    made = await _registered(place.world, _body("https://login.example.org/shared", rule, name="shared"))
    assert made["rules"] == [rule]
    assert (await _act(place.world, "DELETE", f"{PROVIDERS}/{made['id']}")).status_code == 204


async def test_nobody_maps_a_claim_to_more_than_the_own_permissions(place: Place) -> None:
    world, owner = place.world, place.world.owners["acme"]
    narrow = await world.headers(owner, "binding:write binding:read audit:read model:read")
    for rule, status in ((INVOKER, 403), (OWNER, 403), (AUDITOR, 201)):
        body = _body("https://login.example.org/narrow", rule, name="narrow")
        answer = await world.http.post(PROVIDERS, json=body, headers=narrow)
        assert answer.status_code == status, answer.text
    one = f"{PROVIDERS}/{answer.json()['id']}"
    for change, status in (({"rules": [AUDITOR, OWNER]}, 403), ({"enabled": False}, 200), ({"enabled": True}, 200)):
        assert (await world.http.patch(one, json=change, headers=narrow)).status_code == status, change
    assert (await _act(world, "PATCH", one, {"rules": [OWNER]})).status_code == 200
    for change, status in (({"enabled": True}, 200), ({"enabled": False}, 200), ({"enabled": True}, 403)):
        assert (await world.http.patch(one, json=change, headers=narrow)).status_code == status, change
    assert (await world.http.delete(one, headers=narrow)).status_code == 204


async def test_only_who_may_bind_roles_reads_and_changes_providers(place: Place) -> None:
    world, one = place.world, f"{PROVIDERS}/{place.registered['id']}"
    reader = await world.headers(world.owners["acme"], "binding:read")
    auditor = await world.headers(await world.service("acme", "auditor", "publisher"))
    other, operator = await world.headers(world.owners["globex"]), await world.headers(world.operator)
    body = _body("https://login.example.org/x", name="x")
    for method, path, sent, statuses in (
        ("GET", PROVIDERS, None, (200, 403, 200, 403)),
        ("GET", one, None, (200, 404, 404, 404)),
        ("PATCH", one, {"enabled": False}, (403, 404, 404, 404)),
        ("DELETE", one, None, (403, 404, 404, 404)),
        ("POST", PROVIDERS, body, (403, 403, 201, 403)),  # the other tenant registers its own
    ):
        for headers, status in zip((reader, auditor, other, operator), statuses, strict=True):
            answer = await world.http.request(method, path, json=sent, headers=headers)
            assert answer.status_code == status, (method, path)
            if status == 201:
                gone = await world.http.delete(f"{PROVIDERS}/{answer.json()['id']}", headers=headers)
                assert gone.status_code == 204
    assert place.registered["id"] not in (await world.http.get(PROVIDERS, headers=other)).text
    assert (await world.http.get(PROVIDERS)).status_code == 401


async def test_registering_asks_nobody_anything(place: Place) -> None:
    n_connections = place.provider.n_connections
    made = await _registered(place.world, _body(f"{place.provider.issuer}/quiet", INVOKER, name="quiet"))
    assert (await _act(place.world, "DELETE", f"{PROVIDERS}/{made['id']}")).status_code == 204
    assert place.provider.n_connections == n_connections


async def test_every_prediction_door_takes_a_federated_token_for_the_models_of_its_rules(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with (
        identity_provider() as provider,
        running_gateway(tmp_path, oidc={"allowed_hosts": [provider.host]}) as world,
    ):
        await world.tenant("acme")
        for model in ("bc", "other"):
            await published_model(world, "acme", model, demo)
        await _registered(world, _body(provider.issuer, {**INVOKER, "model": "bc"}, AUDITOR))
        body = {"instances": [list(demo.seed.example)]}
        for token, expected in (
            (provider.token(groups=["ml-team"]), (200, 404)),
            (provider.token(groups=["audit"]), (403, 403)),
            (provider.token(groups=["nobody"]), (404, 404)),
            (provider.token(groups=["ml-team"], aud="another"), (401, 401)),
        ):
            for headers, auth in ((bearer(token), None), ({}, httpx.BasicAuth("anybody", token))):
                for model, status in zip(("bc", "other"), expected, strict=True):
                    path = f"/v1/models/{model}:predict"
                    answer = await world.http.post(path, json=body, headers=headers, auth=auth)
                    assert answer.status_code == status, answer.text
                    reading = 200 if status == 403 else status  # an auditor reads and does not predict
                    described = await world.http.get(f"/v2/models/{model}", headers=headers, auth=auth)
                    assert described.status_code == reading, described.text


async def test_what_needs_an_account_is_refused_with_a_sentence(place: Place) -> None:
    world, headers = place.world, place.headers(groups=["boss"])
    change = {"current": "correct horse battery", "new": "correct horse staple"}
    answer = await world.http.post(f"{A}/password", json=change, headers=headers)
    assert (answer.status_code, "identity provider" in answer.json()["detail"]) == (400, True)
    key = {"name": "mine", "permissions": ["model:read"]}
    answer = await world.http.post(f"{A}/api-keys", json=key, headers=headers)
    assert (answer.status_code, answer.json()["detail"].startswith("subject: ")) == (400, True)
    robot = await world.service("acme", "invoker")
    answer = await world.http.post(f"{A}/api-keys", json={**key, "subject": robot.subject}, headers=headers)
    assert answer.status_code == 201
    bearer_of = await world.gateway.authenticator.principal(place.provider.token())
    binding = {"subject": str(bearer_of.subject), "role": "invoker"}
    assert (await _act(world, "POST", f"{A}/role-bindings", binding)).status_code == 400


async def test_a_federated_owner_acts_under_a_name_that_no_user_has(place: Place) -> None:
    world = place.world
    made = await world.http.post(
        f"{A}/users", json={"name": "eve"}, headers=place.headers(sub="owner", groups=["boss"])
    )
    assert made.status_code == 201
    events = (await _act(world, "GET", EVENTS)).json()["events"]
    (event,) = (event for event in events if event["thing"] == "user eve")
    assert event["actor"] == "owner@sso.acme"


async def test_a_federated_token_is_introspected_by_its_tenant_and_ended_elsewhere(place: Place) -> None:
    world = place.world
    token = place.provider.token(groups=["audit"])
    own, other = [await world.headers(world.owners[slug]) for slug in ("acme", "globex")]
    told = (await world.http.post("/oauth/introspect", data={"token": token}, headers=own)).json()
    assert told["active"] is True
    assert (told["username"], told["scope"]) == ("ada@sso.acme", "audit:read model:read")
    told = await world.http.post("/oauth/introspect", data={"token": token}, headers=other)
    assert told.json() == {"active": False}
    for headers, status in ((own, 400), (bearer(token), 400), (other, 200)):
        ended = await world.http.post("/oauth/revoke", data={"token": token}, headers=headers)
        assert ended.status_code == status, ended.text
    assert (await world.http.get(EVENTS, headers=bearer(token))).status_code == 200


async def test_a_provider_that_is_down_is_no_fault_of_the_token(tmp_path: Path, demo: DemoModel) -> None:
    async with identity_provider() as provider:
        oidc = {"allowed_hosts": [provider.host], "refetch_s": 1, "keys_life_s": 1, "deadline_s": 0.5}
        async with running_gateway(tmp_path, oidc=oidc) as world:
            await world.tenant("acme")
            await published_model(world, "acme", "bc", demo)
            await _registered(world, _body(provider.issuer, INVOKER, AUDITOR))
            await provider.stop()
            headers = bearer(provider.token(groups=["audit", "ml-team"]))
            for path in (EVENTS, "/v1/models/bc", "/v2/models/bc"):
                answer = await world.http.get(path, headers=headers)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), path
            owner = await world.headers(world.owners["acme"])
            assert (await world.http.get(EVENTS, headers=owner)).status_code == 200, "others are not held up"
            await provider.start()
            await asyncio.sleep(1)
            assert (await world.http.get(EVENTS, headers=headers)).status_code == 200
            provider.modes[DISCOVERY] = Mode.SLOW
            await asyncio.sleep(1.1)
            assert (await world.http.get(EVENTS, headers=headers)).status_code == 200, "known keys count on"
            fresh = bearer(provider.token(groups=["audit"], sub="eve"))
            assert (await world.http.get(EVENTS, headers=fresh)).status_code == 200
            provider.mend()
            provider.use(signing_key("second", "ES256"))
            await asyncio.sleep(1.1)
            rolled = bearer(provider.token(groups=["audit"]))
            assert (await world.http.get(EVENTS, headers=rolled)).status_code == 200
            assert (await world.http.get(EVENTS, headers=fresh)).status_code == 401, "its key is listed no more"


Ending = Callable[[World, str], Awaitable[httpx.Response]]
ENDINGS: dict[str, Ending] = {
    "disabled": lambda world, one: _act(world, "PATCH", one, {"enabled": False}),
    "removed": lambda world, one: _act(world, "DELETE", one),
    "suspended with its tenant": lambda world, _: _act(world, "POST", f"{A}/tenants/acme:suspend", by=world.operator),
    "erased with its tenant": lambda world, _: _act(world, "POST", f"{A}/tenants/acme:erase", by=world.operator),
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
async def test_what_ends_a_provider_ends_its_tokens_in_every_process_within_a_second(
    tmp_path: Path, ending: Ending
) -> None:
    async with identity_provider() as provider:
        oidc = {"allowed_hosts": [provider.host]}
        async with running_gateway(tmp_path, oidc=oidc) as world, joined_gateway(world) as elsewhere:
            await world.tenant("acme")
            one = f"{PROVIDERS}/{(await _registered(world, _body(provider.issuer, AUDITOR)))['id']}"
            headers = bearer(provider.token(groups=["audit"]))
            await asyncio.sleep(1)
            for process in (world, elsewhere):
                assert (await process.http.get(EVENTS, headers=headers)).status_code == 200
            assert (await ending(world, one)).status_code in {200, 202, 204}
            assert (await world.http.get(EVENTS, headers=headers)).status_code == 401
            await asyncio.sleep(1)
            assert (await elsewhere.http.get(EVENTS, headers=headers)).status_code == 401


async def test_an_erased_tenants_issuer_is_free_again(tmp_path: Path, database_url: str) -> None:
    async with (
        identity_provider() as provider,
        running_gateway(tmp_path, database_url, oidc={"allowed_hosts": [provider.host]}) as world,
    ):
        await world.tenants("acme", "globex")
        body, token = _body(provider.issuer, AUDITOR), bearer(provider.token(groups=["audit"]))
        await _registered(world, body)
        taken = await _act(world, "POST", PROVIDERS, body, by=world.owners["globex"])
        assert taken.status_code == 409, taken.text
        assert (await world.http.get(EVENTS, headers=token)).status_code == 200
        erased = await _act(world, "POST", f"{A}/tenants/acme:erase", by=world.operator)
        assert erased.status_code in {200, 202}, erased.text
        assert (await world.http.get(EVENTS, headers=token)).status_code == 401
        again = await _act(world, "POST", PROVIDERS, body, by=world.owners["globex"])
        assert again.status_code == 201, again.text
        assert (await world.http.get(EVENTS, headers=token)).status_code == 200


async def test_a_rule_that_is_removed_counts_no_more_in_every_process_within_a_second(tmp_path: Path) -> None:
    async with identity_provider() as provider:
        oidc = {"allowed_hosts": [provider.host]}
        async with running_gateway(tmp_path, oidc=oidc) as world, joined_gateway(world) as elsewhere:
            await world.tenant("acme")
            one = f"{PROVIDERS}/{(await _registered(world, _body(provider.issuer, AUDITOR, OWNER)))['id']}"
            headers = bearer(provider.token(groups=["audit"]))
            await asyncio.sleep(1)
            for rules, status in (([OWNER], 403), ([OWNER, AUDITOR], 200), ([], 403)):
                assert (await _act(world, "PATCH", one, {"rules": rules})).status_code == 200
                assert (await world.http.get(EVENTS, headers=headers)).status_code == status
                await asyncio.sleep(1)
                assert (await elsewhere.http.get(EVENTS, headers=headers)).status_code == status


@pytest.fixture(scope="module")
def real() -> Any:
    with real_provider() as provider:
        yield provider


@pytest.mark.services
@pytest.mark.parametrize("algorithm", ["rs256", "es256"])
async def test_tokens_of_a_real_provider_predict_by_their_mapped_role_until_that_ends(
    tmp_path: Path, demo: DemoModel, real: RealProvider, algorithm: str
) -> None:
    resource = f"{RESOURCE}/{algorithm}"
    async with (
        running_gateway(tmp_path, oidc={"allowed_hosts": [real.host]}) as world,
        joined_gateway(world) as elsewhere,
    ):
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        one = f"{PROVIDERS}/{(await _registered(world, _body(real.issuer, INVOKER, audience=resource)))['id']}"
        body = {"instances": [list(demo.seed.example)]}
        robot, stranger = [await real.token(client, resource) for client in ("ml-robot", "stranger")]
        elsewhere_for = await real.token("ml-robot", f"{RESOURCE}/other")
        await asyncio.sleep(1)

        async def predicted(process: World, token: str) -> int:
            answer = await process.http.post("/v1/models/bc:predict", json=body, headers=bearer(token))
            if answer.status_code == 200:
                assert answer.json()["predictions"][0] == pytest.approx([demo.seed.expected], abs=1e-4)
            return answer.status_code

        expected = {robot: 200, stranger: 404, elsewhere_for: 401, robot[:-8] + "AAAAAAAA": 401}
        for token, status in expected.items():
            assert await predicted(world, token) == status
        assert await predicted(elsewhere, robot) == 200
        for change, status in (
            ({"rules": []}, 404),
            ({"rules": [INVOKER]}, 200),
            ({"enabled": False}, 401),
            ({"enabled": True}, 200),
            (None, 401),
        ):
            done = await _act(world, "DELETE" if change is None else "PATCH", one, change)
            assert done.status_code in {200, 204}
            assert await predicted(world, robot) == status
            await asyncio.sleep(1)
            assert await predicted(elsewhere, robot) == status
        events = (await _act(world, "GET", EVENTS)).json()["events"]
        assert robot.rpartition(".")[2] not in json.dumps(events)
