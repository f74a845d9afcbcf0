"""Reads a Dockerfile: just as much of its language as ours uses.

Source: Dockerfile reference, "Format", "Parser directives", "Shell and exec form".
"""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        name: in capitals.
        flags: what stands behind `--`, by name.
        rest: everything behind the flags, continued lines joined.
        stage: the number of the build stage that it belongs to.
    """

    name: str
    flags: dict[str, str]
    rest: str
    stage: int

    @property
    def words(self) -> list[str]:
        """The arguments: of the JSON form if it is one, else split as a shell splits."""
        return json.loads(self.rest) if self.rest.startswith("[") else shlex.split(self.rest)


def read_dockerfile(path: Path) -> list[Instruction]:
    """Return the instructions in their order."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: list[Instruction] = []
    stage = -1
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        if not line.strip():
            continue
        name, _, rest = line.strip().partition(" ")
        flags: dict[str, str] = {}
        while (flag := re.match(r"--([a-z-]+)=(\S+)\s+", rest)) is not None:
            flags[flag[1]] = flag[2]
            rest = rest[flag.end() :]
        stage += name.upper() == "FROM"
        found.append(Instruction(name.upper(), flags, rest.strip(), stage))
    return found
