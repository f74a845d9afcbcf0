"""`keys`: list, rotate, reseal, cancel, retire, destroy."""

import json
from typing import Annotated, Any

import typer

from maas_gateway.cli.remote_options import HERE, As, AsJson, Folder, Token, Url

app = typer.Typer(help="Keyrings of a running gateway.", no_args_is_help=True)

Purpose = Annotated[
    str,
    typer.Argument(
        metavar="PURPOSE",
        help="root, token-signing, statements, audit, console-sessions (operator); artifacts, audit (owner).",
    ),
]
Number = Annotated[int, typer.Argument(metavar="VERSION", help="The key version's number.")]


def _default(purpose: str | None) -> str:
    """Return whose key ring that is."""
    return "operator" if purpose in {"root", "token-signing", "statements", "console-sessions"} else "owner"


@app.command("list")
def list_keyrings(
    url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE, as_json: AsJson = False
) -> None:
    """List keyrings: versions, states, and what still uses each. `--as operator` lists the platform's."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default=_default(None)) as gateway:
        found = gateway.keyrings()
    if as_json:
        typer.echo(json.dumps(found))
        return
    for ring in found:
        for version in ring["versions"]:
            typer.echo(f"{ring['purpose']}  {version['version']}  {version['state']}  {version['uses']} in use")


@app.command()
def rotate(
    purpose: Purpose,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be rewrapped.")] = False,
    holder: Annotated[
        str | None,
        typer.Option("--holder", help="Of root: move it to this holder: file, passphrase, kms, transit, pkcs11."),
    ] = None,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Give a keyring a new primary and rewrap what the old one wraps, while requests go on. Blobs are not touched."""
    from maas_gateway.cli.following import follow
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default=_default(purpose)) as gateway:
        operation = gateway.rotate(purpose, is_dry_run=dry_run, holder=holder)
        operation = follow(gateway, operation, f"Rotating {purpose}", as_json=as_json)
    _tell(operation, as_json=as_json, dry_run=dry_run, done="rewrapped", subject=purpose)


@app.command()
def reseal(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be resealed.")] = False,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Give every artifact of the tenant a new data key and a new blob: for a data key that may have leaked."""
    from maas_gateway.cli.following import follow
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="owner") as gateway:
        operation = gateway.reseal(is_dry_run=dry_run)
        operation = follow(gateway, operation, "Resealing artifacts", as_json=as_json)
    _tell(operation, as_json=as_json, dry_run=dry_run, done="resealed", subject="artifacts")


@app.command()
def cancel(
    operation: Annotated[str, typer.Argument(metavar="OPERATION", help="The operation's id.")],
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
) -> None:
    """Have a rotation or resealing stop at its next step; what it has done stays."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="owner") as gateway:
        gateway.cancel(operation)
    typer.echo(f"Operation {operation} is cancelled; rotating again goes on from there.")


@app.command()
def retire(
    purpose: Purpose, version: Number, url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE
) -> None:
    """Have an old version open and verify nothing any more; refused while anything needs it."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default=_default(purpose)) as gateway:
        gateway.end_key(purpose, version, "retire")
    typer.echo(f"{purpose} version {version} is disabled.")


@app.command()
def destroy(
    purpose: Purpose, version: Number, url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE
) -> None:
    """Delete a retired version for ever; refused while anything needs it."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default=_default(purpose)) as gateway:
        gateway.end_key(purpose, version, "destroy")
    typer.echo(f"{purpose} version {version} is destroyed.")


def _tell(operation: dict[str, Any], *, as_json: bool, dry_run: bool, done: str, subject: str) -> None:
    if as_json:
        typer.echo(json.dumps(operation))
    elif dry_run:
        typer.echo(f"{operation['total']} items would be {done}.")
    elif operation["state"] == "succeeded":
        typer.echo(f"{subject}: succeeded; {operation['done']} items {done}.")
    else:
        typer.echo(f"{subject}: {operation['state']}: {operation['error'] or 'it was stopped'}", err=True)
    if operation["state"] in {"failed", "cancelled"}:
        raise typer.Exit(1)
