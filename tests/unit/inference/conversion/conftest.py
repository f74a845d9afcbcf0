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
    rebuilt: bytes
    plan: bytes

    @property
    def plans(self) -> Mapping[str, Mapping[str, Any]]:
        return {plan["runtime"]: plan for plan in self.header["plans"]}


@pytest.fixture(scope="session")
def made(shared_folder: Path) -> dict[str, Made]:
    folder = built_once(shared_folder, "converted-models", _build)
    headers, payload = json.loads((folder / "headers.json").read_text()), (folder / "payload").read_bytes()
    models, offset = {}, 0
    for name, header in headers.items():
        parts = []
        for size in header.pop("sizes"):
            parts.append(payload[offset : offset + size])
            offset += size
        models[name] = Made(parts[0], header, parts[1], parts[2])
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
