"""Hostile model files: each is refused with its rule and place, touches nothing, and takes little time and memory.

The files are those of `builders.hostile_keras`, made anew here. The static scanner runs as the gateway's process would,
but watched; what it cannot see (the inside of HDF5) the confined child refuses before it imports Keras. That the files
are real attacks is what `make exploits` shows, with old releases of Keras.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builders.conversions import converted
from builders.hostile import Hostile, Scene, all_hostile
from builders.hostile_keras import HOSTILE
from builders.hostile_keras_weights import other_file
from builders.shared import built_once
from maas_gateway.errors import ArtifactRefused

_SCANNER = Path(__file__).parents[1] / "builders" / "scan_hostile.py"
_MAX_S = 10.0
_MAX_BYTES = 1 << 30
_STATIC = [hostile for hostile in HOSTILE if hostile.stage == "static"]
_CHILD = [hostile for hostile in HOSTILE if hostile.stage == "child"]


@pytest.fixture(scope="session")
def scene(shared_folder: Path) -> Path:
    """A folder with the files by stage, what they point to, and what looking at them gave."""
    return built_once(shared_folder, "hostile-keras", _build)


def _build(folder: Path) -> None:
    at = Scene(folder / "outside")
    at.folder.mkdir()
    other_file(at)
    for stage, act, listed in (("static", "scan", _STATIC), ("child", "check", _CHILD)):
        (folder / stage).mkdir()
        for hostile in listed:
            (folder / stage / hostile.name).write_bytes(hostile.build(at))
        command = [sys.executable, str(_SCANNER), act, str(folder / stage)]
        ended = subprocess.run(command, check=True, capture_output=True, timeout=200, env=dict(os.environ))
        (folder / f"{stage}.json").write_bytes(ended.stdout)
    (folder / "after.json").write_text(json.dumps(sorted(path.name for path in at.folder.iterdir())))


def _seen(scene: Path, stage: str) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads((scene / f"{stage}.json").read_text())
    return seen


def _ids(listed: list[Hostile]) -> list[str]:
    return [f"{hostile.name}: {hostile.about}" for hostile in listed]


@pytest.mark.parametrize("hostile", _STATIC, ids=_ids(_STATIC))
def test_scanner_refuses(scene: Path, hostile: Hostile) -> None:
    seen = _seen(scene, "static")["files"][hostile.name]
    refusing = [finding for finding in seen["findings"] if finding["severity"] == "refuse"]
    assert any(found["rule"] == hostile.rule and found["where"].startswith(hostile.where) for found in refusing), seen
    assert all((found["where"] + found["message"]).replace("…", "").isprintable() for found in refusing)
    assert (seen["events"], seen["took_s"] < _MAX_S) == ([], True)


@pytest.mark.parametrize("hostile", _CHILD, ids=_ids(_CHILD))
def test_child_refuses_before_it_loads_keras(scene: Path, hostile: Hostile) -> None:
    seen = _seen(scene, "child")["files"][hostile.name]
    assert [hostile.rule in finding["message"] for finding in seen["findings"]] == [True], seen
    assert (seen["events"], seen["took_s"] < _MAX_S) == ([], True)


def test_nothing_is_left_and_no_framework_is_loaded(scene: Path) -> None:
    assert json.loads((scene / "after.json").read_text()) == ["other.h5", "secret"]
    assert not {"keras", "tensorflow", "numpy"} & set(_seen(scene, "static")["loaded"])
    assert not {"keras", "tensorflow"} & set(_seen(scene, "child")["loaded"])


@pytest.mark.parametrize("stage", ["static", "child"])
def test_memory_stays_below_a_gibibyte(scene: Path, stage: str) -> None:
    """Its address space was limited to that; what was resident is less."""
    assert _seen(scene, stage)["peak_bytes"] < _MAX_BYTES


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["external-storage.keras", "three-gib.keras"])
async def test_an_upload_is_refused_by_the_confined_child(scene: Path, name: str) -> None:
    """The whole way that an upload takes: what the check says reaches the uploader."""
    archive = (scene / "child" / name).read_bytes()
    rule = next(hostile.rule for hostile in _CHILD if hostile.name == name)
    with pytest.raises(ArtifactRefused, match=rule):
        await converted("keras", archive, deadline_s=_MAX_S)


def test_every_attack_has_a_name_of_its_own_and_there_are_enough() -> None:
    listed = [hostile.name for hostiles in all_hostile().values() for hostile in hostiles]
    assert len(listed) == len(set(listed))
    assert len(HOSTILE) >= 40
    assert len(listed) >= 60
