"""The models of the tests, built and converted once a session in one confined child."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from maas_gateway.confinement.child import run_child
from maas_gateway.confinement.limits import Limits


@dataclass(frozen=True, slots=True)
class Made:
    """A model's archive, and what became of it."""

    archive: bytes
    header: Mapping[str, Any]
    plan: bytes


@pytest.fixture(scope="session")
def made() -> dict[str, Made]:
    answer = asyncio.run(
        run_child(
            "make_and_convert",
            limits=Limits(),
            deadline_s=120,
            search_paths=[Path(__file__).parent / "children"],
        )
    )
    models, offset = {}, 0
    for name, header in answer.header.items():
        assert isinstance(header, dict)
        middle = offset + header["archive_bytes"]
        end = middle + header["plan_bytes"]
        models[name] = Made(answer.payload[offset:middle], header, answer.payload[middle:end])
        offset = end
    return models
