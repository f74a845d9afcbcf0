"""The models of the tests, built and converted once a session in one confined child."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builders.shared import built_once
from maas_gateway.confinement.child import run_child
from maas_gateway.confinement.limits import Limits


@dataclass(frozen=True, slots=True)
class Made:
    """A model's archive, and what became of it."""

    archive: bytes
    header: Mapping[str, Any]
    plan: bytes


@pytest.fixture(scope="session")
def made(shared_folder: Path) -> dict[str, Made]:
    folder = built_once(shared_folder, "converted-models", _build)
    headers, payload = json.loads((folder / "headers.json").read_text()), (folder / "payload").read_bytes()
    models, offset = {}, 0
    for name, header in headers.items():
        middle = offset + header["archive_bytes"]
        end = middle + header["plan_bytes"]
        models[name] = Made(payload[offset:middle], header, payload[middle:end])
        offset = end
    return models


def _build(folder: Path) -> None:
    answer = asyncio.run(
        run_child(
            "make_and_convert",
            limits=Limits(),
            deadline_s=120,
            search_paths=[Path(__file__).parent / "children"],
        )
    )
    (folder / "headers.json").write_text(json.dumps(dict(answer.header)))
    (folder / "payload").write_bytes(answer.payload)
