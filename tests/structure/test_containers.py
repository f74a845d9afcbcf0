"""The image and the compose file, checked without Docker: their form, and the commands by running them."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from maas_gateway.settings import load_settings
from structure.dockerfile import Instruction, read_dockerfile

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
FILE = read_dockerfile(ROOT / "Dockerfile")
LAST_STAGE = [instruction for instruction in FILE if instruction.stage == FILE[-1].stage]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
UID = "10001"


def test_image_ends_as_a_user_without_privileges() -> None:
    (user,) = [instruction.rest for instruction in LAST_STAGE if instruction.name == "USER"]
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), "a number, so that an orchestrator sees that it is not root"
    names = [instruction.name for instruction in LAST_STAGE]
    assert not {"RUN", "COPY"} & set(names[names.index("USER") :]), "nothing is made as that user"


def test_image_loads_nothing_from_the_network_but_hashed_wheels() -> None:
    assert "ADD" not in {instruction.name for instruction in FILE}
    for instruction in FILE:
        if instruction.name == "RUN":
            assert not re.search(r"\b(curl|wget|git|apt|apt-get)\b", instruction.rest), instruction.rest
            if " install " in instruction.rest and " pip " in instruction.rest:
                is_locked = "--require-hashes" in instruction.words and "--only-binary=:all:" in instruction.words
                is_ours = {"--no-deps", "--no-build-isolation", "."} <= set(instruction.words)
                assert is_locked or is_ours, instruction.rest
    assert any("--require-hashes -r requirements.lock" in instruction.rest for instruction in FILE)


def test_image_starts_from_a_python_that_the_package_takes() -> None:
    for instruction in FILE:
        if instruction.name == "FROM":
            assert re.match(r"python:3\.1[123]-", instruction.rest), instruction.rest


def test_image_says_how_it_starts_stops_and_fares() -> None:
    assert {"ENTRYPOINT", "CMD", "HEALTHCHECK", "STOPSIGNAL", "EXPOSE"} <= {i.name for i in LAST_STAGE}
    (entry,) = [instruction for instruction in LAST_STAGE if instruction.name == "ENTRYPOINT"]
    assert entry.words == ["maas-gateway"], "in the exec form, so that signals reach it"
    environment = _environment(LAST_STAGE)
    assert environment["TMPDIR"] == "/tmp"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"


def test_image_takes_from_the_checkout_only_what_the_ignore_file_lets_in() -> None:
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [pattern for pattern in patterns if pattern and not pattern.startswith("#")]
    assert patterns[0] == "*"
    let_in = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    copied = {
        source
        for instruction in FILE
        if instruction.name == "COPY" and "from" not in instruction.flags
        for source in instruction.words[:-1]
    }
    assert {source.removeprefix("./").partition("/")[0] for source in copied} == let_in
    assert all((ROOT / source).exists() for source in copied)
    assert not any(fnmatch(secret, pattern) for secret in ("secrets", ".env", "var", ".git") for pattern in let_in)


def test_image_copies_everything_that_the_wheel_is_built_from() -> None:
    copied = {word for instruction in FILE if instruction.name == "COPY" for word in instruction.words}
    assert {"pyproject.toml", "README.md", "LICENSE", "src", "migrations", "config"} <= copied


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_commands_of_the_image_make_a_gateway(tmp_path: Path) -> None:
    """Run what the Dockerfile runs, with the root of a filesystem in a fresh directory, then `init` and `doctor`."""
    image = _Image(tmp_path / "image")
    for instruction in FILE:
        image.follow(instruction)
    state, keys = image.root / "var/lib/maas-gateway", image.root / "var/lib/maas-keys"
    assert {folder.stat().st_mode & 0o777 for folder in (state, keys)} == {0o700}
    image.environment |= {
        "MAAS_DATA_DIR": str(state),
        "MAAS_PUBLIC_URL": "https://models.example.org",
        "MAAS_DATABASE__URL": f"sqlite+aiosqlite:///{state}/gateway.sqlite",
    }
    (entry,) = [instruction.words for instruction in LAST_STAGE if instruction.name == "ENTRYPOINT"]
    image.run([*entry, "init"])
    assert "Nothing is unsafe or missing." in image.run([*entry, "doctor"])
    assert (keys / "root.json").stat().st_mode & 0o777 == 0o600
    program = "import maas_gateway; print(maas_gateway.__file__)"
    assert image.run(["python", "-c", program]).startswith(str(image.root)), "the image's own, not this checkout's"


def test_compose_file_obeys_the_specification() -> None:
    schema = json.loads((VECTORS / "compose-spec.json").read_text(encoding="utf-8"))
    faults = [f"{fault.json_path}: {fault.message}" for fault in Draft202012Validator(schema).iter_errors(COMPOSE)]
    assert faults == []


def test_compose_file_with_a_typing_error_would_be_noticed() -> None:
    schema = json.loads((VECTORS / "compose-spec.json").read_text(encoding="utf-8"))
    wrong = {"services": {"gateway": {"image": "maas-gateway", "read_onli": True}}}
    assert not Draft202012Validator(schema).is_valid(wrong)


@pytest.mark.parametrize("name", SERVICES)
def test_container_can_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    assert any(mount.startswith("/tmp:") for mount in service["tmpfs"])
    assert "healthcheck" in service or any(i.name == "HEALTHCHECK" for i in FILE)


def test_gateway_runs_as_the_image_s_user_without_capabilities() -> None:
    assert SERVICES["gateway"]["user"] == f"{UID}:{UID}"
    assert "cap_add" not in SERVICES["gateway"]
    assert SERVICES["gateway"]["memswap_limit"] == SERVICES["gateway"]["mem_limit"]


def test_only_the_gateway_is_reachable_and_only_from_this_host() -> None:
    assert "ports" not in SERVICES["database"]
    assert all(port.startswith("127.0.0.1:") for port in SERVICES["gateway"]["ports"])
    assert SERVICES["database"]["networks"] == ["inside"]
    assert COMPOSE["networks"]["inside"]["internal"] is True


def test_no_secret_stands_in_the_compose_file() -> None:
    for secret in COMPOSE["secrets"].values():
        assert set(secret) == {"file"}
        assert secret["file"].startswith("./secrets/")
    for service in SERVICES.values():
        for name, value in service["environment"].items():
            assert not re.search(r"PASSWORD$|SECRET$|TOKEN$", name), name
            assert not re.search(r"//[^/@]*:[^/@]*@", value), name


def test_root_key_lies_apart_from_state_in_a_directory_that_can_be_written_to() -> None:
    environment = {**_environment(LAST_STAGE), **SERVICES["gateway"]["environment"]}
    folder = Path(environment["MAAS_KEYS__ROOT_FILE"]).parent
    (mount,) = [m for m in SERVICES["gateway"]["volumes"] if isinstance(m, dict) and m["target"] == str(folder)]
    assert mount["type"] == "bind"
    assert not mount.get("read_only", False), "a rotation replaces the file by a rename in its directory"
    assert mount["bind"]["create_host_path"] is False


def test_every_file_that_the_compose_file_mounts_is_in_the_checkout() -> None:
    for config in COMPOSE["configs"].values():
        assert (ROOT / config["file"]).is_file()


def test_compose_file_configures_a_gateway_that_production_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MAAS_")]:
        monkeypatch.delenv(name)
    for name, value in _of_container().items():
        monkeypatch.setenv(name, value)

    settings = load_settings()

    assert settings.environment == "production"
    assert settings.main_url.partition("?")[0].endswith("@database/maas")
    assert settings.keys_url == settings.main_url.replace("/maas?", "/maas_keys?")
    assert f"CREATE DATABASE maas_keys OWNER {SERVICES['database']['environment']['POSTGRES_USER']};" in (
        ROOT / COMPOSE["configs"]["second_database"]["file"]
    ).read_text(encoding="utf-8")
    assert f"state:{settings.data_dir}" in SERVICES["gateway"]["volumes"]
    assert SERVICES["gateway"]["ports"] == [f"127.0.0.1:8080:{settings.http.port}"]


def test_commands_in_the_compose_file_make_private_secrets(tmp_path: Path) -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    commands = re.findall(r"^#   \$ (.*)$", text, re.MULTILINE)
    mine = [command for command in commands if not command.startswith(("docker ", "sudo "))]
    assert f"sudo chown -R {UID}:{UID} secrets" in commands
    assert "docker compose run --rm gateway init" in commands

    subprocess.run(["sh", "-eu", "-c", "\n".join(mine)], cwd=tmp_path, check=True)

    files = [tmp_path / secret["file"] for secret in COMPOSE["secrets"].values()]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert (tmp_path / "secrets" / "keys").stat().st_mode & 0o777 == 0o700
    password = (tmp_path / "secrets" / "database_password").read_text(encoding="utf-8")
    assert len(password) >= 32
    line = (tmp_path / "secrets" / "database_pgpass").read_text(encoding="utf-8")
    assert line == f"database:5432:*:maas:{password}\n"


class _Image:
    """A root directory in which a Dockerfile's instructions are followed; all its stages share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root
        hidden = ("MAAS_", "PYTHON", "VIRTUAL_ENV")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        (root / "bin").mkdir(parents=True)
        (root / "bin" / "python").symlink_to(Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}")
        self.environment["PATH"] = f"{root / 'bin'}:{os.environ['PATH']}"

    def follow(self, instruction: Instruction) -> None:
        if instruction.name == "RUN":
            self.run(["sh", "-c", self._moved(instruction.rest)])
        elif instruction.name == "WORKDIR":
            self.folder = Path(self._moved(instruction.rest))
            self.folder.mkdir(parents=True, exist_ok=True)
        elif instruction.name == "ENV":
            for name, value in _environment([instruction]).items():
                self.environment[name] = self._moved(value).replace("$PATH", self.environment["PATH"])
        elif instruction.name == "COPY":
            self._copy(instruction)

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def _copy(self, instruction: Instruction) -> None:
        *sources, target = instruction.words
        if "from" in instruction.flags:
            assert sources == [target], "from one place to the same place of another stage"
            return
        for source in sources:
            there = self.folder / self._moved(target)
            there = there / Path(source).name if target.endswith("/") else there
            there.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, there, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, there)

    def _moved(self, text: str) -> str:
        """Have absolute paths point into the root directory, and owners be whoever runs this."""
        text = re.sub(r"(?<![\w./-])/(?=(opt|var|etc|build|tmp)\b)", f"{self.root}/", text)
        (self.root / "tmp").mkdir(exist_ok=True)
        if os.geteuid() == 0:
            return text.replace(f"-o {UID} -g {UID}", "-o 0 -g 0")
        return text.replace(f"-o {UID} -g {UID}", f"-o {os.geteuid()} -g {os.getegid()}")


def _environment(instructions: list[Instruction]) -> dict[str, str]:
    found: dict[str, str] = {}
    for instruction in instructions:
        if instruction.name == "ENV":
            found |= dict(word.split("=", 1) for word in instruction.words)
    return found


def _of_container() -> Mapping[str, Any]:
    """Return the MAAS_… variables of the running gateway, with the configuration's place in this checkout."""
    given = {**_environment(LAST_STAGE), **SERVICES["gateway"]["environment"]}
    given = {name: value for name, value in given.items() if name.startswith("MAAS_")}
    (copied,) = [i.words[0] for i in LAST_STAGE if i.name == "COPY" and i.words[-1] == given["MAAS_CONFIG"]]
    given["MAAS_CONFIG"] = str(ROOT / copied)
    given["MAAS_PUBLIC_URL"] = "https://models.example.org"
    return given
