"""`login`, `logout`: who the commands that follow act as."""

import typer


def run_login(url: str, username: str, password: str) -> None:
    """Sign in, and keep the sign-in for the commands that follow."""
    from maas_gateway.cli import session
    from maas_gateway.client.gateway import GatewayClient

    form = {"grant_type": "password", "username": username, "password": password}
    with GatewayClient(url, form) as gateway:
        session.keep(url, gateway.sign_in())
    typer.echo(f"Signed in at {url} as {username}; kept in {session.session_file()} until `maas-gateway logout`.")


def run_logout() -> None:
    """End the sign-in."""
    from maas_gateway.cli import session

    typer.echo("Signed out." if session.end() else "Nobody was signed in.")
