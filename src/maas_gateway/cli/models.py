"""`models`: push, list, promote, label."""

import json
from pathlib import Path
from typing import Annotated

import typer

from maas_gateway.cli.remote_options import HERE, As, AsJson, Folder, Token, Url

app = typer.Typer(help="Models of a running gateway.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
Number = Annotated[int, typer.Argument(metavar="VERSION", help="The version's number, from 1.")]


@app.command()
def push(
    path: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A .keras file.")],
    model: Name,
    version: Number,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Upload a model as a version; it is scanned, converted, compared and sealed, and serves once promoted."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from maas_gateway.cli.remote import connect

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with connect(url, token, data_dir, role=role or "publisher") as gateway, Progress(*columns, disable=as_json) as bar:
        task = bar.add_task(f"Pushing {path.name}", total=path.stat().st_size)

        def tell(n_bytes: int) -> None:
            bar.advance(task, n_bytes)
            if bar.finished:
                bar.update(task, description="Scanning, converting, sealing")

        staged = gateway.push(path, model, version, tell)
    if as_json:
        typer.echo(json.dumps(staged))
        return
    error = staged["plan"]["max_relative_error"]
    typer.echo(
        f"{model} version {version} is {staged['stage']}, sealed; it answers as the original within {error:.0e}."
    )
    if staged["stage"] == "staged":
        typer.echo(f"Next: maas-gateway models promote {model} {version}")


@app.command("list")
def list_models(
    url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE, as_json: AsJson = False
) -> None:
    """List models, their versions and labels."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role or "publisher") as gateway:
        found = gateway.models()
    if as_json:
        typer.echo(json.dumps(found))
        return
    for model in found:
        for version in model["versions"]:
            labels = ", ".join(label for label, to in model["labels"].items() if to == version["version"])
            typer.echo(
                f"{model['name']}  {version['version']}  {version['stage']}  {version['size_bytes']} B  {labels}"
            )
    if not found:
        typer.echo("No models yet. Push one: maas-gateway models push FILE MODEL 1")


@app.command()
def promote(
    model: Name,
    version: Number,
    exclusive: Annotated[
        bool, typer.Option("--exclusive", help="Retire every other version in the same step.")
    ] = False,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
) -> None:
    """Have a version serve."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role or "publisher") as gateway:
        gateway.promote(model, version, is_exclusive=exclusive)
    typer.echo(f"{model} version {version} serves.")


@app.command()
def label(
    model: Name,
    name: Annotated[str, typer.Argument(metavar="LABEL", help="The label.")],
    version: Number,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
) -> None:
    """Point a label at a serving version."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role or "publisher") as gateway:
        gateway.label(model, name, version)
    typer.echo(f"{model} label '{name}' points at version {version}.")
