"""`doctor`: is this configuration safe, is this place whole; in sentences."""

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer

from maas_gateway.app import tls_files
from maas_gateway.audit.chain import verify
from maas_gateway.cli import surroundings
from maas_gateway.cli.configuration import configured
from maas_gateway.clock import SystemClock
from maas_gateway.errors import GatewayError, Misconfigured
from maas_gateway.holders import configured_holders
from maas_gateway.place import deep_faults, inspect
from maas_gateway.settings import Settings, production_faults
from maas_gateway.web.tls import read_identity

_SOON_DAYS = 30
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def run_doctor(config: Path | None, options: Mapping[str, Any], *, is_deep: bool = False) -> None:
    """Check, print, and leave with 0 if nothing is unsafe or missing, else with 78."""
    settings = configured(config, options)
    faults = asyncio.run(_faults(settings))
    if is_deep and not faults:
        faults = _opened(settings)
    for advice in (*_advice(settings), *asyncio.run(surroundings.notes(settings))):
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


def _opened(settings: Settings) -> list[str]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()) as bar:
        task = bar.add_task("Opening every artifact", total=None)

        def tell(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return asyncio.run(deep_faults(settings, tell))


async def _of_place(settings: Settings) -> AsyncIterator[str]:
    folder = settings.data_dir
    if not folder.is_dir():
        yield f"there is no data directory at {folder}; run: maas-gateway init"
        return
    if folder.stat().st_mode & _OTHERS:
        yield f"others can read the data directory; run: chmod 700 {folder}"
    if not os.access(folder, os.W_OK):
        yield f"the data directory {folder} cannot be written to"
    try:
        configured_holders(settings, SystemClock())
    except Misconfigured as error:
        yield error.detail
        return
    files = tls_files(settings)
    if files is not None:
        try:
            read_identity(files, SystemClock())
        except Misconfigured as error:
            yield error.detail
        return
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
    notes += _of_certificate(settings)
    if settings.environment == "production" and not settings.tls.is_on and not settings.http.trusted_proxies:
        notes.append(
            "http.trusted_proxies is empty: if a proxy stands before this gateway, every client has the proxy's address,"
            " and sign-ins that fail make all of them wait"
        )
    if settings.http.workers > 1 and settings.quotas.url is None:
        notes.append(
            f"each of the {settings.http.workers} workers has its own part of every rate limit and knows nothing of"
            " other machines; a limit of fewer requests or places than there are workers allows one to each;"
            " quotas.url names a Valkey or Redis where all count together"
        )
    if settings.http.workers > 1 and settings.main_url.startswith("sqlite"):
        notes.append("several workers share one SQLite file; PostgreSQL serves management calls of many workers better")
    return notes


def _of_certificate(settings: Settings) -> Iterator[str]:
    """Yield what is worth knowing of a certificate that can be used; what cannot be is a fault."""
    files, clock = tls_files(settings), SystemClock()
    if files is None:
        return
    try:
        found = read_identity(files, clock).certificate
    except Misconfigured:
        return
    days = (found.not_after - clock.now()).days
    if days < _SOON_DAYS:
        when = f"on {found.not_after:%Y-%m-%d}, in {days} days"
        yield f"the certificate {files.certificate} expires {when}; a renewed one is taken up without a restart"
    host = urlsplit(settings.base_url).hostname or ""
    if not found.is_for(host):
        yield (
            f"the certificate {files.certificate} is for {', '.join(found.names) or 'no name'}, and clients use {host}: "
            "they will refuse it"
        )
