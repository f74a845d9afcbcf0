"""A real OpenID Connect provider, npm's oidc-provider, as a child process on a loopback port; gone when the test ends."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

ROOT = Path(__file__).parents[2]
RESOURCE = "https://models.example.org"

_PLACE = ROOT / ".venv" / "oidc-provider"
_SCRIPT = ROOT / "tests" / "simulators" / "oidc_provider.mjs"


@dataclass(frozen=True)
class RealProvider:
    """A provider that runs.

    Attributes:
        issuer: where.
    """

    issuer: str

    @property
    def host(self) -> str:
        return self.issuer.removeprefix("http://")

    async def token(self, client: str = "ml-robot", resource: str = RESOURCE) -> str:
        """Return an access token of a client for a resource, which is its audience."""
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": f"the secret of {client}",
            "resource": resource,
        }
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(f"{self.issuer}/token", data=form)
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]  # type: ignore[no-any-return]


@contextmanager
def real_provider() -> Iterator[RealProvider]:
    """Run a provider; skip the test, or fail it where everything must be there, if it is not installed."""
    node = shutil.which("node")
    if node is None:
        _give_up("there is no Node.js; to enable this test: sudo apt-get install nodejs npm")
    if not (_PLACE / "node_modules" / "oidc-provider" / "package.json").exists():
        _give_up("there is no oidc-provider; to enable this test: sh tests/install_oidc_provider.sh")
    # It ends when its input does, so also when this process is killed.
    process = subprocess.Popen(
        [node, str(_SCRIPT), str(_PLACE)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"]},
    )
    with process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert said, "oidc-provider ended at its start"
            yield RealProvider(json.loads(said)["issuer"])
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(20)


def _give_up(enabling: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(enabling)
    pytest.skip(enabling)
