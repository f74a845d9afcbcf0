"""Quarantine, four eyes, and throwing away: nothing that waits for a person serves, and no one person lets it."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from builders.gateways import Account, World, bearer, joined_gateway, running_gateway
from builders.models import (
    DemoModel,
    convert_as_before,
    published_model,
    quarantined_model,
    uploaded_model,
    with_idle_layer,
)
from builders.storage import n_left
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.identifiers import ModelRef
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.registry.tables import MODEL_VERSIONS

pytestmark = pytest.mark.anyio

A = "/admin/v1"
V = f"{A}/models/bc/versions/1"
REASON = {"reason": "the layer is left over from training"}


@asynccontextmanager
async def _acme(folder: Path, database: str = "sqlite", **settings: Any) -> AsyncIterator[World]:
    async with running_gateway(folder, database, **settings) as world:
        await world.tenant("acme")
        yield world


async def _ask(
    world: World, method: str, path: str, who: Account | dict[str, str] | None = None, **rest: Any
) -> tuple[int, Any]:
    headers = who if isinstance(who, dict) else await world.headers(who or world.owners["acme"])
    answer = await world.http.request(method, path, headers=headers, **rest)
    return answer.status_code, answer.json() if answer.content else None


async def _predict(world: World, demo: DemoModel) -> int:
    body = {"instances": [list(demo.seed.example)]}
    return (await _ask(world, "POST", "/v1/models/bc:predict", json=body))[0]


async def _write(world: World, **values: Any) -> None:
    """Edit every version's row, as an attacker with the database may."""
    database = Database(world.settings.main_url, CHANGES)
    async with database.connection(is_write=True) as connection:
        await connection.execute(sa.update(MODEL_VERSIONS).values(**values))
        await connection.execute(sa.update(CHANGES).values(counter=CHANGES.c.counter + 1))
    await database.close()


async def _n_left(world: World) -> tuple[int, ...]:
    """Return how many models, versions, artifacts, blobs and data keys there are."""
    counted = await n_left(world)
    return tuple(counted[name] for name in ("models", "versions", "artifacts", "blobs", "data keys"))


# --- quarantine ----------------------------------------------------------------------------------


async def test_version_that_waits_for_a_person_serves_once_it_is_released_and_not_before(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with _acme(tmp_path, database_url) as world:
        convert_as_before(world, demo)
        publisher = await world.service("acme", "publisher")
        status, version = await _ask(world, "PUT", V, publisher, content=with_idle_layer(demo.seed.archive))
        assert (status, version["stage"], version["released"]) == (201, "quarantined", None)
        (finding,) = version["findings"]
        assert (finding["severity"], finding["where"]) == ("review", "config.json: /config/layers/5")
        status, problem = await _ask(world, "POST", f"{V}:promote", publisher)
        assert (status, problem["type"]) == (409, "/problems/illegal-transition")
        assert f"POST {V}:release" in problem["detail"]
        for path in (f"{A}/models/bc/labels/stable",):
            assert (await _ask(world, "PUT", path, json={"version": 1}))[0] == 409
        assert (await _ask(world, "POST", f"{V}:retire"))[0] == 409
        assert await _predict(world, demo) == 404
        for path in ("/v1/models/bc", "/v1/models/bc/versions/1", "/v2/models/bc/versions/1", "/v2/models/bc/ready"):
            assert (await _ask(world, "GET", path))[0] == 404, path

        status, version = await _ask(world, "POST", f"{V}:release", json=REASON)
        assert (status, version["stage"]) == (200, "staged")
        assert version["released"] | {"at": ""} == {
            "by": "owner@acme",
            "at": "",
            "reason": REASON["reason"],
            "is_by_person": True,
        }
        assert (await _ask(world, "POST", f"{V}:release"))[0] == 409, "it waits no more"
        assert (await _ask(world, "POST", f"{V}:promote", publisher))[0] == 200
        assert await _predict(world, demo) == 200
        _, events = await _ask(world, "GET", f"{A}/audit/events?limit=1000")
        (event,) = [event for event in events["events"] if event["kind"] == "model.released"]
        assert (event["actor"], event["thing"]) == ("owner@acme", "model bc/versions/1")
        assert event["detail"] == {"reason": REASON["reason"], "rules": "unreached-layer"}


async def test_release_stays_with_the_version_through_resealing_and_rotation(tmp_path: Path, demo: DemoModel) -> None:
    async with _acme(tmp_path) as world:
        await quarantined_model(world, "acme", "bc", demo)
        assert (await _ask(world, "POST", f"{V}:release", json=REASON))[0] == 200
        assert (await _ask(world, "POST", f"{V}:promote"))[0] == 200
        _, operation = await _ask(world, "POST", f"{A}/keyrings/statements:rotate", world.operator)
        assert (operation["state"], operation["done"]) == ("succeeded", 1)
        version = await world.gateway.browse.version(await world.principal(world.owners["acme"]), ModelRef("bc", 1))
        artifacts = world.gateway.upload._artifacts
        assert (await artifacts.reseal(version)).release == version.release
        async with joined_gateway(world) as restarted:
            assert await _predict(restarted, demo) == 200


async def test_reason_is_short_and_the_body_is_strict(tmp_path: Path, demo: DemoModel) -> None:
    async with _acme(tmp_path) as world:
        await quarantined_model(world, "acme", "bc", demo)
        for body in ({"reason": "x" * 301}, {"reason": 1}, {"why": "x"}):
            status, problem = await _ask(world, "POST", f"{V}:release", json=body)
            assert (status, problem["detail"].partition(":")[0]) == (400, next(iter(body)))
        assert (await _ask(world, "POST", f"{V}:release"))[0] == 200, "a reason is not demanded"


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"stage": "serving"}, id="its stage"),
        pytest.param({"stage": "serving", "findings": []}, id="its stage and its findings"),
        pytest.param(
            {
                "stage": "serving",
                "release": {"by": "a", "at": "2026-01-01T00:00:00+00:00", "reason": "", "subject": None},
            },
            id="its stage and a release",
        ),
    ],
)
async def test_no_edited_row_lets_a_version_out_of_quarantine(
    tmp_path: Path, demo: DemoModel, values: dict[str, Any]
) -> None:
    async with _acme(tmp_path) as world:
        await quarantined_model(world, "acme", "bc", demo)
        await _write(world, **values)
        assert await _predict(world, demo) == 503
        await world.gateway.audit.flush()
        _, events = await _ask(world, "GET", f"{A}/audit/events?limit=1000")
        assert "model.integrity" in {event["kind"] for event in events["events"]}


# --- four eyes -----------------------------------------------------------------------------------


async def _rule(world: World, **rules: bool) -> dict[str, bool]:
    status, said = await _ask(world, "PUT", f"{A}/publishing-rules", json=rules)
    assert status == 200, said
    return dict(said)


async def test_rules_are_set_one_by_one_and_stay_as_they_are_if_left_out(tmp_path: Path, database_url: str) -> None:
    async with _acme(tmp_path, database_url) as world:
        both = ("requires_signature", "requires_second_person")
        assert await _rule(world, requires_second_person=True) == dict(zip(both, (False, True), strict=True))
        assert await _rule(world, requires_signature=True) == dict(zip(both, (True, True), strict=True))
        assert await _rule(world, requires_second_person=False) == dict(zip(both, (True, False), strict=True))
        assert (await _ask(world, "GET", f"{A}/publishing-rules"))[1] == dict(zip(both, (True, False), strict=True))


async def _with_own_password(world: World, account: Account) -> Account:
    mine = replace(account, secret="a password of my own")
    body = {"current": account.secret, "new": mine.secret}
    status, problem = await _ask(world, "POST", f"{A}/password", account, json=body)
    assert status == 204, problem
    return mine


async def _key_of(world: World, who: Account, **more: str) -> dict[str, str]:
    permissions = ["model:read", "model:write", "model:promote"]
    status, key = await _ask(
        world, "POST", f"{A}/api-keys", who, json={"name": "k", "permissions": permissions, **more}
    )
    assert status == 201, key
    return bearer(key["api_key"])


async def test_uploader_neither_releases_nor_promotes_whatever_credential_it_has(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    """Of each pair: who uploads, who then promotes, and whether these are two persons as far as can be known."""
    async with _acme(tmp_path, database_url) as world:
        convert_as_before(world, demo)
        owner = world.owners["acme"]
        ada = await _with_own_password(world, await world.user("acme", "ada", "publisher"))
        bob = await _with_own_password(world, await world.user("acme", "bob", "owner"))
        eve = await world.user("acme", "eve", "publisher")  # whose password the owner still knows
        robot = await world.service("acme", "publisher")  # whose secret the owner was told
        other = await world.service("acme", "publisher")
        first = await world.first_service("acme", "publisher")  # whose secret nobody here was told
        await _rule(world, requires_second_person=True)
        cases: dict[str, tuple[Any, Any, int]] = {
            "the same user": (ada, ada, 403),
            "a user and its API key": (bob, await _key_of(world, bob), 403),
            "an API key and its user": (await _key_of(world, bob), bob, 403),
            "a user and a key that it made for a program": (bob, await _key_of(world, bob, subject=other.subject), 403),
            "another user and that key": (ada, await _key_of(world, bob, subject=other.subject), 200),
            "two users": (ada, bob, 200),
            "two users, the other way round": (bob, ada, 200),
            "a program and the user who made it": (robot, owner, 403),
            "a user and the program that it made": (owner, robot, 403),
            "a program and a user who did not make it": (robot, bob, 200),
            "a program of the first start and the owner": (first, owner, 200),
            "a user with a password that another was told, and that one": (eve, owner, 403),
            "one who was told a user's password, and that user": (owner, eve, 403),
            "two whose secrets the same one was told": (eve, robot, 403),
            "a user with a password that another was told, and a third": (eve, bob, 200),
        }
        for number, (name, (uploader, promoter, expected)) in enumerate(cases.items(), 1):
            path = f"{A}/models/bc/versions/{number}"
            status, version = await _ask(world, "PUT", path, uploader, content=with_idle_layer(demo.seed.archive))
            assert (status, version["stage"]) == (201, "quarantined"), (name, version)
            status, said = await _ask(world, "POST", f"{path}:release", promoter)
            assert status == expected, (name, said)
            if expected == 403:
                assert "second person" in said["detail"], name
                assert (await _ask(world, "POST", f"{path}:release", bob if uploader != bob else owner))[0] in {
                    200,
                    403,
                }
            status, said = await _ask(world, "POST", f"{path}:promote", promoter)
            assert status == expected, (name, said)
        await _rule(world, requires_second_person=False)
        path = f"{A}/models/bc/versions/1"
        assert (await _ask(world, "POST", f"{path}:promote", ada))[0] == 200, "the rule is in force from act to act"


async def test_new_secret_that_is_told_to_another_counts_from_then_on(tmp_path: Path, demo: DemoModel) -> None:
    async with _acme(tmp_path) as world:
        convert_as_before(world, demo)
        bob = await _with_own_password(world, await world.user("acme", "bob", "owner"))
        robot = await world.first_service("acme", "publisher")
        await _rule(world, requires_second_person=True)
        _, rotated = await _ask(world, "POST", f"{A}/service-accounts/{robot.subject}:rotate", bob)
        robot = replace(robot, secret=rotated["client_secret"])
        assert (await _ask(world, "PUT", V, robot, content=demo.seed.archive))[0] == 201
        assert (await _ask(world, "POST", f"{V}:promote", bob))[0] == 403
        await _ask(world, "POST", f"{A}/service-accounts/{robot.subject}:rotate")
        assert (await _ask(world, "POST", f"{V}:promote", bob))[0] == 403, "who could have uploaded it is bound in it"


async def test_own_password_makes_a_user_its_own_person(tmp_path: Path, demo: DemoModel) -> None:
    async with _acme(tmp_path) as world:
        await _rule(world, requires_second_person=True)
        eve = await world.user("acme", "eve", "publisher")
        await uploaded_model(world, "acme", "bc", demo)
        status, problem = await _ask(world, "POST", f"{V}:promote", eve)
        assert (status, "change the password" in problem["detail"]) == (403, True)
        eve = await _with_own_password(world, eve)
        assert (await _ask(world, "POST", f"{V}:promote", eve))[0] == 200


async def test_version_of_before_uploaders_were_noted_is_promoted_by_another_name(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with _acme(tmp_path) as world:
        bob = await world.user("acme", "bob", "publisher")
        version = await uploaded_model(world, "acme", "bc", demo)
        statements = world.gateway.upload._statements
        old = dict(await statements.verify("maas-manifest", version.manifest)) | {"format": 2}
        del old["uploaders"], old["release"]
        await _write(world, uploaders=None, manifest=await statements.sign("maas-manifest", old))
        await _rule(world, requires_second_person=True)
        assert (await _ask(world, "POST", f"{V}:promote"))[0] == 403
        assert (await _ask(world, "POST", f"{V}:promote", bob))[0] == 200
        assert await _predict(world, demo) == 200


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(lambda row: {"uploaders": None}, id="nobody"),
        pytest.param(lambda row: {"uploaders": ["11111111-1111-4111-8111-111111111111"]}, id="somebody else"),
        pytest.param(
            lambda row: {"uploaders": None, "created_by": "somebody@acme"}, id="somebody else, by the name too"
        ),
    ],
)
async def test_row_that_names_another_uploader_is_refused(
    tmp_path: Path, demo: DemoModel, forge: Callable[[object], dict[str, Any]]
) -> None:
    async with _acme(tmp_path) as world:
        await uploaded_model(world, "acme", "bc", demo)
        await _rule(world, requires_second_person=True)
        await _write(world, **forge(None))
        status, problem = await _ask(world, "POST", f"{V}:promote")
        assert (status, problem["type"]) == (500, "/problems/signature-rejected")
        assert await _predict(world, demo) == 404


# --- throwing away -------------------------------------------------------------------------------


async def test_version_that_does_not_serve_is_deleted_with_its_keys_and_blobs(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with _acme(tmp_path, database_url) as world:
        await quarantined_model(world, "acme", "bc", demo)
        await uploaded_model(world, "acme", "bc", demo, version=2)
        await published_model(world, "acme", "bc", demo, version=3)
        assert await _n_left(world) == (1, 3, 6, 6, 6)
        publisher = await world.service("acme", "publisher")
        for number, left in ((1, 4), (2, 2)):
            path = f"{A}/models/bc/versions/{number}"
            assert await _ask(world, "DELETE", path, publisher) == (204, None)
            assert await _n_left(world) == (1, left // 2, left, left, left)
            assert (await _ask(world, "DELETE", path, publisher))[0] == 404
        last = f"{A}/models/bc/versions/3"
        status, problem = await _ask(world, "DELETE", last, publisher)
        assert (status, "retire it first" in problem["detail"]) == (409, True)
        status, problem = await _ask(world, "DELETE", f"{A}/models/bc", publisher)
        assert (status, ":erase" in problem["detail"]) == (409, True)
        assert await _predict(world, demo) == 200
        assert (await _ask(world, "POST", f"{last}:retire", publisher))[0] == 200
        assert (await _ask(world, "DELETE", last, publisher))[0] == 204
        assert await _n_left(world) == (1, 0, 0, 0, 0)
        assert (await _ask(world, "DELETE", f"{A}/models/bc", publisher))[0] == 204
        assert await _n_left(world) == (0, 0, 0, 0, 0)
        _, events = await _ask(world, "GET", f"{A}/audit/events?limit=1000")
        deleted = [event for event in events["events"] if event["kind"] in {"model.version-deleted", "model.deleted"}]
        assert [event["detail"].get("stage") for event in deleted] == ["quarantined", "staged", "retired", None]
        await published_model(world, "acme", "bc", demo)
        assert await _predict(world, demo) == 200, "name and number are free again"


async def test_version_whose_deletion_was_killed_after_its_keys_is_deleted_again(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with _acme(tmp_path) as world:
        version = await uploaded_model(world, "acme", "bc", demo)
        keys: DataKeys = world.gateway.admission.delete._data_keys
        await keys.drop(version.tenant, [artifact.artifact_id for artifact in version.artifacts])
        assert (await _ask(world, "DELETE", V))[0] == 204
        assert await _n_left(world) == (1, 0, 0, 0, 0)


async def test_deleted_model_is_shared_with_nobody_any_more(tmp_path: Path, demo: DemoModel) -> None:
    async with _acme(tmp_path) as world:
        await world.tenant("globex")
        await published_model(world, "acme", "bc", demo)
        consumer = str(await world.tenant_id("globex"))
        assert (await _ask(world, "POST", f"{A}/shares", json={"model": "bc", "consumer": consumer}))[0] == 201
        for method, path in (("POST", f"{V}:retire"), ("DELETE", V), ("DELETE", f"{A}/models/bc")):
            assert (await _ask(world, method, path))[0] in {200, 204}
        assert (await _ask(world, "GET", f"{A}/shares"))[1]["shares"] == []
        await published_model(world, "acme", "bc", demo)
        body = json.dumps({"instances": [list(demo.seed.example)]})
        stranger = await world.headers(world.owners["globex"])
        answer = await world.http.post("/v1/models/acme.bc:predict", content=body, headers=stranger)
        assert answer.status_code == 404
