"""`maas-gateway`: the commands and the exit codes.

Rules: an expected failure is one sentence on standard error and a code of sysexits.h; a module is
imported when its command runs.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from maas_gateway.cli import keys, models, tokens
from maas_gateway.client.failure import GatewayRefused
from maas_gateway.errors import (
    GatewayError,
    IntegrityFailure,
    InvalidRequest,
    Misconfigured,
    NotFound,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)

app = typer.Typer(
    name="maas-gateway",
    help="Serve models that must not leak, to clients who are not fully trusted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
database = typer.Typer(help="The gateway's own databases.", no_args_is_help=True)
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(tokens.app, name="tokens")
app.add_typer(database, name="database")

_EXITS: Final = (
    (Misconfigured, os.EX_CONFIG),
    (InvalidRequest, os.EX_DATAERR),
    (Unauthenticated, os.EX_NOPERM),
    (PermissionDenied, os.EX_NOPERM),
    (NotFound, os.EX_NOINPUT),
    (IntegrityFailure, os.EX_DATAERR),
    (Unavailable, os.EX_UNAVAILABLE),
)
_HTTP_EXITS: Final = {
    0: os.EX_UNAVAILABLE,
    401: os.EX_NOPERM,
    403: os.EX_NOPERM,
    404: os.EX_NOINPUT,
    503: os.EX_TEMPFAIL,
}

Config = Annotated[
    Path | None, typer.Option("--config", help="A TOML file; without one, embedded defaults and MAAS_… variables hold.")
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where embedded state lives.  [default: var]")]
Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.  [default: 127.0.0.1]")]
Port = Annotated[int | None, typer.Option("--port", help="Port to listen on.  [default: 8080]")]
Workers = Annotated[int | None, typer.Option("--workers", help="Worker processes.  [default: 1]")]


@app.command()
def demo(config: Config = None, data_dir: DataDir = None, port: Port = None, workers: Workers = None) -> None:
    """Try it: make a gateway in ./var, train a model, seal it, serve it; a second start takes up where the first stopped."""
    from maas_gateway.cli.demo import run_demo

    run_demo(config, {"data_dir": data_dir, "port": port, "workers": workers})


@app.command()
def init(config: Config = None, data_dir: DataDir = None) -> None:
    """Prepare a place for a gateway: root key, databases, a first platform operator; no demo data."""
    from maas_gateway.cli.initialise import run_init

    run_init(config, {"data_dir": data_dir})


@app.command()
def serve(
    config: Config = None,
    data_dir: DataDir = None,
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
) -> None:
    """Serve; the place must have been prepared by `init`."""
    from maas_gateway.cli.serve import run_serve

    run_serve(config, {"data_dir": data_dir, "host": host, "port": port, "workers": workers})


@app.command()
def doctor(config: Config = None, data_dir: DataDir = None) -> None:
    """Check a configuration and a place; say in sentences what is unsafe or missing. Exit code 0 means nothing is."""
    from maas_gateway.cli.doctor import run_doctor

    run_doctor(config, {"data_dir": data_dir})


@database.command("upgrade")
def upgrade(config: Config = None, data_dir: DataDir = None) -> None:
    """Bring both databases to this version's schema; safe to repeat."""
    from maas_gateway.cli.initialise import run_upgrade

    run_upgrade(config, {"data_dir": data_dir})


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    """Serve models that must not leak, to clients who are not fully trusted."""
    if show:
        from maas_gateway import __version__

        typer.echo(__version__)
        raise typer.Exit


def run() -> None:
    """Run a command; turn an expected failure into a sentence and an exit code."""
    try:
        app()
    except GatewayError as error:
        _stop(error.detail, next((code for kind, code in _EXITS if isinstance(error, kind)), os.EX_SOFTWARE))
    except GatewayRefused as refused:
        _stop(refused.detail, _HTTP_EXITS.get(refused.status, os.EX_DATAERR))


def _stop(sentence: str, code: int) -> None:
    typer.echo(f"maas-gateway: {sentence}", err=True)
    sys.exit(code)
