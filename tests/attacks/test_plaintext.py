"""Whoever gets at the files of a serving gateway finds no plaintext of a model in them, and no key but the root key's file."""

import asyncio
import base64
import io
import json
import os
import re
import threading
import zipfile
from pathlib import Path

import httpx
import numpy as np

from builders.gateways import Account, running_gateway
from builders.models import DemoModel
from builders.plaintext import Search, open_files_of, pieces_of, spellings_of, writable_since
from builders.processes import Served, serving
from maas_gateway.clock import SystemClock
from maas_gateway.database.unscoped import read_all
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring.data_keys import DataKeys
from maas_gateway.keyring.key import Purpose
from maas_gateway.place import open_databases, open_keyring
from maas_gateway.registry import store
from maas_gateway.settings import Settings

IS_ROOT = os.geteuid() == 0


def _with_random_weights(archive: bytes) -> tuple[bytes, list[np.ndarray]]:
    """Return the same network with fresh random weights, so that nothing else on this machine holds them."""
    import h5py

    with zipfile.ZipFile(io.BytesIO(archive)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    random = np.random.default_rng()
    weights: list[np.ndarray] = []

    def replace(_name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 2:
            weights.append(random.normal(scale=item.shape[0] ** -0.5, size=item.shape).astype(np.float32))
            item[...] = weights[-1]

    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        file.visititems(replace)
    members["model.weights.h5"] = buffer.getvalue()
    renewed = io.BytesIO()
    with zipfile.ZipFile(renewed, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    return renewed.getvalue(), weights


def _pieces(weights: list[np.ndarray]) -> list[bytes]:
    """Return pieces of the weights as an archive holds them, and as a plan does: turned."""
    return [piece for matrix in weights for form in (matrix, matrix.T) for piece in pieces_of(form.tobytes())]


async def _keys(settings: Settings) -> dict[str, bytes]:
    """Return every key of a deployment, as a gateway on the same place opens it."""
    main, key_store = open_databases(settings)
    keyring = open_keyring(settings, key_store, SystemClock())
    keyset = json.loads(settings.root_file.read_text())["keys"]
    found = {f"root key {name}": base64.b64decode(entry["key"]) for name, entry in keyset.items()}
    try:
        async with read_all(main) as session:
            models = await store.models(session)
        for owner in {PLATFORM, *(model.tenant for model in models)}:
            for purpose in Purpose:
                if purpose is not Purpose.ROOT:
                    for version in await keyring.versions(owner, purpose):
                        key = await keyring.key(owner, purpose, version.version)
                        found[f"{purpose} {version.version} of {owner}"] = key.expose()
        for model in models:
            for artifact in model.versions[0].artifacts:
                data_key, context = await DataKeys(keyring).open(model.tenant, artifact.artifact_id)
                found[f"data key of {artifact.role}"] = data_key._material.expose()
                found[f"stream key of {artifact.role}"] = data_key.derive(b"mgw1 body", context).expose()
    finally:
        await keyring.root.close()
        await main.close()
        await key_store.close()
    return found


def _upload(served: Served, headers: dict[str, str], archive: bytes, search: Search) -> dict[str, set[str]]:
    """Upload a model; return what of it is found meanwhile in anything that the gateway has open, its spool too."""
    found: dict[str, set[str]] = {}
    targets: set[str] = set()
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.wait(0.1):
            for link, target in open_files_of(served.pids()):
                if not target.startswith("/memfd:"):
                    targets.add(target)
                    found.update(search.in_files([link]))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        path = f"{served.url}/admin/v1/models/bc/versions/1"
        answer = httpx.put(f"{path}?format=keras", content=archive, headers=headers, timeout=120)
        assert answer.status_code == 201, answer.text
        assert httpx.post(f"{path}:promote", headers=headers, timeout=60).status_code == 200
    finally:
        is_done.set()
        watcher.join()
    if IS_ROOT:
        assert any("/spool/" in target for target in targets), "the nameless file of the upload was looked into"
    return found


async def _prepared(folder: Path) -> tuple[Settings, Account, Account]:
    async with running_gateway(folder) as world:
        await world.tenant("acme")
        return world.settings, await world.service("acme", "publisher"), await world.service("acme", "invoker")


def test_no_file_that_a_gateway_can_write_holds_plaintext_of_a_model_or_a_key(tmp_path: Path, demo: DemoModel) -> None:
    """Every file of the machine that was changed since the test began, and what the processes have open: during and after."""
    stamp = tmp_path / "began"
    stamp.touch()
    archive, weights = _with_random_weights(demo.seed.archive)
    model = Search({"model": _pieces(weights)})
    assert model.in_bytes(archive), "what is sent holds what is looked for"
    settings, publisher, invoker = asyncio.run(_prepared(tmp_path))
    own = {name: str(tmp_path / name) for name in ("TMPDIR", "HOME")}
    for folder in own.values():
        Path(folder).mkdir()
    with serving(settings.data_dir, "--workers", "2", **own) as served:
        assert _upload(served, served.headers(publisher), archive, model) == {}
        headers = served.headers(invoker)
        body = {"instances": [list(demo.seed.example)]}
        for _ in range(8):
            answer = httpx.post(f"{served.url}/v1/models/bc:predict", json=body, headers=headers, timeout=30)
            assert answer.status_code == 200, answer.text
        keys = asyncio.run(_keys(settings))
        assert {name.split()[0] for name in keys} >= {"root", "artifacts", "token-signing", "data", "stream"}
        search = Search({"model": _pieces(weights), **{name: spellings_of(key) for name, key in keys.items()}})
        _check(search, stamp, settings, served.pids())
    _check(search, stamp, settings, [])
    _plant_and_find(search, stamp, tmp_path, weights, keys)


def _check(search: Search, stamp: Path, settings: Settings, pids: list[int]) -> None:
    """Look everywhere. The root key's file is the one place where a key may be, and only the root key."""
    changed = writable_since(stamp)
    assert {settings.root_file, settings.data_dir / "gateway.sqlite"} <= set(changed)
    found = search.in_files(changed)
    in_root_file = found.pop(str(settings.root_file))
    assert all(kind.startswith("root key") for kind in in_root_file)
    assert found == {}
    opened = list(open_files_of(pids))
    assert (
        search.in_files(link for link, target in opened if not _is_memory(target) and target != str(settings.root_file))
        == {}
    )
    if pids and IS_ROOT:
        memory = search.in_files(link for link, target in opened if _is_memory(target))
        assert {"model"} in memory.values(), "the memory of a serving process holds it, and the search finds it there"
        for flags in _flags_of_memory(pids):
            assert {"dd", "dc"} <= flags, "no mapping of it, the runtime's included, is dumped or inherited"


def _flags_of_memory(pids: list[int]) -> list[set[str]]:
    """Return the VmFlags (proc_pid_smaps(5)) of every mapping of an opened artifact in processes that serve."""
    found = []
    for pid in pids:
        is_memory = False
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                is_memory = "/memfd:maas-artifact" in line
            elif is_memory and line.startswith("VmFlags:"):
                found.append(set(line.split()[1:]))
    assert sum("lo" in flags for flags in found) == len(found) // 2 > 0, (
        "ours is locked, the runtime's beside it need not be"
    )
    return found


def _is_memory(target: str) -> bool:
    return target.startswith("/memfd:")


def _plant_and_find(
    search: Search, stamp: Path, folder: Path, weights: list[np.ndarray], keys: dict[str, bytes]
) -> None:
    """Show that the search would have found what it did not: a model's part, a key in Base64, an unnamed file."""
    planted = folder / "planted"
    planted.mkdir()
    (planted / "part").write_bytes(bytes((8 << 20) - 1_000) + max(weights, key=np.size).tobytes()[77 : 77 + 4_096])
    (planted / "key").write_text(json.dumps({"k": base64.b64encode(keys["stream key of litert"]).decode()}))
    (planted / "innocent").write_bytes(os.urandom(9_999))
    found = search.in_files(path for path in writable_since(stamp) if planted in path.parents)
    assert found == {str(planted / "part"): {"model"}, str(planted / "key"): {"stream key of litert"}}
    nameless = os.open(planted, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.write(nameless, weights[0].tobytes())
    assert {"model"} in search.in_files(link for link, _ in open_files_of([os.getpid()])).values()
    os.close(nameless)
