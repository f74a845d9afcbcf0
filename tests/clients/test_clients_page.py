"""`docs/clients.md` is true: every example runs, with the client that it is about, and gets the model's answer."""

import asyncio
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from builders.models import DemoModel, published_model
from builders.offers import CUDA, ENVIRONMENTS, PERF, Offer, has_perf_analyzer, offered

pytestmark = [pytest.mark.anyio, pytest.mark.services]

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
PYTHONS = {"clients": ENVIRONMENTS / "clients" / "bin" / "python", "tf-serving": Path(sys.executable)}
NEEDED = {
    "mlserver": ENVIRONMENTS / "clients-mlserver",
    "perf_analyzer": PERF,
    "tf-serving": ENVIRONMENTS / "clients-tf-serving",
    "clients": ENVIRONMENTS / "clients",
}
N_EXAMPLES = 9


@pytest.mark.slow  # it needs every environment; `make test-slow` makes them
@pytest.mark.skipif(
    not all(place.exists() for place in NEEDED.values()), reason="no clients: sh tests/install_clients.sh all"
)
async def test_every_example_of_the_clients_page_gets_the_models_answer(tmp_path: Path, demo: DemoModel) -> None:
    blocks = re.findall(r"```(sh|python) ?([\w-]*)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == N_EXAMPLES
    async with offered(tmp_path, demo) as offer:
        await published_model(offer.world, "acme", "breast-cancer", demo)
        account = await offer.world.service("acme", "invoker")
        programs = [str(NEEDED[name] / "bin") for name in ("mlserver", "perf_analyzer")]
        variables = {
            "HTTP": offer.address,
            "ROW": json.dumps(offer.rows[0]),
            "CLIENT_ID": account.name,
            "CLIENT_SECRET": account.secret,
            "PATH": ":".join([*programs, os.environ["PATH"]]),
            "LD_LIBRARY_PATH": str(CUDA),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        examples = [
            _Example(number, *block)
            for number, block in enumerate(blocks)
            # It needs a library of the system's packages, which not everybody may install.
            if "perf_analyzer" not in block[2] or has_perf_analyzer()
        ]
        await asyncio.gather(*(_is_true(example, offer, tmp_path, variables) for example in examples))


class _Example(NamedTuple):
    number: int
    language: str
    kind: str
    text: str


async def _is_true(example: _Example, offer: Offer, folder: Path, variables: Mapping[str, str]) -> None:
    is_shell = example.language == "sh"
    script = folder / f"{example.number}.{example.language}"
    script.write_text(f"set -eu\ncd {folder}\n{example.text}" if is_shell else example.text)
    path = str(NEEDED[example.kind]) if example.kind == "tf-serving" else ""
    command = ["bash", str(script)] if is_shell else [str(PYTHONS[example.kind]), str(script)]
    status, printed, errors = await offer.run(command, {**variables, "PYTHONPATH": path})
    assert status == 0, f"{example.text}\n{printed[-1_000:]}{errors[-2_000:]}"
    _check(example.text, printed, offer.scores[0][0])


def _check(example: str, printed: str, score: float) -> None:
    """The answer of a model, of as many requests as the example makes; of others, what they are for."""
    if "oauth" in example:
        assert json.loads(printed)["expires_in"] == 900
    elif "perf_analyzer" in example:
        assert re.search(r"Concurrency: 2, throughput: [1-9]", printed), printed[-1_000:]
    else:
        found = [float(number) for number in re.findall(r"0\.99\d+", printed)]
        assert found == [pytest.approx(score, rel=1e-5)] * max(1, example.count(":predict")), printed
