"""Python environments of servers that are compared with: made once, in `.bench/`."""

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from report import PartFailed

_INSTALL_S: Final = 300


def made_environment(environment: Path, packages: Sequence[str], *, what: str) -> Path:
    """Return the interpreter of an environment, which is made if need be.

    Args:
        environment: its folder.
        packages: what pip is asked for, options included.
        what: it is, for whoever waits and for the error.

    Raises:
        PartFailed: the packages cannot be installed.
    """
    python = environment / "bin" / "python"
    is_whole = environment / ".whole"
    if is_whole.exists() and python.exists():
        return python
    print(f"Making the environment of {what} in .bench/{environment.name} …", flush=True)
    venv.create(environment, clear=True, with_pip=True)
    try:
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages],
            check=True,
            capture_output=True,
            text=True,
            timeout=_INSTALL_S,
        )
    except (subprocess.SubprocessError, OSError) as failure:
        raise PartFailed(f"{what} cannot be installed") from failure
    is_whole.write_text(f"{sys.version}\n", encoding="utf-8")
    return python
