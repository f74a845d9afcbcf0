"""`docs/tls.md` is true: its commands run in their order, in an empty directory."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from builders.processes import PROGRAM, environment, free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on the path"),
]

PAGE = Path(__file__).parents[2] / "docs" / "tls.md"


def test_every_command_of_the_tls_page_does_what_it_says(tmp_path: Path) -> None:
    port = free_port()
    page = PAGE.read_text(encoding="utf-8").replace("8443", str(port))
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert len(blocks) > 5
    blocks.insert(-1, f"curl --silent http://127.0.0.1:{port + 1}/ || true  # in the clear, to the gRPC port\n")
    script = "set -eu\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n" + "echo\n".join(blocks)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env=environment(PATH=f"{Path(PROGRAM).parent}:/usr/bin:/bin", HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    said = [
        "expires on 20",
        "Nothing is unsafe or missing.",
        '{"ready":true,"live":true}',
        "{'live': True}",
        "The new one is in force.",
        '{"ready":true,"live":true}',
        "Refused without a certificate.",
        '{"ready":false,"live":true}',
    ]
    place = 0
    for sentence in said:
        place = output.find(sentence, place) + 1
        assert place, (sentence, output)
    log = (tmp_path / "gateway.log").read_text()
    assert "andshake" not in log, "whoever cannot speak TLS does not write to the log"
