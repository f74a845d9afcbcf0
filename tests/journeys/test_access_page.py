"""`docs/access.md` is true: its commands run in their order, on a place that a demo has made."""

import json
import re
import subprocess
from pathlib import Path

from builders.processes import PROGRAM, environment, serving

PAGE = Path(__file__).parents[2] / "docs" / "access.md"


def test_every_command_of_the_access_page_does_what_it_says(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 5
    with serving(tmp_path / "var", command="demo") as served:
        example = json.loads((tmp_path / "var" / "first-run.json").read_text())["example"]
        variables = {
            "PATH": f"{Path(PROGRAM).parent}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "URL": served.url,
            "EXAMPLE": json.dumps(example),
        }
        script = "set -eu\n" + "".join(f"echo '--- {number}'\n{block}" for number, block in enumerate(blocks))
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment(**variables),
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Signed in" in done.stdout
    assert '"predictions"' in done.stdout
    assert "bob  publisher" in done.stdout
    assert "Signed out." in done.stdout
    assert not (tmp_path / ".config" / "maas-gateway" / "session.json").exists()
    for folder in tmp_path.rglob("session.json"):
        raise AssertionError(folder)
