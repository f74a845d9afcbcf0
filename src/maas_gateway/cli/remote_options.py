"""The options of every command that speaks to a running gateway."""

from pathlib import Path
from typing import Annotated

import typer

Url = Annotated[str | None, typer.Option("--url", help="The gateway's address.  [default: of first-run.json]")]
Token = Annotated[
    str | None,
    typer.Option("--token", help="An access token or API key; without one, `login` or first-run.json signs in."),
]
As = Annotated[
    str | None, typer.Option("--as", help="Whose credential of first-run.json: operator, owner, publisher or invoker.")
]
Folder = Annotated[Path, typer.Option("--data-dir", help="Where first-run.json lies, on the gateway's own machine.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

HERE = Path("var")
