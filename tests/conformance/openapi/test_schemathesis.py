"""What the document of all routes lets one send, and what it does not, sent by each kind of caller.

Rules: no answer is a 500; the status of each, its content type, its headers and the form of its body stand in the
document. Half of the paths name what is there, so that requests come as far as the act. The cases of `make test` are
the same every time; those of `make test-slow` are new.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from builders.gateways import World, running_gateway
from builders.listening import listening
from builders.models import DemoModel, published_model
from maas_gateway.identifiers import ModelRef

pytestmark = pytest.mark.anyio

OWNER = "the owner"
ANSWERED = 5
"""Predictions; further ones are beyond a quota."""
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


async def test_every_answer_is_described(tmp_path: Path, demo: DemoModel) -> None:
    await _walk(tmp_path, demo, max_examples=1, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(1_800)
async def test_every_answer_is_described_to_many_requests(tmp_path: Path, demo: DemoModel) -> None:
    await _walk(tmp_path, demo, max_examples=25, derandomize=False)


async def _walk(folder: Path, demo: DemoModel, *, max_examples: int, derandomize: bool) -> None:
    async with running_gateway(folder) as world, listening(world.app) as address:
        callers, known = await _callers(world, demo)
        document = (await world.http.get("/openapi.json")).json()
        kept = settings(
            max_examples=max_examples,
            derandomize=derandomize,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        walk = _Walk(address, callers, known, kept)
        await anyio.to_thread.run_sync(walk.take, document)
    assert not walk.faults, "\n\n".join(walk.faults)
    # The walk has come as far as the acts: not all of it was refused for what it lacked.
    assert {200, 400, 401, 403, 404} <= set(walk.answers), walk.answers


async def _callers(world: World, demo: DemoModel) -> tuple[dict[str, dict[str, str]], dict[str, Any]]:
    """Return what each kind of caller sends, and the names of what is there."""
    owner = await world.tenant("acme")
    await published_model(world, "acme", "bc", demo)
    await world.gateway.promote.label(await world.principal(owner), ModelRef("bc", None, "stable"), 1)
    sends = {"nobody": {}, "an invoker": await world.headers(await world.service("acme", "invoker"))}
    sends[OWNER] = await world.headers(owner)
    other = await world.service("acme", "invoker")
    quota = {"model": "bc", "quota": {"requests": {"amount": ANSWERED, "window_s": 3_600}}}
    assert (await world.http.post("/admin/v1/quotas", json=quota, headers=sends[OWNER])).status_code == 201
    named = {"model": "bc", "name": "bc", "version": 1, "label": "stable", "purpose": "audit", "slug": "acme"}
    return sends, {**named, "subject": other.subject}


class _Walk:
    def __init__(
        self, address: str, callers: Mapping[str, dict[str, str]], known: Mapping[str, Any], kept: settings
    ) -> None:
        self._address = address
        self._callers = callers
        self._known = known
        self._kept = kept
        self._who = ""
        self.faults: list[str] = []
        self.answers: Counter[int] = Counter()

    def take(self, document: dict[str, Any]) -> None:
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["security"] = []  # who calls is said here; else it would make up credentials
        schema = schemathesis.openapi.from_dict(document)
        with requests.Session() as session:
            for result in schema.get_all_operations():
                operation = result.ok()
                for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                    if mode is GenerationMode.POSITIVE or _takes_anything(operation):
                        self._ask(operation, mode, session)

    def _ask(self, operation: Any, mode: GenerationMode, session: requests.Session) -> None:
        @self._kept
        @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
        def ask(case: Any, data: st.DataObject) -> None:
            if data.draw(st.booleans(), "names what is there"):
                given = case.path_parameters or {}
                case.path_parameters = {name: self._known.get(name, value) for name, value in given.items()}
            for who, headers in self._callers.items():
                if mode is GenerationMode.NEGATIVE and who != OWNER:
                    continue  # others are refused before anybody looks at what they sent
                self._who = who
                answer = case.call(base_url=self._address, headers=headers, session=session)
                self.answers[answer.status_code] += 1
                assert answer.status_code != 500, answer.text
                case.validate_response(answer, checks=CHECKS)

        try:
            ask()
        except Unsatisfiable:
            pass  # nothing that this operation takes can be wrong
        except (FailureGroup, Exception) as fault:  # noqa: BLE001  all faults at once
            self.faults.append(f"{operation.method.upper()} {operation.path} by {self._who}: {fault}")


def _takes_anything(operation: Any) -> bool:
    return bool(operation.query or operation.body)
