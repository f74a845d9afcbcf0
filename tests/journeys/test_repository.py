"""The model repository extension over REST and over gRPC: the index, loading, unloading."""

from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from builders.gateways import World, running_gateway
from builders.grpc_clients import calling, running_grpc
from builders.models import (
    DemoModel,
    published_model,
    quarantined_model,
    refused_by_todays_rules,
    uploaded_model,
)
from maas_gateway.identifiers import ModelRef

pytestmark = pytest.mark.anyio

INDEX = "/v2/repository/index"
UNKNOWN = "Request for unknown model: 'nope' is not found"
READY_1 = {"name": "bc", "version": "1", "state": "READY", "reason": ""}
UNLOADED_1 = {**READY_1, "state": "UNAVAILABLE", "reason": "unloaded"}
READY_2 = {**READY_1, "version": "2"}


class _REST:
    """An owner of models, over REST."""

    def __init__(self, world: World, headers: dict[str, str]) -> None:
        self._world = world
        self._headers = headers

    async def post(self, path: str, body: Any = b"") -> httpx.Response:
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        return await self._world.http.post(path, headers=self._headers, **sent)

    async def index(self, body: Any = b"") -> list[dict[str, str]]:
        answer = await self.post(INDEX, body)
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    async def change(self, verb: str, model: str = "bc", **parameters: Any) -> tuple[int, str]:
        answer = await self.post(f"/v2/repository/models/{model}/{verb}", {"parameters": parameters})
        return answer.status_code, answer.json().get("error", "")

    async def version(self) -> str | None:
        answer = await self._world.http.get("/v2/models/bc", headers=self._headers)
        return answer.json()["versions"][-1] if answer.status_code == 200 else None


async def _rest(world: World, demo: DemoModel, role: str = "publisher") -> _REST:
    await world.tenant("acme")
    for version in (1, 2):
        await uploaded_model(world, "acme", "bc", demo, version=version)
    return _REST(world, await world.headers(await world.service("acme", role)))


async def test_a_model_is_loaded_and_unloaded_and_the_index_follows_at_once(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await _rest(world, demo)
        assert await owner.index() == [], "what has never served is not listed"
        assert await owner.change("load", version="1") == (200, "")
        assert await owner.index() == [READY_1]
        assert await owner.change("load") == (200, ""), "the newest"
        assert await owner.change("load") == (200, ""), "again"
        assert (await owner.version(), await owner.index()) == ("2", [READY_2, READY_1])
        assert await owner.change("unload", unload_dependents=True) == (200, "")
        assert await owner.change("unload") == (200, ""), "again"
        assert (await owner.version(), await owner.index({"ready": True})) == (None, [])
        assert await owner.index({"ready": False}) == [{**UNLOADED_1, "version": "2"}, UNLOADED_1]
        assert (await owner.post("/v2/repository/models/bc/load")).json() == {"name": "bc", "load": True}
        assert (await owner.post("/v2/repository/models/bc/unload")).json() == {"name": "bc", "unload": True}
        assert await owner.change("load", version=1) == (200, "")
        assert await owner.version() == "1"
        headers = await world.headers(world.owners["acme"])
        events = (await world.http.get("/admin/v1/audit/events?limit=50", headers=headers)).json()["events"]
        acts = [(e["kind"], e["thing"]) for e in events if e["kind"] in {"model.promoted", "model.retired"}]
        promoted = [f"model bc/versions/{n}" for n in (1, 1, 2, 2)]
        assert sorted(thing for kind, thing in acts if kind == "model.promoted") == promoted, acts
        assert len(acts) == len(promoted) + 3, "nothing is recorded where nothing is done"


BAD: list[tuple[str, str, Any, int, str]] = [
    ("index", "no JSON", b"{", 400, "the body is not JSON"),
    ("index", "a list", [1], 400, "must be a JSON object"),
    ("index", "ready is a text", {"ready": "yes"}, 400, "'ready' must be a boolean and is of type String"),
    ("load", "parameters are a list", {"parameters": [1]}, 400, "'parameters' must be a JSON object"),
    ("load", "a configuration", {"parameters": {"config": "{}"}}, 400, "'config' is refused"),
    (
        "load",
        "a file",
        {"parameters": {"file:1/model.onnx": "AA=="}},
        400,
        "'file:1/model.onnx' is refused: models enter",
    ),
    ("load", "another parameter", {"parameters": {"x": 1}}, 400, "parameter 'x' is unknown: this takes 'version'"),
    ("load", "no number", {"parameters": {"version": "one"}}, 400, "'version' must be a version's number"),
    ("load", "true", {"parameters": {"version": True}}, 400, "'version' must be a version's number"),
    ("load", "zero", {"parameters": {"version": 0}}, 400, "'version' must be a version's number"),
    ("load", "no such version", {"parameters": {"version": 9}}, 404, "Request for unknown model: 'bc' is not found"),
    ("unload", "another parameter", {"parameters": {"x": 1}}, 400, "parameter 'x' is unknown"),
    ("unload", "no boolean", {"parameters": {"unload_dependents": 1}}, 400, "'unload_dependents' must be a boolean"),
]


async def test_what_is_asked_wrongly_is_refused_in_a_sentence_that_names_it(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await _rest(world, demo)
        for verb, name, body, status, says in BAD:
            answer = await owner.post(INDEX if verb == "index" else f"/v2/repository/models/bc/{verb}", body)
            assert (answer.status_code, says in answer.json()["error"]) == (status, True), (name, answer.text)
        for verb in ("load", "unload"):
            assert await owner.change(verb, "nope") == (404, UNKNOWN)
            answer = await world.http.get(f"/v2/repository/models/bc/{verb}", headers=owner._headers)
            assert answer.status_code == 405
        answer = await owner.post("/v2/repository/index", b" " * (1 << 20) + b"{}")
        assert answer.status_code == 413
        assert (await owner.post("/v2/repository/models/bc")).status_code == 404


async def test_loading_keeps_to_the_rules_of_promotion(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await _rest(world, demo)
        assert await owner.change("load") == (200, "")
        headers = await world.headers(world.owners["acme"])
        answer = await world.http.put("/admin/v1/models/bc/labels/stable", headers=headers, json={"version": 2})
        assert answer.status_code == 200
        await owner.change("load", version=1)
        status, says = await owner.change("unload")
        assert (status, says) == (409, "label 'stable' points at version 2; move or delete it first")
        assert await owner.index({"ready": True}) == [READY_2, READY_1], "all go on serving"
        await quarantined_model(world, "acme", "bc", demo, version=3)
        status, says = await owner.change("load")
        assert (status, "quarantined and waits for a person" in says) == (409, True)
        invoker = _REST(world, await world.headers(await world.service("acme", "invoker")))
        for verb in ("load", "unload"):
            status, says = await invoker.change(verb)
            assert (status, says) == (403, "this needs the permission model:promote on model 'bc'")
        await world.tenant("globex")
        stranger = _REST(world, await world.headers(world.owners["globex"]))
        assert await stranger.index() == []
        for verb in ("load", "unload"):
            assert await stranger.change(verb) == (404, UNKNOWN.replace("nope", "bc"))


async def test_loading_says_why_where_the_version_cannot_be_had_in_memory(tmp_path: Path, demo: DemoModel) -> None:
    async with running_gateway(tmp_path) as world:
        owner = await _rest(world, demo)
        await refused_by_todays_rules(world, "acme", ModelRef("bc", 2))
        status, says = await owner.change("load")
        assert (status, says.startswith("model 'bc/versions/2' is promoted and not ready: ")) == (503, True), says
        (row,) = await owner.index()
        assert (row["version"], row["state"], says.endswith(row["reason"])) == ("2", "UNAVAILABLE", True)
        assert row["reason"] not in {"", "unloaded"}
        assert await owner.index({"ready": True}) == []


async def test_the_same_is_done_over_grpc(tmp_path: Path, demo: DemoModel) -> None:
    async with running_grpc(tmp_path) as world, calling(world) as ask:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        await uploaded_model(world, "acme", "bc", demo, version=2)
        metadata = (("authorization", f"Bearer {await world.token(world.owners['acme'])}"),)

        async def states(**asked: Any) -> list[tuple[str, str, str]]:
            rows = (await ask("RepositoryIndex", asked, metadata=metadata)).models
            return [(row.version, row.state, row.reason) for row in rows]

        async def refused(method: str, asked: dict[str, Any]) -> tuple[str, str]:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await ask(method, asked, metadata=metadata)
            return caught.value.code().name, str(caught.value.details())

        await ask("RepositoryModelUnload", {"model_name": "bc"}, metadata=metadata)
        assert await states() == [("1", "UNAVAILABLE", "unloaded")]
        for version in ({"int64_param": 1}, {"string_param": "2"}):
            asked = {"model_name": "bc", "parameters": {"version": version}}
            await ask("RepositoryModelLoad", asked, metadata=metadata)
        assert await states(ready=True) == [("2", "READY", ""), ("1", "READY", "")]
        for name, value in (("config", {"string_param": "{}"}), ("file:1/m", {"bytes_param": "AA=="})):
            code, says = await refused("RepositoryModelLoad", {"model_name": "bc", "parameters": {name: value}})
            assert (code, f"'{name}' is refused" in says) == ("INVALID_ARGUMENT", True)
        for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
            assert await refused(method, {"model_name": "nope"}) == ("NOT_FOUND", UNKNOWN)
            code, _ = await refused(method, {"model_name": "bc", "repository_name": "x"})
            assert code == "UNIMPLEMENTED"
