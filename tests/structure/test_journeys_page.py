"""docs/journeys.md is the one map from concepts to files, so every file that it names is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_file_that_the_journeys_name_exists() -> None:
    named = set(re.findall(r"`((?:src|migrations)/[\w./]+)`", (ROOT / "docs/journeys.md").read_text()))
    assert len(named) > 30
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_every_room_stands_in_the_architecture() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    rooms = {
        path.stem
        for path in (ROOT / "src/maas_gateway").iterdir()
        if path.name not in {"__init__.py", "__pycache__", "py.typed"}
    }
    assert [room for room in sorted(rooms) if f"`{room}`" not in text] == []
