"""`maas-gateway`: the commands and the exit codes.

Rules: an expected failure is one sentence on standard error and a code of sysexits.h; a module is
imported when its command runs.
"""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from maas_gateway.cli import keys, models, publisher_keys, publishing_rules, tenants, tokens, users
from maas_gateway.cli.remote_options import HERE, As, Folder, Token, Url
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
app.add_typer(publisher_keys.app, name="publisher-keys")
app.add_typer(publishing_rules.app, name="publishing-rules")
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.add_typer(users.app, name="users")
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


class Part(StrEnum):
    """A part of a backup."""

    MAIN = "main"
    KEYS = "keys"
    BLOBS = "blobs"


Config = Annotated[
    Path | None, typer.Option("--config", help="A TOML file; without one, embedded defaults and MAAS_… variables hold.")
]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Where embedded state lives.  [default: var]")]
Host = Annotated[str | None, typer.Option("--host", help="Address to listen on.  [default: 127.0.0.1]")]
Port = Annotated[int | None, typer.Option("--port", help="Port to listen on.  [default: 8080]")]
Workers = Annotated[int | None, typer.Option("--workers", help="Worker processes.  [default: 1]")]
To = Annotated[Path, typer.Option("--to", help="A directory that does not exist yet, or is empty.")]
Source = Annotated[Path, typer.Option("--from", help="The directory that `backup` wrote.")]
Only = Annotated[
    list[Part] | None,
    typer.Option("--only", metavar="main|keys|blobs", help="This part alone; may be given twice.  [default: all]"),
]


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
def doctor(
    config: Config = None,
    data_dir: DataDir = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also open every sealed artifact and compare it with its manifest.")
    ] = False,
) -> None:
    """Check a configuration and a place; say in sentences what is unsafe or missing. Exit code 0 means nothing is."""
    from maas_gateway.cli.doctor import run_doctor

    run_doctor(config, {"data_dir": data_dir}, is_deep=deep)


@app.command()
def login(
    username: Annotated[str, typer.Argument(metavar="USERNAME", help="`<name>@<tenant>`.")],
    url: Annotated[str, typer.Option("--url", help="The gateway's address.")] = "http://127.0.0.1:8080",
    password: Annotated[
        str, typer.Option("--password", help="Asked for if left out.", prompt=True, hide_input=True)
    ] = "",
) -> None:
    """Sign in at a gateway, for the commands that follow; they go on as you until `logout`, or until it ends."""
    from maas_gateway.cli.login import run_login

    run_login(url.rstrip("/"), username, password)


@app.command()
def call(
    method: Annotated[str, typer.Argument(metavar="METHOD", help="GET, POST, PUT, PATCH or DELETE.")],
    path: Annotated[str, typer.Argument(metavar="PATH", help="As in the documentation page, /admin/v1/…")],
    body: Annotated[str | None, typer.Argument(metavar="JSON", help="The body.")] = None,
    pick: Annotated[str | None, typer.Option("--pick", help="Print this member only: id, owner.password, …")] = None,
    url: Url = None,
    token: Token = None,
    role: As = None,
    where: Folder = HERE,
) -> None:
    """Call any route of the management API and print its answer: `call GET /admin/v1/usage`."""
    from maas_gateway.cli.call import run_call

    run_call(method, path, body, pick, whose=(url, token, role, where))


@app.command()
def logout() -> None:
    """End the sign-in that `login` began, at the gateway too."""
    from maas_gateway.cli.login import run_logout

    run_logout()


@database.command("upgrade")
def upgrade(config: Config = None, data_dir: DataDir = None) -> None:
    """Bring both databases to this version's schema; safe to repeat."""
    from maas_gateway.cli.initialise import run_upgrade

    run_upgrade(config, {"data_dir": data_dir})


@database.command("backup")
def backup(to: To, only: Only = None, config: Config = None, data_dir: DataDir = None) -> None:
    """Copy the databases and the sealed models into a directory, while a gateway serves them.

    A backup has three parts, each whole by itself. main/ holds tenants, accounts, models, operations and the audit
    chains. keys/ holds the key store: every key, wrapped by the root key. blobs/ holds the sealed models that main names.

    Keep keys/ apart from the other two, and not for long: a key that was destroyed is gone only once the last backup
    of it is gone. Taken at different times, main comes first, keys and blobs after it.

    Never in a backup: the root key, without which none of it opens; keep a copy of that elsewhere. Nor the
    configuration, uploads that are not finished, or files with passwords that init and demo wrote.
    """
    from maas_gateway.cli.backup import run_backup

    run_backup(config, {"data_dir": data_dir}, to, only)


@database.command("restore")
def restore(source: Source, only: Only = None, config: Config = None, data_dir: DataDir = None) -> None:
    """Put a backup into a place without rows, before a gateway serves it; also from SQLite to PostgreSQL and back.

    The backup is read to its end first; what is cut, altered, or of another version's schema is refused, and so is a
    database that has rows. Each database is restored as a whole or not at all; what was killed is run again.

    The root key must be where it was, or nothing opens: put it back, and do not run init before restoring.

    What was erased after the backup was taken comes back, if its keys/ is from before too: erase it again.
    """
    from maas_gateway.cli.restore import run_restore

    run_restore(config, {"data_dir": data_dir}, source, only)


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
