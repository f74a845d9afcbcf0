"""Signed uploads: whose signatures a tenant takes, what is refused, and that a tenant may demand one."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from builders.gateways import POSTGRES_SLOWLY, World, joined_gateway, running_gateway
from builders.models import DemoModel, convert_as_before, published_model
from builders.publishers import Pen, bundle_field, signature_field
from maas_gateway.confinement.conversation import Sink
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.inference.conversion.answer import Conversion
from maas_gateway.registry.publishers import MAX_KEYS
from maas_gateway.registry.tables import ARTIFACTS, MODEL_VERSIONS, PUBLISHER_KEYS, PUBLISHING_RULES

pytestmark = pytest.mark.anyio

A = "/admin/v1"
PATH = f"{A}/models/bc/versions/1"


async def _registered(world: World, slug: str, pen: Pen, name: str = "release") -> Pen:
    headers = await world.headers(world.owners[slug])
    body = {"name": name, "pem": pen.pem}
    answer = await world.http.post(f"{A}/publisher-keys", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["key_id"] == pen.key_id
    return pen


async def _require(world: World, slug: str, *, signed: bool) -> None:
    headers = await world.headers(world.owners[slug])
    body = {"requires_signature": signed}
    answer = await world.http.put(f"{A}/publishing-rules", json=body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {**body, "requires_second_person": False})


async def _put(
    world: World, content: bytes, fields: dict[str, str] | None = None, *, slug: str = "acme", path: str = PATH
) -> tuple[int, dict[str, Any]]:
    headers = await world.headers(world.owners[slug])
    answer = await world.http.put(path, content=content, headers={**headers, **(fields or {})})
    return answer.status_code, answer.json()


async def _n_rows(world: World) -> tuple[int, ...]:
    """Return how many versions, artifacts, blobs, publisher keys and rules there are."""
    tables = (MODEL_VERSIONS, ARTIFACTS, PUBLISHER_KEYS, PUBLISHING_RULES)
    database = Database(world.settings.main_url, CHANGES)
    async with database.connection(is_write=False) as connection:
        counted = [(await connection.execute(sa.select(sa.func.count()).select_from(t))).scalar_one() for t in tables]
    await database.close()
    return (*counted[:2], len(list((world.settings.data_dir / "blobs").glob("??/*"))), *counted[2:])


@POSTGRES_SLOWLY
@pytest.mark.parametrize("form", ["DER", "DER, naming no key", "r ‖ s", "bundle"])
async def test_signed_upload_says_who_signed_it(tmp_path: Path, database_url: str, demo: DemoModel, form: str) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        await world.tenant("acme")
        convert_as_before(world, demo)
        await _registered(world, "acme", Pen(), "other")
        pen = await _registered(world, "acme", Pen())
        archive = demo.seed.archive
        fields = {
            "DER": signature_field(pen.der(archive), pen.key_id),
            "DER, naming no key": signature_field(pen.der(archive)),
            "r ‖ s": signature_field(pen.raw(archive), pen.key_id),
            "bundle": bundle_field(pen.bundle(archive)),
        }[form]
        status, body = await _put(world, archive, fields)
        assert status == 201, body
        said = {
            "key_id": pen.key_id,
            "name": "release",
            "form": "openssf-bundle" if form == "bundle" else "es256",
        }
        assert body["publisher"] == said
        owner = await world.principal(world.owners["acme"])
        (version,) = (await world.gateway.browse.model(owner, "bc")).versions
        manifest = await world.gateway.upload._artifacts.manifest(version)
        sent = next(iter(fields.values())).partition(":")[2].partition(":")[0]
        assert manifest["publisher"] == {**said, "signature": sent}
        (event,) = [
            e for e in await world.gateway.browse.events(owner, after=0, limit=99) if "uploaded" in e.event.kind
        ]
        assert event.event.detail["publisher"] == pen.key_id
        await _serves(world, demo)


async def _serves(world: World, demo: DemoModel) -> None:
    headers = await world.headers(world.owners["acme"])
    assert (await world.http.post(f"{PATH}:promote", headers=headers)).status_code == 200
    row = {"instances": [list(demo.seed.example)]}
    assert (await world.http.post("/v1/models/bc:predict", json=row, headers=headers)).status_code == 200


async def test_unsigned_upload_is_taken_while_nobody_demands_a_signature(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        convert_as_before(world, demo)
        await _registered(world, "acme", Pen())
        status, body = await _put(world, demo.seed.archive)
        assert (status, body["publisher"]) == (201, None)
        headers = await world.headers(world.owners["acme"])
        rules = await world.http.get(f"{A}/publishing-rules", headers=headers)
        assert rules.json() == {"requires_signature": False, "requires_second_person": False}


async def test_bad_signature_is_refused_before_anything_looks_into_the_file(tmp_path: Path) -> None:
    """The body is no model at all: what is said is of the signature."""
    body = b"no model"
    async with running_gateway(tmp_path) as world:
        await world.tenants("acme", "globex")
        pen = await _registered(world, "acme", Pen())
        foreign = await _registered(world, "globex", Pen())
        unknown = Pen()
        altered = pen.bundle(body)
        altered["dsseEnvelope"]["payload"] = unknown.bundle(b"other")["dsseEnvelope"]["payload"]
        cases = {
            "an unknown key": (signature_field(unknown.der(body), unknown.key_id), "not registered"),
            "an unknown key that is not named": (signature_field(unknown.der(body)), "does not verify"),
            "another tenant's key": (signature_field(foreign.der(body), foreign.key_id), "not registered"),
            "another tenant's key, named as ours": (signature_field(foreign.der(body), pen.key_id), "does not verify"),
            "another file": (signature_field(pen.der(b"other"), pen.key_id), "does not verify"),
            "noise": (signature_field(b"\x00" * 71), "does not verify"),
            "nothing": (signature_field(b""), "does not verify"),
            "a bundle of an unknown key": (bundle_field(unknown.bundle(body)), "not registered"),
            "a bundle of another tenant": (bundle_field(foreign.bundle(body)), "not registered"),
            "a bundle of another file": (bundle_field(pen.bundle(b"other")), "of another file"),
            "an altered bundle": (bundle_field(altered), "does not verify"),
            "no bundle": (bundle_field("x"), "no JSON object"),
        }
        for name, (fields, sentence) in cases.items():
            status, problem = await _put(world, body, fields)
            assert (status, problem["type"]) == (422, "/problems/artifact-refused"), name
            assert sentence in problem["detail"], name
        status, problem = await _put(world, body, signature_field(pen.der(body)))
        assert status == 422
        assert "signature" not in problem["detail"]
        assert await _n_rows(world) == (0, 0, 0, 2, 0)


async def test_malformed_signature_field_is_a_bad_request(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        good = signature_field(b"x")["model-signature"]
        for fields in (
            {"model-signature": ""},
            {"model-signature": "abc"},
            {"model-signature": 'keyid="x"'},
            {"model-signature": 'sig="x"'},
            {"model-signature": f"{good}, keyid=:eA==:"},
            {"model-signature": f'{good}, alg="none"'},
            {"model-signature": f"{good}, {good}"},
            {"model-signature-bundle": "abc"},
            {"model-signature-bundle": '"abc"'},
            {"model-signature-bundle": ":eA==:, :eA==:"},
            {"model-signature": good, "model-signature-bundle": ":eA==:"},
        ):
            status, problem = await _put(world, b"no model", fields)
            assert (status, problem["type"]) == (400, "/problems/invalid-request"), fields
            assert "Model-Signature" in problem["detail"], fields
        headers = await world.headers(world.owners["acme"])
        twice = [*headers.items(), ("model-signature", good), ("model-signature", good)]
        assert (await world.http.put(PATH, content=b"no model", headers=twice)).status_code == 400


async def test_removed_key_verifies_nothing_any_more_and_what_it_verified_stays(
    tmp_path: Path, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        convert_as_before(world, demo)
        pen = await _registered(world, "acme", Pen())
        fields = signature_field(pen.der(demo.seed.archive), pen.key_id)
        assert (await _put(world, demo.seed.archive, fields))[0] == 201
        headers = await world.headers(world.owners["acme"])
        path = f"{A}/publisher-keys/{pen.key_id}"
        assert (await world.http.delete(path, headers=headers)).status_code == 204
        assert (await world.http.delete(path, headers=headers)).status_code == 404
        for number in (1, 2):  # also where it would be the same upload again
            status, problem = await _put(world, demo.seed.archive, fields, path=f"{A}/models/bc/versions/{number}")
            assert (status, "not registered" in problem["detail"]) == (422, True)
        version = (await world.http.get(PATH, headers=headers)).json()
        assert version["publisher"]["key_id"] == pen.key_id
        await _serves(world, demo)


async def test_tenant_that_demands_signatures_takes_no_unsigned_upload(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenants("acme", "globex")
        convert_as_before(world, demo)
        pen = await _registered(world, "acme", Pen())
        await published_model(world, "acme", "before", demo)
        await _require(world, "acme", signed=True)
        status, problem = await _put(world, demo.seed.archive)
        assert (status, problem["type"]) == (422, "/problems/artifact-refused")
        assert "openssl dgst -sha256 -sign key.pem -out model.sig" in problem["detail"]
        assert (await _put(world, demo.seed.archive, slug="globex"))[0] == 201
        signed = signature_field(pen.der(demo.seed.archive))
        assert (await _put(world, demo.seed.archive, signed))[0] == 201
        headers = await world.headers(world.owners["acme"])
        row = {"instances": [list(demo.seed.example)]}
        assert (await world.http.post("/v1/models/before:predict", json=row, headers=headers)).status_code == 200
        await _require(world, "acme", signed=False)
        assert (await _put(world, demo.seed.archive, path=f"{A}/models/bc/versions/2"))[0] == 201


async def test_rule_and_keys_are_in_force_in_every_process_at_once(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        await world.tenant("acme")
        async with joined_gateway(world) as elsewhere:
            for process in (world, elsewhere):
                convert_as_before(process, demo)
            await _require(world, "acme", signed=True)
            assert (await _put(elsewhere, demo.seed.archive))[0] == 422
            pen = await _registered(world, "acme", Pen())
            signed = signature_field(pen.der(demo.seed.archive), pen.key_id)
            assert (await _put(elsewhere, demo.seed.archive, signed))[0] == 201
            headers = await world.headers(world.owners["acme"])
            await world.http.delete(f"{A}/publisher-keys/{pen.key_id}", headers=headers)
            assert (await _put(elsewhere, demo.seed.archive, signed))[0] == 422
            await _require(elsewhere, "acme", signed=False)
            assert (await _put(world, demo.seed.archive))[0] == 200


@pytest.mark.parametrize("change", ["its key is removed", "a signature is demanded"])
async def test_upload_is_refused_if_while_it_is_converted(tmp_path: Path, demo: DemoModel, change: str) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        pen = await _registered(world, "acme", Pen())
        headers = await world.headers(world.owners["acme"])
        is_signed = change == "its key is removed"

        async def convert(
            form: str, upload: AsyncIterator[bytes], *, size_bytes: int, sink: Sink, sample: bytes = b""
        ) -> Conversion:
            assert (form, sum([len(piece) async for piece in upload])) == ("keras", size_bytes)
            await sink(demo.made.payload)
            if is_signed:
                await world.http.delete(f"{A}/publisher-keys/{pen.key_id}", headers=headers)
            else:
                await _require(world, "acme", signed=True)
            return demo.made.conversion

        world.gateway.upload._examiner._convert = convert
        signed = signature_field(pen.der(demo.seed.archive)) if is_signed else None
        status, problem = await _put(world, demo.seed.archive, signed)
        assert (status, problem["type"]) == (422, "/problems/artifact-refused")
        assert (await _n_rows(world))[:3] == (0, 0, 0)


async def test_version_whose_row_names_another_publisher_is_not_served(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        convert_as_before(world, demo)
        pen = await _registered(world, "acme", Pen())
        assert (await _put(world, demo.seed.archive, signature_field(pen.der(demo.seed.archive))))[0] == 201
        database = Database(world.settings.main_url, CHANGES)
        async with database.connection(is_write=True) as connection:
            row = (await connection.execute(sa.select(MODEL_VERSIONS.c.publisher))).scalar_one()
            await connection.execute(sa.update(MODEL_VERSIONS).values(publisher={**row, "name": "somebody"}))
        await database.close()
        headers = await world.headers(world.owners["acme"])
        await world.http.post(f"{PATH}:promote", headers=headers)
        body = {"instances": [list(demo.seed.example)]}
        assert (await world.http.post("/v1/models/bc:predict", json=body, headers=headers)).status_code == 503


# --- the keys ------------------------------------------------------------------------------------


async def test_key_is_registered_listed_and_removed_on_record(tmp_path: Path, database_url: str) -> None:
    async with running_gateway(tmp_path, database_url) as world:
        await world.tenants("acme", "globex")
        headers = await world.headers(world.owners["acme"])
        first, second = Pen(), Pen()
        jwk = {**first.jwk, "kid": "mine", "use": "sig", "alg": "ES256"}
        answer = await world.http.post(f"{A}/publisher-keys", json={"name": "ada", "jwk": jwk}, headers=headers)
        assert (answer.status_code, answer.headers["location"]) == (201, f"{A}/publisher-keys/{first.key_id}")
        assert {**answer.json(), "created_at": ""} == {
            "key_id": first.key_id,
            "name": "ada",
            "jwk": first.jwk,
            "created_at": "",
        }
        await _registered(world, "acme", second, "bob")
        await _registered(world, "globex", first, "ada")  # what is taken is taken in one tenant only
        listed = (await world.http.get(f"{A}/publisher-keys", headers=headers)).json()["publisher_keys"]
        assert [key["name"] for key in listed] == ["ada", "bob"]
        assert (await world.http.delete(f"{A}/publisher-keys/{first.key_id}", headers=headers)).status_code == 204
        await _require(world, "acme", signed=True)
        stranger = await world.headers(world.owners["globex"])
        assert len((await world.http.get(f"{A}/publisher-keys", headers=stranger)).json()["publisher_keys"]) == 1
        owner = await world.principal(world.owners["acme"])
        events = [record.event for record in await world.gateway.browse.events(owner, after=0, limit=99)]
        assert [(e.kind, e.thing, dict(e.detail)) for e in events if e.kind.startswith("publish")] == [
            ("publisher-key.added", f"publisher key {first.key_id}", {"name": "ada"}),
            ("publisher-key.added", f"publisher key {second.key_id}", {"name": "bob"}),
            ("publisher-key.removed", f"publisher key {first.key_id}", {}),
            ("publishing-rules.set", "publishing rules", {"requires_signature": True}),
        ]


async def test_key_is_refused(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        pen, other = await _registered(world, "acme", Pen()), Pen()
        headers = await world.headers(world.owners["acme"])
        private = {**other.jwk, "d": "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}
        cases: list[tuple[dict[str, Any], int, str]] = [
            ({"name": "x"}, 400, "one of jwk and pem"),
            ({"name": "x", "pem": other.pem, "jwk": other.jwk}, 400, "one of jwk and pem"),
            ({"name": "x", "pem": other.private_pem}, 400, "pem: this is a private key"),
            ({"name": "x", "jwk": private}, 400, "jwk: this is a private key"),
            ({"name": "x", "pem": "x"}, 400, "pem: one public key"),
            ({"name": "x", "pem": "x" * 5_000}, 400, "pem: "),
            ({"name": "x", "jwk": {}}, 400, "jwk: not a P-256 key"),
            ({"name": "x", "jwk": {**other.jwk, "x": 5}}, 400, "jwk: a coordinate"),
            ({"name": "X", "pem": other.pem}, 400, "name: "),
            ({"pem": other.pem}, 400, "name: "),
            ({"name": "x", "pem": other.pem, "tenant": "globex"}, 400, "tenant: there is no such field"),
            ({"name": "release", "pem": other.pem}, 409, "'release'"),
            ({"name": "again", "pem": pen.pem}, 409, "registered already, as 'release'"),
        ]
        for body, status, sentence in cases:
            answer = await world.http.post(f"{A}/publisher-keys", json=body, headers=headers)
            assert (answer.status_code, sentence in answer.json()["detail"]) == (status, True), answer.text
            assert "PRIVATE" not in answer.text
            assert private["d"] not in answer.text
        for n in range(MAX_KEYS - 1):
            await _registered(world, "acme", Pen(), f"n{n}")
        answer = await world.http.post(f"{A}/publisher-keys", json={"name": "x", "pem": other.pem}, headers=headers)
        assert (answer.status_code, "at most" in answer.json()["detail"]) == (409, True)
        for body in ({}, {"requires_signature": "yes"}, {"requires_signature": True, "more": 1}):
            answer = await world.http.put(f"{A}/publishing-rules", content=json.dumps(body), headers=headers)
            assert answer.status_code == 400, answer.text


async def test_only_an_owner_says_whose_signatures_are_taken(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenant("acme")
        pen = await _registered(world, "acme", Pen())
        roles = ("publisher", "invoker", "auditor", "key-custodian")
        callers = [*[await world.service("acme", role) for role in roles], world.operator]
        body = {"name": "x", "pem": Pen().pem}
        for caller in callers:
            headers = await world.headers(caller)
            for method, path, sent, status in (
                ("GET", "publisher-keys", None, 403),
                ("POST", "publisher-keys", body, 403),
                ("DELETE", f"publisher-keys/{pen.key_id}", None, 404),
                ("DELETE", "publisher-keys/none", None, 404),
                ("GET", "publishing-rules", None, 403),
                ("PUT", "publishing-rules", {"requires_signature": False}, 403),
            ):
                answer = await world.http.request(method, f"{A}/{path}", json=sent, headers=headers)
                assert answer.status_code == status, (caller.name, method, path)
        assert (await _n_rows(world))[3:] == (1, 0)
        reader = await world.headers(world.owners["acme"], "policy:read")
        assert (await world.http.get(f"{A}/publisher-keys", headers=reader)).status_code == 200
        assert (await world.http.delete(f"{A}/publisher-keys/{pen.key_id}", headers=reader)).status_code == 403


async def test_erased_tenant_leaves_no_key_and_no_rule(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        await world.tenants("acme", "globex")
        for slug in ("acme", "globex"):
            await _registered(world, slug, Pen())
            await _require(world, slug, signed=True)
        answer = await world.http.post(f"{A}/tenants/acme:erase", headers=await world.headers(world.operator))
        assert answer.json()["state"] == "succeeded", answer.text
        assert (await _n_rows(world))[3:] == (1, 1)
