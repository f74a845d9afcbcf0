"""`tenants`: create, list, suspend, resume, erase."""

import json
from pathlib import Path
from typing import Annotated

import typer

from maas_gateway.cli.remote_options import HERE, As, AsJson, Folder, Token, Url

app = typer.Typer(help="Tenants of a running gateway; for a platform operator.", no_args_is_help=True)

Slug = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's name in usernames.")]


@app.command()
def create(
    slug: Slug,
    owner: Annotated[str, typer.Option("--owner", help="The first owner's name, before the @.")] = "owner",
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Onboard a tenant; its first owner's password is told this once."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="operator") as gateway:
        made = gateway.onboard(slug, owner)
    if as_json:
        typer.echo(json.dumps(made))
        return
    typer.echo(f"Tenant {slug} is there. Its owner signs in as {made['owner']['username']}")
    typer.echo(f"with the password {made['owner']['password']}, which is told this once.")


@app.command("list")
def list_tenants(
    url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE, as_json: AsJson = False
) -> None:
    """List tenants and their state."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="operator") as gateway:
        found = gateway.tenants()
    if as_json:
        typer.echo(json.dumps(found))
        return
    for tenant in found:
        typer.echo(f"{tenant['slug']}  {tenant['state']}  since {tenant['created_at']}")


@app.command()
def suspend(slug: Slug, url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE) -> None:
    """Have none of a tenant's principals act, until it is resumed."""
    _act(slug, "suspend", "suspended", url=url, token=token, role=role, data_dir=data_dir)


@app.command()
def resume(slug: Slug, url: Url = None, token: Token = None, role: As = None, data_dir: Folder = HERE) -> None:
    """Have a suspended tenant's principals act again."""
    _act(slug, "resume", "active again", url=url, token=token, role=role, data_dir=data_dir)


@app.command()
def erase(
    slug: Slug,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Where the signed certificate goes.")] = None,
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
) -> None:
    """Erase a tenant for good: its keys first, then models, accounts and blobs. Writes a signed certificate."""
    from maas_gateway.cli.certificate import write_certificate
    from maas_gateway.cli.following import follow
    from maas_gateway.cli.remote import connect

    if not yes:
        typer.confirm(f"Erase tenant {slug} with all its models, for ever?", abort=True)
    with connect(url, token, data_dir, role=role, default="operator") as gateway:
        operation = follow(gateway, gateway.tenant_act(slug, "erase"), f"Erasing {slug}", as_json=False)
    write_certificate(operation, out or Path(f"erasure-{slug}.jws"), f"tenant {slug}")


def _act(
    slug: str, verb: str, done: str, *, url: str | None, token: str | None, role: str | None, data_dir: Path
) -> None:
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="operator") as gateway:
        gateway.tenant_act(slug, verb)
    typer.echo(f"Tenant {slug} is {done}.")
