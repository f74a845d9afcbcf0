"""Root keys at external holders: made there, moved there, and what goes on while a holder is down."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builders.gateways import World, joined_gateway, running_gateway
from builders.models import DemoModel, published_model, uploaded_model
from key_services import REGION, moto
from simulators.transit import Mode, TransitServer, TransitSimulator, serving

pytestmark = pytest.mark.anyio

TOKEN = "s.journey"


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransitServer]:
    with serving(tmp_path_factory.mktemp("transit")) as server:
        yield server


@pytest.fixture
def transit(_server: TransitServer) -> TransitSimulator:
    return _server.put(TransitSimulator())


@pytest.fixture
def kms_url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    emulator = moto()
    try:
        emulator.wait_until_ready()
        yield emulator.url
    finally:
        emulator.close()


def transit_settings(folder: Path, transit: TransitSimulator, **keys: Any) -> dict[str, Any]:
    token_file = folder / "token"
    token_file.write_text(transit.token)
    token_file.chmod(0o600)
    return {"transit": {"url": transit.url, "token_file": token_file}, "keys": {"deadline_s": 1.0, **keys}}


def passphrase_settings(folder: Path) -> dict[str, Any]:
    file = folder / "passphrase"
    file.write_text("correct horse battery staple\n")
    file.chmod(0o600)
    return {"keys": {"passphrase_file": file, "deadline_s": 30}}


async def _post(world: World, path: str, **more: Any) -> Any:
    answer = await world.http.post(f"/admin/v1/{path}", headers=await world.headers(world.operator), **more)
    return answer.status_code, answer.json()


async def _predict(world: World, demo: DemoModel, model: str = "bc") -> Any:
    body = {"instances": [list(demo.seed.example)]}
    headers = await world.headers(world.owners["acme"])
    return await world.http.post(f"/v1/models/{model}:predict", json=body, headers=headers)


async def _moved(world: World, holder: str) -> None:
    status, operation = await _post(world, f"keyrings/root:rotate?holder={holder}")
    assert status == 200, operation
    while operation["state"] == "running":
        await asyncio.sleep(0.1)
        path = f"/admin/v1/operations/{operation['id']}"
        operation = (await world.http.get(path, headers=await world.headers(world.operator))).json()
    assert operation["state"] == "succeeded", operation


async def _ended(world: World, version: int) -> Any:
    for verb in ("retire", "destroy"):
        status, ring = await _post(world, f"keyrings/root/versions/{version}:{verb}")
        assert status == 200, ring
    return ring


async def _there_and_back(folder: Path, demo: DemoModel, holder: str, settings: dict[str, Any]) -> None:
    async with running_gateway(folder, **settings) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        await _moved(world, holder)
        ring = await _ended(world, 1)
        assert [(v["state"], v["holder"]) for v in ring["versions"]] == [("destroyed", "file"), ("primary", holder)]
        async with joined_gateway(world) as restarted:
            assert (await _predict(restarted, demo)).status_code == 200
        await _moved(world, "file")
        async with joined_gateway(world) as restarted:
            assert (await _predict(restarted, demo)).status_code == 200


async def test_root_key_moves_to_transit_and_back(tmp_path: Path, demo: DemoModel, transit: TransitSimulator) -> None:
    await _there_and_back(tmp_path, demo, "transit", transit_settings(tmp_path, transit))


async def test_root_key_moves_to_kms_and_back(tmp_path: Path, demo: DemoModel, kms_url: str) -> None:
    settings = {"kms": {"region": REGION, "endpoint_url": kms_url}, "keys": {"deadline_s": 20}}
    await _there_and_back(tmp_path, demo, "kms", settings)


async def test_root_key_moves_to_a_passphrase_and_back(tmp_path: Path, demo: DemoModel) -> None:
    await _there_and_back(tmp_path, demo, "passphrase", passphrase_settings(tmp_path))


async def test_gateway_whose_root_key_was_never_in_a_file_starts_again(
    tmp_path: Path, demo: DemoModel, transit: TransitSimulator
) -> None:
    async with running_gateway(tmp_path, **transit_settings(tmp_path, transit, holder="transit")) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        assert not world.settings.root_file.exists()
        async with joined_gateway(world) as restarted:
            assert (await _predict(restarted, demo)).status_code == 200


async def test_while_the_holder_is_down_what_is_loaded_serves_and_what_needs_the_key_says_why(
    tmp_path: Path, demo: DemoModel, transit: TransitSimulator
) -> None:
    async with running_gateway(tmp_path, **transit_settings(tmp_path, transit, holder="transit")) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        await uploaded_model(world, "acme", "cold", demo)
        assert (await _predict(world, demo)).status_code == 200
        tokens = {who: await world.headers(world.owners["acme"]) for who in ("acme",)}
        world.gateway.erase._stores.keyring.forget()  # as any change of a ring makes every process do
        transit.mode = Mode.SEALED
        body = {"instances": [list(demo.seed.example)]}
        for _ in range(3):
            answer = await world.http.post("/v1/models/bc:predict", json=body, headers=tokens["acme"])
            assert answer.status_code == 200, answer.text
        promoted = await world.http.post("/admin/v1/models/cold/versions/1:promote", headers=tokens["acme"])
        assert promoted.status_code == 200
        refused = await world.http.post("/v1/models/cold:predict", json=body, headers=tokens["acme"])
        assert refused.status_code == 503
        assert "holder" in refused.json()["error"] or "Transit" in refused.json()["error"], refused.text
        transit.mode = Mode.USUAL
        for _ in range(150):
            answer = await world.http.post("/v1/models/cold:predict", json=body, headers=tokens["acme"])
            if answer.status_code == 200:
                break
            await asyncio.sleep(0.1)
        assert answer.status_code == 200, answer.text


async def test_gateway_starts_while_its_holder_is_down_and_serves_once_it_is_back(
    tmp_path: Path, demo: DemoModel, transit: TransitSimulator
) -> None:
    async with running_gateway(tmp_path, **transit_settings(tmp_path, transit, holder="transit")) as world:
        await world.tenant("acme")
        await published_model(world, "acme", "bc", demo)
        headers = await world.headers(world.owners["acme"])
    transit.mode = Mode.SEALED
    async with joined_gateway(world) as restarted:
        body = {"instances": [list(demo.seed.example)]}
        answer = await restarted.http.post("/v1/models/bc:predict", json=body, headers=headers)
        assert answer.status_code == 503
        transit.mode = Mode.USUAL
        for _ in range(150):
            answer = await restarted.http.post("/v1/models/bc:predict", json=body, headers=headers)
            if answer.status_code == 200:
                return
            await asyncio.sleep(0.1)
    raise AssertionError(answer.text)


async def test_moving_to_a_holder_that_is_not_configured_is_refused_and_names_those_that_are(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as world:
        status, problem = await _post(world, "keyrings/root:rotate?holder=kms")
        assert (status, problem["detail"]) == (400, "holder: 'kms' is not configured; there are file")
