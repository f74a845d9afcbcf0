"""`models`: scan, push, list, show, release, promote, retire, label, delete, rescan, erase."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from maas_gateway.cli.remote_options import HERE, As, AsJson, Folder, Token, Url
from maas_gateway.errors import ModelNotFound

app = typer.Typer(help="Models of a running gateway.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
Form = Annotated[
    str | None, typer.Option("--format", help="keras, savedmodel, tflite or onnx.  [default: told from the content]")
]
Sample = Annotated[
    Path | None,
    typer.Option(
        "--sample",
        exists=True,
        dir_okay=False,
        help="Real rows to compare the model's forms on, too: what would be sent to /v2/…/infer, as JSON. Not kept.",
    ),
]
_FILE = "A .keras, .tflite or .onnx file, or a SavedModel: packed, or its folder."
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


@app.command()
def scan(
    path: Annotated[Path, typer.Argument(metavar="FILE", help=_FILE)],
    form: Form = None,
    as_json: AsJson = False,
) -> None:
    """Tell what the gateway's scanner says of a file; no gateway is needed.

    Exit code 0: it would be taken, into quarantine if a person is asked for. 65: it is refused. 66: there is no such file.
    """
    from maas_gateway.cli.scan import run_scan

    code = run_scan(path, form, as_json=as_json)
    if code:
        raise typer.Exit(code)


@app.command(epilog=_SIGNED)
def push(
    path: Annotated[Path, typer.Argument(metavar="FILE", exists=True, help=_FILE)],
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
    sample: Sample = None,
    form: Form = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            "--runtime", help="What serves it: litert, onnx, openvino, keras or tensorflow.  [default: the best]"
        ),
    ] = None,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Upload a model as a version; it is scanned, converted, compared and sealed, and serves once promoted.

    Where a scanner asks for a person, it waits in quarantine until somebody releases it.
    """
    from maas_gateway.cli.following import sending
    from maas_gateway.cli.model_files import ModelFile
    from maas_gateway.cli.remote import connect

    sent = {**_signed(signature, key_id, bundle), **_sampled(sample)}
    with ExitStack() as held:
        file = held.enter_context(ModelFile(path))
        found = file.format(form)
        gateway = held.enter_context(connect(url, token, data_dir, role=role, default="publisher"))
        tell = held.enter_context(sending(file.name, file.size_bytes, is_silent=as_json))
        staged = gateway.push(file, model, version, tell, form=found, runtime=runtime, key_id=key_id, **sent)
    if as_json:
        typer.echo(json.dumps(staged))
    else:
        _tell(staged)


def _tell(staged: dict[str, Any]) -> None:
    from maas_gateway.cli.version_texts import next_step, print_version

    print_version(staged)
    following = next_step(staged)
    if following:
        typer.echo(following)


def _signed(signature: Path | None, key_id: str | None, bundle: Path | None) -> dict[str, bytes]:
    if bundle is not None and (signature is not None or key_id is not None):
        raise typer.BadParameter("a bundle names its key and holds its signature: give no other", param_hint="--bundle")
    if key_id is not None and signature is None:
        raise typer.BadParameter("of which signature? give --signature too", param_hint="--key-id")
    files = {"signature": signature, "bundle": bundle}
    return {name: path.read_bytes() for name, path in files.items() if path is not None}


def _sampled(sample: Path | None) -> dict[str, bytes]:
    if sample is None:
        return {}
    content = sample.read_bytes()
    if not content:
        raise typer.BadParameter("the file is empty", param_hint="--sample")
    return {"sample": content}


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
            forms = "+".join(plan["runtime"] for plan in version["plans"])
            n_findings = len(version["findings"])
            noted = f"{n_findings} finding{'s' if n_findings > 1 else ''}" if n_findings else ""
            columns = (model["name"], version["version"], version["stage"], f"{version['size_bytes']} B", forms)
            typer.echo("  ".join(str(column) for column in (*columns, labels, noted) if column != ""))
    if not found:
        typer.echo("No models yet. Push one: maas-gateway models push FILE MODEL 1")


@app.command()
def show(
    model: Name,
    version: Annotated[int | None, typer.Argument(metavar="VERSION", help="One version.  [default: all]")] = None,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Show a model's versions: stage, findings, who released it, and the forms in which it can be served."""
    from maas_gateway.cli.remote import connect
    from maas_gateway.cli.version_texts import print_version

    with connect(url, token, data_dir, role=role, default="publisher") as gateway:
        found = gateway.model(model)
    versions = [known for known in found["versions"] if version in {None, known["version"]}]
    if not versions and version is not None:
        raise ModelNotFound(f"model '{model}/versions/{version}' not found")
    if as_json:
        typer.echo(json.dumps({**found, "versions": versions}))
        return
    for known in versions:
        print_version(known, [label for label, to in found["labels"].items() if to == known["version"]])


@app.command()
def release(
    model: Name,
    version: Number,
    reason: Annotated[str, typer.Option("--reason", help="Why it is good, for the record.")] = "",
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
) -> None:
    """Let a version out of quarantine, because you have looked at its findings."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="publisher") as gateway:
        released = gateway.release(model, version, reason)
    typer.echo(f"{model} version {version} is {released['stage']}, released.")


@app.command()
def retire(
    model: Name,
    version: Number,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
) -> None:
    """Have a version serve no longer; it can be promoted again."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="publisher") as gateway:
        gateway.retire(model, version)
    typer.echo(f"{model} version {version} is retired.")


@app.command()
def delete(
    model: Name,
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", help="The version.  [default: the model, which has none]")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
) -> None:
    """Delete a version that does not serve, for good; or a model that has no version left."""
    from maas_gateway.cli.remote import connect

    what = model if version is None else f"{model} version {version}"
    if not yes:
        typer.confirm(f"Delete {what}, for ever?", abort=True)
    with connect(url, token, data_dir, role=role, default="publisher") as gateway:
        gateway.delete(model, version)
    typer.echo(f"{what} is deleted.")


@app.command()
def rescan(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only look, and tell what would be done.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Quarantine what serves too, where a person is newly asked for.")
    ] = False,
    all_tenants: Annotated[
        bool, typer.Option("--all-tenants", help="As an operator: everybody's; numbers only.")
    ] = False,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Look at every stored version again with today's rules; what they refuse is taken out of serving, into quarantine."""
    from maas_gateway.cli.following import follow
    from maas_gateway.cli.remote import connect
    from maas_gateway.cli.version_texts import print_rescan

    with connect(url, token, data_dir, role=role, default="operator" if all_tenants else "owner") as gateway:
        operation = gateway.rescan(is_strict=strict, is_dry_run=dry_run, is_everywhere=all_tenants)
        operation = follow(gateway, operation, "Looking again", as_json=as_json)
    if as_json:
        typer.echo(json.dumps(operation))
    else:
        print_rescan(operation)
    if operation["state"] != "succeeded":
        raise typer.Exit(1)


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
