"""`tokens`: issue, revoke."""

from typing import Annotated

import typer

from maas_gateway.cli.remote_options import HERE, As, Folder, Token, Url

app = typer.Typer(help="Access tokens of a running gateway.", no_args_is_help=True)


@app.command()
def issue(url: Url = None, role: As = None, data_dir: Folder = HERE) -> None:
    """Print an access token for an account of first-run.json; for `$(…)` in a command line."""
    from maas_gateway.cli.remote import connect

    with connect(url, None, data_dir, role=role, default="invoker") as gateway:
        typer.echo(gateway.token())


@app.command()
def revoke(
    text: Annotated[str, typer.Argument(metavar="TOKEN", help="An access token, or a refresh token with its sign-in.")],
    url: Url = None,
    token: Token = None,
    role: As = None,
    data_dir: Folder = HERE,
) -> None:
    """Have a token of yours be worth nothing, in every process within a second."""
    from maas_gateway.cli.remote import connect

    with connect(url, token, data_dir, role=role, default="owner") as gateway:
        gateway.revoke(text)
    typer.echo("It is worth nothing, if it was yours to end.")
