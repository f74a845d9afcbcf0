"""`keys`: list, rotate, retire, destroy."""

import json
from typing import Annotated

import typer

from maas_gateway.cli.remote_options import HERE, As, AsJson, Folder, Token, Url

app = typer.Typer(help="Keyrings of a running gateway.", no_args_is_help=True)

Purpose = Annotated[str, typer.Argument(metavar="PURPOSE", help="root, token-signing (operator) or artifacts (owner).")]
Number = Annotated[int, typer.Argument(metavar="VERSION", help="The key version's number.")]


def _role(purpose: str | None, role: str | None) -> str:
    """Return whose key ring that is, unless the caller says."""
    return role or ("operator" if purpose in {"root", "token-signing"} else "owner")


@app.command("list")
def list_keyrings(
    url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE, as_json: AsJson = False
) -> None:
    """List keyrings: versions, states, and what still uses each. `--as operator` lists the platform's."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=_role(None, role)) as gateway:
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
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Give a keyring a new primary and rewrap what the old one wraps, while requests go on."""
    import time

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from maas_gateway.cli.remote import connect

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        connect(url, token, data_dir, role=_role(purpose, role)) as gateway,
        Progress(*columns, disable=as_json) as bar,
    ):
        operation = gateway.rotate(purpose, is_dry_run=dry_run)
        task = bar.add_task(f"Rotating {purpose}", total=operation["total"])
        while operation["state"] == "running":
            bar.update(task, completed=operation["done"], total=operation["total"])
            time.sleep(0.5)
            operation = gateway.operation(operation["id"])
        bar.update(task, completed=operation["done"], total=operation["total"])
    if as_json:
        typer.echo(json.dumps(operation))
    elif dry_run:
        typer.echo(f"{operation['total']} items would be rewrapped.")
    else:
        typer.echo(f"{purpose}: {operation['state']}; {operation['done']} items rewrapped.")
    if operation["state"] == "failed":
        raise typer.Exit(1)


@app.command()
def retire(
    purpose: Purpose, version: Number, url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE
) -> None:
    """Have an old version open and verify nothing any more; refused while anything needs it."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=_role(purpose, role)) as gateway:
        gateway.end_key(purpose, version, "retire")
    typer.echo(f"{purpose} version {version} is disabled.")


@app.command()
def destroy(
    purpose: Purpose, version: Number, url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE
) -> None:
    """Delete a retired version for ever; refused while anything needs it."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=_role(purpose, role)) as gateway:
        gateway.end_key(purpose, version, "destroy")
    typer.echo(f"{purpose} version {version} is destroyed.")
