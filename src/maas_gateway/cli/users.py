"""`users`: add, list, disable, enable, reset-password, remove."""

import json
from typing import Annotated, Any

import typer

from maas_gateway.cli.remote_options import HERE, As, AsJson, Folder, Token, Url

app = typer.Typer(help="People of your tenant, at a running gateway.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The part of the username before the @.")]


@app.command()
def add(
    name: Name,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", help="owner, publisher, invoker, auditor or key-custodian; may be given several times."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Bind the roles to this model only.")] = None,
    url: Url = None,
    token: Token = None,
    who: As = None,
    data_dir: Folder = HERE,
    as_json: AsJson = False,
) -> None:
    """Make a user; the password is told this once, and is theirs to change."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=who, default="owner") as gateway:
        made = gateway.add_user(name)
        for each in role or ():
            gateway.bind(made["id"], each, model)
    if as_json:
        typer.echo(json.dumps(made))
        return
    where = f" on model {model}" if model else ""
    typer.echo(f"{name} is there, {', '.join(role) + where if role else 'without a role'}.")
    typer.echo(f"The password is {made['password']}; it is told this once.")


@app.command("list")
def list_users(
    url: Url = None, token: Token = None, who: As = None, data_dir: Folder = HERE, as_json: AsJson = False
) -> None:
    """List users and their roles."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=who, default="owner") as gateway:
        users, bindings = gateway.users(), gateway.bindings()
    roles: dict[str, list[str]] = {}
    for bound in bindings:
        where = f" on {bound['model']}" if bound.get("model") else ""
        roles.setdefault(bound["subject"], []).append(f"{bound['role']}{where}")
    if as_json:
        typer.echo(json.dumps([{**user, "roles": roles.get(user["id"], [])} for user in users]))
        return
    for user in users:
        state = "" if user["enabled"] else "  (disabled)"
        typer.echo(f"{user['name']}  {', '.join(roles.get(user['id'], ['no role']))}{state}")


@app.command()
def disable(name: Name, url: Url = None, token: Token = None, who: As = None, data_dir: Folder = HERE) -> None:
    """Have a user not act any more, until enabled again; their tokens are worth nothing within a second."""
    _change(name, url=url, token=token, who=who, data_dir=data_dir, is_enabled=False)


@app.command()
def enable(name: Name, url: Url = None, token: Token = None, who: As = None, data_dir: Folder = HERE) -> None:
    """Have a disabled user act again."""
    _change(name, url=url, token=token, who=who, data_dir=data_dir, is_enabled=True)


@app.command("reset-password")
def reset_password(name: Name, url: Url = None, token: Token = None, who: As = None, data_dir: Folder = HERE) -> None:
    """Give a user a new password, told this once; every sign-in of theirs ends."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=who, default="owner") as gateway:
        password = gateway.reset_password(gateway.user_named(name)["id"])
    typer.echo(f"The password of {name} is {password}; it is told this once.")


@app.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    token: Token = None,
    who: As = None,
    data_dir: Folder = HERE,
) -> None:
    """Delete a user with their roles and API keys."""
    from maas_gateway.cli.remote import connect

    if not yes:
        typer.confirm(f"Delete {name} with all roles and API keys?", abort=True)
    with connect(url, token, data_dir, role=who, default="owner") as gateway:
        gateway.remove_user(gateway.user_named(name)["id"])
    typer.echo(f"{name} is gone.")


def _change(name: str, *, is_enabled: bool, **whose: Any) -> None:
    from maas_gateway.cli.remote import connect

    with connect(whose["url"], whose["token"], whose["data_dir"], role=whose["who"], default="owner") as gateway:
        gateway.enable_user(gateway.user_named(name)["id"], is_enabled=is_enabled)
    typer.echo(f"{name} is {'enabled' if is_enabled else 'disabled'}.")
