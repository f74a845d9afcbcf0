"""`tokens`: issue."""

import typer

from maas_gateway.cli.remote_options import HERE, As, Folder, Url

app = typer.Typer(help="Access tokens of a running gateway.", no_args_is_help=True)


@app.command()
def issue(url: Url = None, role: As = None, data_dir: Folder = HERE) -> None:
    """Print an access token for an account of first-run.json; for `$(…)` in a command line."""
    from maas_gateway.cli.remote import connect

    with connect(url, None, data_dir, role=role or "invoker") as gateway:
        typer.echo(gateway.token())


@app.callback()
def only_commands() -> None:
    """Keep `issue` a command of its own."""
