"""`publishing-rules`: show, set."""

import json
from typing import Annotated, Literal

import typer

from maas_gateway.cli.remote_options import HERE, As, AsJson, Folder, Token, Url

YesOrNo = Literal["yes", "no"]

app = typer.Typer(help="What a tenant demands of uploads and promotions.", no_args_is_help=True)


@app.command()
def show(
    url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE, as_json: AsJson = False
) -> None:
    """Tell what the tenant demands."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="owner") as gateway:
        _tell(gateway.publishing_rules(), as_json=as_json)


@app.command("set")
def set_rules(
    signature: Annotated[
        YesOrNo | None, typer.Option("--signature", help="Whether every upload must be signed with a registered key.")
    ] = None,
    second_person: Annotated[
        YesOrNo | None,
        typer.Option("--second-person", help="Whether who releases or promotes must be another than who uploaded."),
    ] = None,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Say what the tenant demands, from the next act on; what is left out stays as it is."""
    from maas_gateway.cli.remote import connect

    said = {"requires_signature": signature, "requires_second_person": second_person}
    rules = {name: answer == "yes" for name, answer in said.items() if answer is not None}
    if not rules:
        raise typer.BadParameter("say which rule: --signature yes|no, --second-person yes|no")
    with connect(url, token, data_dir, role=role, default="owner") as gateway:
        _tell(gateway.set_publishing_rules(**rules), as_json=as_json)


def _tell(rules: dict[str, bool], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rules))
        return
    typer.echo("Uploads must be signed." if rules["requires_signature"] else "Uploads may be unsigned.")
    typer.echo(
        "Who releases or promotes a version must be another than who uploaded it."
        if rules["requires_second_person"]
        else "Who uploaded a version may release and promote it."
    )
