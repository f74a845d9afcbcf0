"""`publisher-keys`: add, list, remove, require."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from maas_gateway.cli.remote_options import HERE, As, AsJson, Folder, Token, Url

_TEACHING = """\b
A publisher makes a key and keeps key.pem:
  openssl ecparam -name prime256v1 -genkey -noout -out key.pem
  openssl pkey -in key.pem -pubout -out public.pem

\b
An owner registers its public half:
  maas-gateway publisher-keys add release public.pem

\b
From then on the publisher signs what it uploads:
  openssl dgst -sha256 -sign key.pem -out model.sig model.keras
  maas-gateway models push model.keras MODEL VERSION --signature model.sig

\b
An owner may demand that:
  maas-gateway publisher-keys require yes
"""

app = typer.Typer(
    help="Whose signatures a tenant takes, and whether uploads must be signed.", no_args_is_help=True, epilog=_TEACHING
)


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What you call the publisher.")],
    path: Annotated[
        Path, typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="Its public key: PEM or JWK, of P-256.")
    ],
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Register a publisher's public key.

    It is what `openssl pkey -in key.pem -pubout -out public.pem` writes, of a key of P-256. The private
    key stays with the publisher.
    """
    from maas_gateway.cli.remote import connect

    try:
        text = path.read_text(encoding="utf-8")
        key = json.loads(text) if text.lstrip().startswith("{") else text
    except ValueError:
        raise typer.BadParameter(f"{path} is neither PEM nor JSON", param_hint="FILE") from None
    with connect(url, token, data_dir, role=role, default="owner") as gateway:
        added = gateway.add_publisher_key(name, key)
    typer.echo(json.dumps(added) if as_json else f"{name} is registered; its key's id is {added['key_id']}")


@app.command("list")
def list_keys(
    url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE, as_json: AsJson = False
) -> None:
    """List publishers' keys, and tell whether uploads must be signed."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="owner") as gateway:
        keys, rules = gateway.publisher_keys(), gateway.publishing_rules()
    if as_json:
        typer.echo(json.dumps({"publisher_keys": keys, **rules}))
        return
    for key in keys:
        typer.echo(f"{key['key_id']}  {key['name']}  {key['created_at']}")
    typer.echo("Uploads must be signed." if rules["requires_signature"] else "Uploads may be unsigned.")


@app.command()
def remove(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id or name.")],
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
) -> None:
    """Have a key verify no upload any more.

    Versions that it verified stay as they are.
    """
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="owner") as gateway:
        found = [known["key_id"] for known in gateway.publisher_keys() if key in {known["key_id"], known["name"]}]
        if not found:
            typer.echo(f"maas-gateway: publisher key '{key}' not found", err=True)
            sys.exit(os.EX_NOINPUT)
        gateway.remove_publisher_key(found[0])
    typer.echo(f"Publisher key {found[0]} is removed.")


@app.command()
def require(
    signed: Annotated[
        Literal["yes", "no"], typer.Argument(metavar="yes|no", help="Whether every upload must be signed.")
    ],
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
) -> None:
    """Say whether every upload must be signed, from the next one on."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="owner") as gateway:
        gateway.set_publishing_rules(requires_signature=signed == "yes")
    typer.echo("Uploads must be signed." if signed == "yes" else "Uploads may be unsigned.")
