"""The wheel holds everything that a gateway needs, and works far from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=_environment())
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("maas_gateway/")}
    expected = {
        *_below(ROOT / "src" / "maas_gateway", ""),
        *_below(ROOT / "migrations", "migrations/"),
        *_below(ROOT / "config", "config/"),
    }
    assert packed == {f"maas_gateway/{name}" for name in expected}


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "migrations/env.py",
        "migrations/script.py.mako",
        "migrations/main/0001_main_first_tables.py",
        "migrations/keys/0001_keys_first_tables.py",
        "config/development.toml",
        "config/production.toml",
        "web/static/swagger-ui-bundle.js",
        "web/static/swagger-ui.LICENSE",
        "web/static/swagger-ui.NOTICE",
        "web/static/docs.js",
    ],
)
def test_wheel_holds(wheel: Path, name: str) -> None:
    assert f"maas_gateway/{name}" in zipfile.ZipFile(wheel).namelist()


def test_wheel_brings_its_licence_and_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (licence,) = [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
        (entries,) = [name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")]
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
        assert b"maas-gateway = maas_gateway.cli.main:run" in archive.read(entries)


def test_resources_are_found_in_the_unpacked_wheel(unpacked: Path, tmp_path: Path) -> None:
    program = "from maas_gateway.resources import resource; print(resource('migrations'), resource('config'))"
    done = _run(["-c", program], unpacked, tmp_path)
    assert done.stdout.split() == [str(unpacked / "maas_gateway" / name) for name in ("migrations", "config")]


def test_init_and_doctor_work_from_the_unpacked_wheel(unpacked: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    _run(["-m", "maas_gateway", "init", "--data-dir", str(place)], unpacked, tmp_path)
    done = _run(["-m", "maas_gateway", "doctor", "--data-dir", str(place)], unpacked, tmp_path)
    assert "Nothing is unsafe or missing." in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"place"}
    assert (place / "keys" / "root.json").stat().st_mode & 0o777 == 0o600


def _run(arguments: list[str], unpacked: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**_environment(), "PYTHONPATH": str(unpacked), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAAS_", "PYTHONPATH"))}


def _below(folder: Path, prefix: str) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {prefix + path.relative_to(folder).as_posix() for path in found if path.suffix != ".pyc"}
