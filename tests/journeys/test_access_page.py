"""`docs/access.md` is true: its commands run in their order, on a place that a demo has made."""

import asyncio
import json
import re
import subprocess
from pathlib import Path

import pytest

from builders.processes import PROGRAM, Served, environment, serving
from simulators.identity_provider import ProviderSimulator, identity_provider

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs" / "access.md"


async def test_every_command_of_the_access_page_does_what_it_says(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) > 5
    async with identity_provider() as provider:
        hosts = json.dumps([provider.issuer.removeprefix("http://")])
        with serving(tmp_path / "var", command="demo", MAAS_OIDC__ALLOWED_HOSTS=hosts) as served:
            done = await _run(blocks, tmp_path, served, provider)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Signed in" in done.stdout
    assert '"predictions"' in done.stdout
    assert "bob  publisher" in done.stdout
    assert "Signed out." in done.stdout
    for folder in tmp_path.rglob("session.json"):
        raise AssertionError(folder)


async def _run(
    blocks: list[str], folder: Path, served: Served, provider: ProviderSimulator
) -> subprocess.CompletedProcess[str]:
    """Run the page's commands in one shell, as a reader would."""
    example = json.loads((folder / "var" / "first-run.json").read_text())["example"]
    variables = {
        "PATH": f"{Path(PROGRAM).parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "URL": served.url,
        "EXAMPLE": json.dumps(example),
        "ISSUER": provider.issuer,
        "SSO_TOKEN": provider.token(groups=["ml-team"]),
    }
    script = "set -eu\n" + "".join(f"echo '--- {number}'\n{block}" for number, block in enumerate(blocks))
    return await asyncio.to_thread(
        subprocess.run,
        ["bash", "-c", script],
        cwd=folder,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
