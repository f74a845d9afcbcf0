"""`init` and `database upgrade`: a place for a gateway."""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from maas_gateway.auth.client_secrets import new_password
from maas_gateway.cli.configuration import configured
from maas_gateway.gateway import open_gateway
from maas_gateway.holders import root_key
from maas_gateway.place import migrate_all, prepare
from maas_gateway.settings import Settings

OPERATOR = "operator"


def run_init(config: Path | None, options: Mapping[str, Any]) -> None:
    """Prepare a place and make its first operator.

    Raises:
        Misconfigured: the configuration is wrong, or a database is newer than this program.
    """
    settings = configured(config, options)
    asyncio.run(prepare(settings, makes_root_key=True))
    path = settings.data_dir / "operator.json"
    is_kept = path.exists()
    password = json.loads(path.read_text(encoding="utf-8"))["password"] if is_kept else new_password()
    if not is_kept:
        write_private(path, {"username": f"{OPERATOR}@platform", "password": password})
    made = asyncio.run(_first_operator(settings, password))
    if not made and not is_kept:
        path.unlink()  # another operator exists; this password is nobody's
    typer.echo(f"The root key is {root_key(settings)}.")
    if made:
        typer.echo(f"The first operator's password is in {path}; change its place or delete it once you have it.")
    else:
        typer.echo("A platform operator exists already; nothing was changed.")
    typer.echo("Next: maas-gateway doctor, then maas-gateway serve")


def run_upgrade(config: Path | None, options: Mapping[str, Any]) -> None:
    """Bring both databases to this version's schema.

    Raises:
        Misconfigured: the configuration is wrong, or a database is newer than this program.
    """
    settings = configured(config, options)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    was_needed = asyncio.run(migrate_all(settings))
    typer.echo("Both databases were upgraded." if was_needed else "Both databases are current.")


def write_private(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that only this user can read, whole or not at all."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123  a descriptor has no path
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(descriptor)
    beside.replace(path)


async def _first_operator(settings: Settings, password: str) -> bool:
    async with open_gateway(settings) as gateway:
        return await gateway.provision.operator(OPERATOR, password)
