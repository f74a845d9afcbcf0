"""`doctor`: is this configuration safe, is this place whole; in sentences."""

import asyncio
import os
import resource
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import typer

from maas_gateway.audit.chain import verify
from maas_gateway.cli.configuration import configured
from maas_gateway.clock import SystemClock
from maas_gateway.errors import GatewayError, Misconfigured
from maas_gateway.gateway import inspect
from maas_gateway.keyring.file import FileHolder
from maas_gateway.settings import Settings, production_faults

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def run_doctor(config: Path | None, options: Mapping[str, Any]) -> None:
    """Check, print, and leave with 0 if nothing is unsafe or missing, else with 78."""
    settings = configured(config, options)
    faults = asyncio.run(_faults(settings))
    for advice in _advice(settings):
        typer.echo(f"note: {advice}")
    for fault in faults:
        typer.echo(f"fault: {fault}")
    typer.echo(f"{len(faults)} faults." if faults else "Nothing is unsafe or missing.")
    sys.exit(os.EX_CONFIG if faults else os.EX_OK)


async def _faults(settings: Settings) -> list[str]:
    found = [fault async for fault in _of_place(settings)]
    if not found:
        found += [fault async for fault in _of_state(settings)]
    return found


async def _of_place(settings: Settings) -> AsyncIterator[str]:
    folder = settings.data_dir
    if not folder.is_dir():
        yield f"there is no data directory at {folder}; run: maas-gateway init"
        return
    if folder.stat().st_mode & _OTHERS:
        yield f"others can read the data directory; run: chmod 700 {folder}"
    if not os.access(folder, os.W_OK):
        yield f"the data directory {folder} cannot be written to"
    if not settings.root_file.exists():
        yield f"there is no root key at {settings.root_file}; run: maas-gateway init"
        return
    try:
        FileHolder(settings.root_file, SystemClock())
    except Misconfigured as error:
        yield error.detail
    if settings.environment == "development" and settings.http.host not in {"127.0.0.1", "::1", "localhost"}:
        yield f"a development configuration listens on {settings.http.host}, which others can reach, without TLS"


async def _of_state(settings: Settings) -> AsyncIterator[str]:
    try:
        state = await inspect(settings)
    except GatewayError as error:
        yield error.detail
        return
    for sentence in state.faults:
        yield sentence
    for chain in state.chains:
        try:
            verify(chain)
        except GatewayError as error:
            yield error.detail


def _advice(settings: Settings) -> list[str]:
    notes = []
    if settings.environment == "development":
        faults = production_faults(settings)
        notes.append(f"this is a development configuration; production would refuse it: {'; '.join(faults)}")
    if settings.root_file.resolve().is_relative_to(settings.data_dir.resolve()):
        notes.append(
            "the root key lies in the data directory: whoever copies that whole directory can open every model"
        )
    if _has_swap():
        notes.append("this machine has swap: opened models may be written to it")
    if resource.getrlimit(resource.RLIMIT_CORE)[1]:
        notes.append("core dumps are possible here; serve switches them off for itself")
    if settings.http.workers > 1 and settings.main_url.startswith("sqlite"):
        notes.append("several workers share one SQLite file; PostgreSQL serves management calls of many workers better")
    return notes


def _has_swap() -> bool:
    try:
        return len(Path("/proc/swaps").read_text(encoding="ascii").splitlines()) > 1
    except OSError:
        return False
