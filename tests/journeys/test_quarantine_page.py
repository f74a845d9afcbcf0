"""`docs/quarantine.md` is true: its commands run in their order, on a place that a demo has made."""

import asyncio
import re
import subprocess
from pathlib import Path

import pytest

from builders.models import DemoModel, with_idle_layer
from builders.processes import PROGRAM, environment, serving

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PAGE = Path(__file__).parents[2] / "docs" / "quarantine.md"


async def test_every_command_of_the_quarantine_page_does_what_it_says(tmp_path: Path, demo: DemoModel) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 4
    (tmp_path / "odd.keras").write_bytes(with_idle_layer(demo.seed.archive))
    with serving(tmp_path / "var", command="demo"):
        done = await asyncio.to_thread(_run, blocks, tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    for sentence in (
        "unreached-layer",
        "1 row of the publisher's sample",
        "fraud version 1: quarantined",
        "Next, once somebody has looked at the findings: maas-gateway models release fraud 1",
        "not yet: exit code 65",
        "fraud version 1 is staged, released.",
        "fraud version 1 serves.",
        "fraud version 1 is deleted.",
        "fraud is deleted.",
        "Who releases or promotes a version must be another than who uploaded it.",
        "your own upload: exit code 77",
        "0 would be brought into quarantine",
        "0 brought into quarantine",
    ):
        assert sentence in said, f"{sentence}\n{said}"


def _run(blocks: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the page's commands in one shell, as a reader would."""
    script = "set -eu\n" + "".join(f"echo '--- {number}'\n{block}" for number, block in enumerate(blocks))
    variables = {"PATH": f"{Path(PROGRAM).parent}:/usr/bin:/bin", "HOME": str(folder), "COLUMNS": "200"}
    return subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
