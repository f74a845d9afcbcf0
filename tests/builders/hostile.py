"""What every hostile file of the suite is: bytes that would do something observable and harmless, and what stops them.

`hostile_<format>.HOSTILE` lists a format's files; `all_hostile` collects those of every format there is.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import builders


@dataclass(frozen=True)
class Scene:
    """Where an attack would show.

    Attributes:
        folder: an empty folder outside of everything that a loader is given.
    """

    folder: Path

    @property
    def marker(self) -> Path:
        """Return the file that a payload would create."""
        return self.folder / "marker"

    @property
    def secret(self) -> Path:
        """Return a file of `SECRET` that a payload would read."""
        return self.folder / "secret"

    @property
    def saved_model(self) -> Path:
        """Return the folder of a foreign SavedModel that a payload would load."""
        return self.folder / "foreign"


SECRET = b"secret-0123456789-secret-0123456789-secret-0123456789\n"
"""48 bytes and more: enough to fill the weights of a small layer."""


@dataclass(frozen=True)
class Hostile:
    """One hostile file.

    Attributes:
        name: its file name; the ending says which scanner is asked.
        about: what it would do, and where it comes from.
        build: makes its bytes for a scene.
        rule: the rule that stops it, or for `child` a part of the sentence.
        where: what the finding's place begins with; nothing for `child`, which has no places.
        stage: who stops it: the static scanner, or the confined child.
        live_in: Keras releases in which the payload is effective. None: has not been tried.
    """

    name: str
    about: str
    build: Callable[[Scene], bytes]
    rule: str
    where: str
    stage: Literal["static", "child"] = "static"
    live_in: frozenset[str] | None = None


def all_hostile() -> dict[str, tuple[Hostile, ...]]:
    """Return the hostile files of every format that has a module `hostile_<format>` with `HOSTILE`."""
    found = {}
    for module in pkgutil.iter_modules(builders.__path__):
        if module.name.startswith("hostile_"):
            listed = getattr(importlib.import_module(f"builders.{module.name}"), "HOSTILE", None)
            if listed is not None:
                found[module.name.removeprefix("hostile_")] = tuple(listed)
    return found
