"""Kill -9 during an upload, a rotation and a promotion, then start: everything is as before or as after."""

import asyncio
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from builders.gateways import Account, World, running_gateway
from builders.models import DemoModel, published_model, refused_by_todays_rules, uploaded_model
from builders.processes import Served, serving
from maas_gateway.clock import SystemClock
from maas_gateway.crypto.envelope import DataKey, wrap_data_key
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import KEYS_CHANGES
from maas_gateway.identifiers import ModelRef
from maas_gateway.keyring import store
from maas_gateway.keyring.key import Purpose
from maas_gateway.place import open_keyring

N_DATA_KEYS = 3_000
N_VERSIONS = 24
REFUSED_NOW = (2, 13, 20)
RESUMED_WITHIN_S = 40.0


def _slow(*moment: object) -> Any:
    """Leave a moment to `make test-slow`."""
    return pytest.param(*moment, marks=pytest.mark.slow)


@dataclass(frozen=True)
class Place:
    """A prepared gateway at rest."""

    data_dir: Path
    owner: Account
    operator: Account
    body: dict[str, Any]

    def predict(self, served: Served, headers: dict[str, str], model: str = "bc") -> httpx.Response:
        return httpx.post(f"{served.url}/v1/models/{model}:predict", json=self.body, headers=headers, timeout=30)


def _prepared(folder: Path, demo: DemoModel, prepare: Callable[[World], Any]) -> Place:
    async def story() -> Place:
        async with running_gateway(folder) as world:
            await world.tenant("acme")
            await prepare(world)
            body = {"instances": [list(demo.seed.example)]}
            return Place(world.settings.data_dir, world.owners["acme"], world.operator, body)

    return asyncio.run(story())


def _in_background(call: Callable[[], Any]) -> None:
    def work() -> None:
        with suppress(httpx.HTTPError):
            call()

    threading.Thread(target=work, daemon=True).start()


@pytest.mark.parametrize("moment", [_slow(0.3), _slow(2.0), _slow("the first blob"), "the last blob"], ids=str)
def test_an_upload_that_was_killed_is_whole_or_never_was(tmp_path: Path, demo: DemoModel, moment: float | str) -> None:
    async def nothing(_world: World) -> None:
        return

    place = _prepared(tmp_path, demo, nothing)
    path = "/admin/v1/models/bc/versions/1"
    blobs = place.data_dir / "blobs"
    with serving(place.data_dir) as served:
        headers = served.headers(place.owner)
        content = demo.seed.archive
        _in_background(
            lambda: httpx.put(f"{served.url}{path}?format=keras", content=content, headers=headers, timeout=60)
        )
        if isinstance(moment, float):
            time.sleep(moment)
        else:
            wanted = 1 if moment == "the first blob" else 2
            deadline = time.monotonic() + 60
            while len(list(blobs.glob("??/*"))) < wanted and time.monotonic() < deadline:
                time.sleep(0.0005)
        served.kill()
    with serving(place.data_dir) as served:
        headers = served.headers(place.owner)
        found = httpx.get(f"{served.url}{path}", headers=headers, timeout=30)
        assert found.status_code in {200, 404}
        if found.status_code == 404:  # as before: the same upload is taken
            put = httpx.put(f"{served.url}{path}?format=keras", content=content, headers=headers, timeout=90)
            assert put.status_code == 201, put.text
        assert httpx.post(f"{served.url}{path}:promote", headers=headers, timeout=30).status_code == 200
        assert place.predict(served, headers).status_code == 200


@pytest.mark.parametrize(
    ("purpose", "after_s"),
    [
        ("artifacts", 0.5),
        *(_slow("artifacts", after_s) for after_s in (0.0, 0.1, 0.25)),
        *(_slow("root", after_s) for after_s in (0.0, 0.1, 0.25, 0.5)),
    ],
)
def test_a_rotation_that_was_killed_is_taken_up_and_finished(
    tmp_path: Path, demo: DemoModel, purpose: str, after_s: float
) -> None:
    async def prepare(world: World) -> None:
        await published_model(world, "acme", "bc", demo)
        await _many_data_keys(world)

    place = _prepared(tmp_path, demo, prepare)
    who = place.owner if purpose == "artifacts" else place.operator
    with serving(place.data_dir) as served:
        headers = served.headers(who)
        _in_background(
            lambda: httpx.post(f"{served.url}/admin/v1/keyrings/{purpose}:rotate", headers=headers, timeout=30)
        )
        time.sleep(after_s)
        served.kill()
    with serving(place.data_dir) as served:
        invoker = served.headers(place.owner)
        assert place.predict(served, invoker).status_code == 200
        headers = served.headers(who)
        deadline = time.monotonic() + RESUMED_WITHIN_S
        while time.monotonic() < deadline:
            ring = httpx.get(f"{served.url}/admin/v1/keyrings/{purpose}", headers=headers, timeout=30).json()
            states = [version["state"] for version in ring["versions"]]
            in_old = sum(version["uses"] for version in ring["versions"] if version["state"] != "primary")
            if states in (["primary"], ["enabled", "primary"]) and in_old == 0:
                break
            time.sleep(0.5)
        else:
            raise AssertionError(f"neither before nor after: {ring}")
        assert place.predict(served, invoker).status_code == 200
        again = httpx.post(f"{served.url}/admin/v1/keyrings/{purpose}:rotate", headers=headers, timeout=30)
        assert again.status_code in {200, 409}, again.text  # 409 while the taken-up one is being closed


@pytest.mark.parametrize("after_s", [_slow(0.02), 0.06, _slow(0.2)])
def test_a_resealing_that_was_killed_is_taken_up_and_serves_all_the_while(
    tmp_path: Path, demo: DemoModel, after_s: float
) -> None:
    async def prepare(world: World) -> None:
        for version in (1, 2):
            await published_model(world, "acme", "bc", demo, version=version)

    place = _prepared(tmp_path, demo, prepare)
    blobs = place.data_dir / "blobs"
    before = {file.name for file in blobs.glob("??/*")}
    path = "/admin/v1/keyrings/artifacts:reseal"
    with serving(place.data_dir) as served:
        headers = served.headers(place.owner)
        _in_background(lambda: httpx.post(served.url + path, headers=headers, timeout=30))
        time.sleep(after_s)
        served.kill()
    with serving(place.data_dir) as served:
        headers = served.headers(place.owner)
        assert place.predict(served, headers).status_code == 200
        deadline = time.monotonic() + RESUMED_WITHIN_S
        while time.monotonic() < deadline:
            again = httpx.post(served.url + path, headers=headers, timeout=30)
            if again.status_code == 200:
                break
            assert again.status_code == 409, again.text  # the killed one is being taken up
            time.sleep(0.5)
        operation = again.json()
        while operation["state"] == "running" and time.monotonic() < deadline:
            time.sleep(0.5)
            operation = httpx.get(
                f"{served.url}/admin/v1/operations/{operation['id']}", headers=headers, timeout=30
            ).json()
        assert operation["state"] == "succeeded", operation
    with serving(place.data_dir) as served:
        assert place.predict(served, served.headers(place.owner)).status_code == 200
        assert not before & _named_blobs(place.data_dir)


@pytest.mark.parametrize("after_s", [_slow(0.01), 0.05, _slow(0.2)])
def test_an_erasure_that_was_killed_is_ended_by_the_next_start(tmp_path: Path, demo: DemoModel, after_s: float) -> None:
    async def prepare(world: World) -> None:
        for name in ("bc", "kept"):
            await published_model(world, "acme", name, demo)

    place = _prepared(tmp_path, demo, prepare)
    path = "/admin/v1/models/bc:erase"
    with serving(place.data_dir) as served:
        headers = served.headers(place.owner)
        _in_background(lambda: httpx.post(served.url + path, headers=headers, timeout=30))
        time.sleep(after_s)
        served.kill()
    with serving(place.data_dir) as served:
        headers = served.headers(place.owner)
        assert place.predict(served, headers, "kept").status_code == 200
        deadline = time.monotonic() + RESUMED_WITHIN_S
        while time.monotonic() < deadline:
            events = httpx.get(f"{served.url}/admin/v1/audit/events?limit=1000", headers=headers, timeout=30).json()
            kinds = [event["kind"] for event in events["events"]]
            if "erase.began" not in kinds or "erase.finished" in kinds:
                break
            time.sleep(0.5)
        assert kinds.count("erase.began") == kinds.count("erase.finished") == kinds.count("erasure.certified"), kinds
        expected = 404 if "erase.began" in kinds else 200
        assert place.predict(served, headers).status_code == expected
        assert place.predict(served, headers, "kept").status_code == 200
        assert len(_named_blobs(place.data_dir)) == (2 if expected == 404 else 4)


@pytest.mark.parametrize("after_s", [_slow(0.0), 0.15, _slow(0.4), _slow(1.0)])
def test_a_rescan_that_was_killed_is_ended_by_the_next_start_and_does_a_thing_once(
    tmp_path: Path, demo: DemoModel, after_s: float
) -> None:
    async def prepare(world: World) -> None:
        for number in range(1, N_VERSIONS):
            await uploaded_model(world, "acme", "bc", demo, version=number)
        await published_model(world, "acme", "bc", demo, version=N_VERSIONS)
        for number in REFUSED_NOW:
            await refused_by_todays_rules(world, "acme", ModelRef("bc", number))

    place = _prepared(tmp_path, demo, prepare)
    path = "/admin/v1/models:rescan"
    with serving(place.data_dir) as served:
        headers = served.headers(place.owner)
        _in_background(lambda: httpx.post(served.url + path, headers=headers, timeout=30))
        time.sleep(after_s)
        served.kill()
    with serving(place.data_dir) as served:
        headers = served.headers(place.owner)
        assert place.predict(served, headers).status_code == 200
        deadline = time.monotonic() + RESUMED_WITHIN_S
        while time.monotonic() < deadline:
            events = httpx.get(f"{served.url}/admin/v1/audit/events?limit=1000", headers=headers, timeout=30).json()
            kinds = [event["kind"] for event in events["events"]]
            if "rescan.began" not in kinds or "rescan.finished" in kinds:
                break
            time.sleep(0.5)
        n_begun = kinds.count("rescan.began")
        assert (n_begun, kinds.count("model.quarantined")) in {(0, 0), (1, len(REFUSED_NOW))}, kinds
        assert kinds.count("rescan.finished") == n_begun
        again = httpx.post(served.url + path, headers=headers, timeout=30).json()["result"]
        assert (again["scanned"], again["refused"]) == (N_VERSIONS, len(REFUSED_NOW))
        versions = httpx.get(f"{served.url}/admin/v1/models/bc", headers=headers, timeout=30).json()["versions"]
        refused = [version["version"] for version in versions if version["stage"] == "quarantined"]
        assert tuple(refused) == REFUSED_NOW
        assert place.predict(served, headers).status_code == 200


def _named_blobs(data_dir: Path) -> set[str]:
    """Return the blobs that some version names."""
    with sqlite3.connect(data_dir / "gateway.sqlite") as database:
        return {str(uuid.UUID(row[0])) for row in database.execute("SELECT id FROM artifacts")}


@pytest.mark.parametrize("after_s", [_slow(0.0), 0.003, _slow(0.01), _slow(0.03)])
def test_a_promotion_that_was_killed_serves_or_does_not(tmp_path: Path, demo: DemoModel, after_s: float) -> None:
    async def prepare(world: World) -> None:
        await published_model(world, "acme", "bc", demo)
        await uploaded_model(world, "acme", "bc", demo, version=2)

    place = _prepared(tmp_path, demo, prepare)
    path = "/admin/v1/models/bc"
    with serving(place.data_dir) as served:
        headers = served.headers(place.owner)
        act = f"{served.url}{path}/versions/2:promote?exclusive=true"
        _in_background(lambda: httpx.post(act, headers=headers, timeout=30))
        time.sleep(after_s)
        served.kill()
    with serving(place.data_dir) as served:
        headers = served.headers(place.owner)
        versions = httpx.get(f"{served.url}{path}", headers=headers, timeout=30).json()["versions"]
        stages = [version["stage"] for version in versions]
        assert stages in (["serving", "staged"], ["retired", "serving"])
        assert place.predict(served, headers).status_code == 200


async def _many_data_keys(world: World) -> None:
    """Give the tenant's ring so much to rewrap that a rotation can be killed in the middle."""
    settings = world.settings
    database = Database(settings.keys_url, KEYS_CHANGES)
    keyring = open_keyring(settings, database, SystemClock())
    tenant = await world.tenant_id("acme")
    version, key = await keyring.primary(tenant, Purpose.ARTIFACTS)
    async with database.write(tenant) as session:
        for _ in range(N_DATA_KEYS):
            artifact = uuid.uuid4()
            wrapped = wrap_data_key(
                key,
                DataKey.generate(),
                artifact_id=artifact,
                tenant_id=tenant,
                purpose=Purpose.ARTIFACTS.value,
                key_version=version,
                context=artifact.bytes * 2,
            )
            await store.add_data_key(session, wrapped, SystemClock().now())
    await database.close()
