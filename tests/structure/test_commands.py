"""Every command that the documentation names exists, with the options that it is given."""

import re
from pathlib import Path

import pytest
import typer.main

from maas_gateway.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = re.compile(r"maas-gateway((?: +[a-z][a-z-]*)+)([^`\n#]*)")


def _named() -> list[tuple[str, str, str]]:
    return [
        (page.name, match[1].strip(), match[2])
        for page in PAGES
        for match in NAMED.finditer(page.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize(("page", "words", "rest"), _named())
def test_command_in_the_documentation_exists(page: str, words: str, rest: str) -> None:
    command = typer.main.get_command(app)
    path = words.split()
    while path and hasattr(command, "commands"):
        assert path[0] in command.commands, f"{page}: there is no command '{words}'"
        command = command.commands[path.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    for option in re.findall(r"--[a-z][a-z-]*", rest):
        assert option in options | {"--help"}, f"{page}: '{words}' has no option {option}"
