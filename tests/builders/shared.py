"""What is dear to make is made once a test session, by whichever worker comes first."""

import fcntl
from collections.abc import Callable
from pathlib import Path


def built_once(shared: Path, name: str, build: Callable[[Path], None]) -> Path:
    """Return the folder `name` that `build` has filled.

    Args:
        shared: what all workers of a test session share.
        name: of the folder; one for each thing that is built.
        build: fills an empty folder.
    """
    folder = shared / name
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "is-whole").exists():
            folder.mkdir(exist_ok=True)
            build(folder)
            (folder / "is-whole").touch()
    return folder
