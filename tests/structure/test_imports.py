"""Heavy packages are imported only where they run."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = frozenset(
    {
        "fastapi",
        "starlette",
        "pydantic_settings",
        "uvicorn",
        "uvloop",
        "httpx",
        "anyio",
        "sqlalchemy",
        "alembic",
        "asyncpg",
        "aiosqlite",
        "cryptography",
        "jose",
        "passlib",
        "argon2",
        "numpy",
        "sklearn",
        "tensorflow",
        "keras",
        "ai_edge_litert",
        "ray",
        "orjson",
        "structlog",
        "prometheus_client",
    }
)
"""Frameworks, databases, crypto and arrays. Typer itself loads pydantic where a command has options."""
ENGINES = frozenset({"tensorflow", "keras", "sklearn", "ray", "ai_edge_litert", "h5py", "onnxruntime"})
REPORT = (
    "import sys, json; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["models", "--help"],
        ["models", "push", "--help"],
        ["keys", "--help"],
        ["tokens", "--help"],
        ["database", "--help"],
        ["serve", "--help"],
        ["demo", "--help"],
    ],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = f"""
import sys
sys.argv = ["maas-gateway", *{arguments!r}]
from maas_gateway.cli.main import run
try:
    run()
except SystemExit as end:
    assert not end.code, end.code
{REPORT}
"""
    assert not HEAVY & _imported(program)


def test_application_imports_no_engine() -> None:
    imported = _imported(f"import maas_gateway.app\n{REPORT}")
    assert "fastapi" in imported
    assert not ENGINES & imported


def test_command_line_imports_no_engine() -> None:
    modules = ", ".join(f"maas_gateway.cli.{name}" for name in ("demo", "serve", "initialise", "doctor", "remote"))
    assert not ENGINES & _imported(f"import {modules}\n{REPORT}")


def test_client_imports_nothing_of_the_server() -> None:
    imported = _imported(f"import maas_gateway.client.gateway\n{REPORT}")
    assert not imported & {"fastapi", "starlette", "sqlalchemy", "cryptography", "numpy", "uvicorn"}


def _imported(program: str) -> frozenset[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAAS_")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return frozenset(json.loads(done.stderr.splitlines()[-1]))
