"""`call`: any route of the management API, as who is signed in."""

import json
from pathlib import Path
from typing import Any

import typer

from maas_gateway.client.failure import GatewayRefused


def run_call(
    method: str,
    path: str,
    body: str | None,
    pick: str | None,
    *,
    whose: tuple[str | None, str | None, str | None, Path],
) -> None:
    """Send one request and print what it answers.

    Raises:
        GatewayRefused: the gateway refused it, or the answer has no such member.
    """
    from maas_gateway.cli.remote import connect

    try:
        content = None if body is None else json.loads(body)
    except ValueError as cause:
        raise typer.BadParameter(f"no JSON: {cause}") from cause
    url, token, role, data_dir = whose
    with connect(url, token, data_dir, role=role, default="owner") as gateway:
        answer = gateway.call(method.upper(), path, content)
    if pick is None:
        if answer:
            typer.echo(json.dumps(answer, indent=2))
        return
    found: Any = answer
    for name in pick.split("."):
        try:
            found = found[int(name) if isinstance(found, list) else name]
        except (KeyError, IndexError, ValueError, TypeError) as cause:
            raise GatewayRefused(404, f"the answer has no {pick}") from cause
    typer.echo(found if isinstance(found, str) else json.dumps(found))
