"""An erasure's signed certificate, put into a file."""

from pathlib import Path
from typing import Any

import typer


def write_certificate(operation: dict[str, Any], path: Path, what: str) -> None:
    """Write the certificate of an erasure that has succeeded, and say what it says; leave with 1 if it has not."""
    if operation["state"] != "succeeded":
        typer.echo(f"{what}: {operation['state']}: {operation['error']}", err=True)
        raise typer.Exit(1)
    result = operation["result"]
    path.write_text(result["certificate"] + "\n", encoding="ascii")
    says = result["says"]
    typer.echo(f"{what} is erased: {len(says['keys_destroyed'])} keys destroyed, {says['n_artifacts']} artifacts gone.")
    typer.echo(f"The signed certificate is in {path}; backups of the key store from before still open what they hold.")
