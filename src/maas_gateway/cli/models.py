"""`models`: push, list, promote, label, erase."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from maas_gateway.cli.remote_options import HERE, As, AsJson, Folder, Token, Url

app = typer.Typer(help="Models of a running gateway.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
Number = Annotated[int, typer.Argument(metavar="VERSION", help="The version's number, from 1.")]


_SIGNED = """\b
Sign the file before, with a key whose public half an owner has registered:
  openssl dgst -sha256 -sign key.pem -out model.sig model.keras
  maas-gateway models push model.keras MODEL VERSION --signature model.sig

\b
or, with OpenSSF model signing (pip install model-signing):
  model_signing sign key model.keras --private_key key.pem --signature model.json
  maas-gateway models push model.keras MODEL VERSION --bundle model.json

How to make and register a key: maas-gateway publisher-keys --help
"""


@app.command(epilog=_SIGNED)
def push(
    path: Annotated[Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A .keras file.")],
    model: Name,
    version: Number,
    signature: Annotated[
        Path | None,
        typer.Option(
            "--signature", exists=True, dir_okay=False, help="The publisher's signature, as openssl wrote it."
        ),
    ] = None,
    key_id: Annotated[
        str | None, typer.Option("--key-id", help="Which registered key made it.  [default: whichever verifies it]")
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", exists=True, dir_okay=False, help="The same as an OpenSSF model-signing bundle."),
    ] = None,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Upload a model as a version; it is scanned, converted, compared and sealed, and serves once promoted."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from maas_gateway.cli.remote import connect

    signed = _signed(signature, key_id, bundle)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with (
        connect(url, token, data_dir, role=role, default="publisher") as gateway,
        Progress(*columns, disable=as_json) as bar,
    ):
        task = bar.add_task(f"Pushing {path.name}", total=path.stat().st_size)

        def tell(n_bytes: int) -> None:
            bar.advance(task, n_bytes)
            if bar.finished:
                bar.update(task, description="Scanning, converting, sealing")

        staged = gateway.push(path, model, version, tell, key_id=key_id, **signed)
    if as_json:
        typer.echo(json.dumps(staged))
    else:
        _tell(staged)


def _tell(staged: dict[str, Any]) -> None:
    name, error = f"{staged['model']} version {staged['version']}", staged["plan"]["max_relative_error"]
    typer.echo(f"{name} is {staged['stage']}, sealed; it answers as the original within {error:.0e}.")
    if staged["publisher"]:
        typer.echo(f"Signed by {staged['publisher']['name']} (key {staged['publisher']['key_id']}).")
    if staged["stage"] == "staged":
        typer.echo(f"Next: maas-gateway models promote {staged['model']} {staged['version']}")


def _signed(signature: Path | None, key_id: str | None, bundle: Path | None) -> dict[str, bytes]:
    if bundle is not None and (signature is not None or key_id is not None):
        raise typer.BadParameter("a bundle names its key and holds its signature: give no other", param_hint="--bundle")
    if key_id is not None and signature is None:
        raise typer.BadParameter("of which signature? give --signature too", param_hint="--key-id")
    files = {"signature": signature, "bundle": bundle}
    return {name: path.read_bytes() for name, path in files.items() if path is not None}


@app.command("list")
def list_models(
    url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE, as_json: AsJson = False
) -> None:
    """List models, their versions and labels."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="publisher") as gateway:
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

    with connect(url, token, data_dir, role=role, default="publisher") as gateway:
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

    with connect(url, token, data_dir, role=role, default="publisher") as gateway:
        gateway.label(model, name, version)
    typer.echo(f"{model} label '{name}' points at version {version}.")


@app.command()
def erase(
    model: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Where the signed certificate goes.")] = None,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
) -> None:
    """Erase a model for good: its keys first, then its versions and blobs. Writes a signed certificate."""
    from maas_gateway.cli.certificate import write_certificate
    from maas_gateway.cli.following import follow
    from maas_gateway.cli.remote import connect

    if not yes:
        typer.confirm(f"Erase model {model} with all its versions, for ever?", abort=True)
    with connect(url, token, data_dir, role=role, default="owner") as gateway:
        operation = follow(gateway, gateway.erase_model(model), f"Erasing {model}", as_json=False)
    write_certificate(operation, out or Path(f"erasure-{model}.jws"), f"model {model}")
