"""Every route of the OpenAPI document as each kind of caller: what it declares to need is what it enforces.

Kinds: none, expired, another tenant's owner, the right tenant without roles, with a role on one model, with every
permission but the declared one, with the declared one only, with all of them, the platform's operator. Source: `api.md` section 1 (default deny).
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, event

from builders.gateways import POSTGRES_SLOWLY, World, bearer, running_gateway
from builders.models import DemoModel
from builders.routes import EXAMPLES, NOBODYS, OIDC, US, Operation, Things, protected_operations
from builders.tokens import Forge, forge
from maas_gateway.audit import store as audit
from maas_gateway.audit.event import ANONYMOUS
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.database.unscoped import read_all
from maas_gateway.identifiers import PLATFORM
from maas_gateway.permissions import Permission

pytestmark = pytest.mark.anyio

CHALLENGE = 'Bearer realm="maas-gateway"'
EVERYTHING = frozenset(permission.value for permission in Permission)
OF_OPERATORS = frozenset(
    {
        *("tenant:read", "tenant:write", "tenant:suspend", "tenant:erase"),
        *("keyring:read", "keyring:rotate", "keyring:retire", "keyring:destroy"),
        *("operation:read", "operation:cancel", "audit:read", "audit:export"),
    }
)
"""What `api.md` gives operators, on the platform's own things."""
PAIRS = 4
NO_ARCHIVE = b"no archive"
PROBLEM = {"type", "title", "status", "detail", "instance", "request_id"}


@dataclass
class Callers:
    """What each kind of caller sends.

    Attributes:
        world: the gateway.
        things: makes what operations name.
        forges: make tokens of that tenant's owner and, by True, of the platform's operator.
        owner: of the tenant whose things they are.
        expired: a token of that owner whose time is over.
        stranger: another tenant's owner.
        powerless: an account of the right tenant without roles.
        on_served: an account that is the invoker of the model `served`, and of no other.
        operator: the platform's.
        faults: what was not as it should be.
        refused: how many refusals must stand on record in the end, by whom was refused.
        actors: by which name those stand there who are not the right ones.
    """

    world: World
    things: Things
    forges: dict[bool, Forge]
    owner: dict[str, str]
    expired: dict[str, str]
    stranger: dict[str, str]
    powerless: dict[str, str]
    on_served: dict[str, str]
    operator: dict[str, str]
    faults: list[str]
    refused: Counter[str]
    actors: dict[str, str]

    @classmethod
    async def of(cls, world: World, demo: DemoModel) -> "Callers":
        await world.tenants(US, "globex")
        forged = await forge(world, world.owners[US])
        now = forged.claims()["iat"]
        powerless, on_served = await world.service(US), await world.service(US, invoker="served")
        return cls(
            world=world,
            things=await Things.of(world, demo),
            forges={False: forged, True: await forge(world, world.operator)},
            owner=await world.headers(world.owners[US]),
            expired=bearer(forged.with_claims(iat=now - 900, nbf=now - 900, exp=now - 11)),
            stranger=await world.headers(world.owners["globex"]),
            powerless=await world.headers(powerless),
            on_served=await world.headers(on_served),
            operator=await world.headers(world.operator),
            faults=[],
            refused=Counter(),
            actors={
                "nobody": ANONYMOUS,
                "expired": ANONYMOUS,
                "another tenant's owner": world.owners["globex"].name,
                "powerless": powerless.name,
                "invoker of one model": on_served.name,
                "the operator": world.operator.name,
            },
        )

    def scoped(self, operation: Operation, scope: set[str]) -> dict[str, str]:
        """Return what a caller sends whose roles permit the operation, with a token of that scope."""
        return bearer(self.forges[EXAMPLES[str(operation)].is_operators].with_claims(scope=" ".join(sorted(scope))))

    def expect(self, operation: Operation, who: str, answer: httpx.Response, status: int) -> None:
        if answer.status_code != status:
            self.faults.append(f"{operation} as {who}: {answer.status_code}, not {status}: {answer.text[:200]}")
        kept = {name: answer.headers.get(name) for name in ("x-content-type-options", "cache-control")}
        if (
            kept != {"x-content-type-options": "nosniff", "cache-control": "no-store"}
            or "x-request-id" not in answer.headers
        ):
            self.faults.append(f"{operation} as {who}: {dict(answer.headers)}")
        if answer.status_code >= 400:
            self._expect_the_doors_dialect(operation, who, answer)
        if answer.status_code in {401, 403, 404, 422}:
            right = self.world.operator if EXAMPLES[str(operation)].is_operators else self.world.owners[US]
            self.refused[self.actors.get(who, right.name)] += 1

    def _expect_the_doors_dialect(self, operation: Operation, who: str, answer: httpx.Response) -> None:
        if operation.path.startswith("/oauth") and answer.status_code == 400:
            return
        members = {"error", "request_id"} if operation.is_door else PROBLEM
        challenge = {401: CHALLENGE, 403: f'{CHALLENGE}, error="insufficient_scope"'}.get(answer.status_code, "")
        is_right = (
            set(answer.json()) == members
            and answer.json().get("status", answer.status_code) == answer.status_code
            and answer.json()["request_id"] == answer.headers["x-request-id"]
            and answer.headers.get("www-authenticate", "").startswith(challenge)
            and ("www-authenticate" in answer.headers) == bool(challenge)
        )
        if not is_right:
            self.faults.append(f"{operation} as {who}: {dict(answer.headers)} {answer.text[:200]}")


@POSTGRES_SLOWLY
async def test_every_route_asks_each_kind_of_caller_for_what_it_declares(
    tmp_path: Path, database_url: str, demo: DemoModel
) -> None:
    async with running_gateway(tmp_path, database_url, oidc=OIDC) as world:
        callers = await Callers.of(world, demo)
        operations = protected_operations(world.app)
        assert {str(operation) for operation in operations} == set(EXAMPLES), "routes and examples differ"
        before = await _refusals(world)

        for operation in operations:
            names = await callers.things.names(operation)
            await _strangers(callers, operation, names)
            await asyncio.gather(
                _unauthenticated(callers, operation, names),
                _without_permission(callers, operation, names),
                _operators(callers, operation, names),
                _bound_to_one_model(callers, operation, names),
            )
            await _right(callers, operation, names)
        assert not callers.faults, "\n".join(callers.faults)
        assert await _refusals(world) - before == callers.refused, "each refusal is on record once"


async def _unauthenticated(callers: Callers, operation: Operation, names: dict[str, str]) -> None:
    expired = f'{CHALLENGE}, error="invalid_token", error_description="the token has expired"'
    malformed = {**NOBODYS, "subject": "%00", "version": "x", "operation_id": "x"}
    calls = [("nobody", named, {}, CHALLENGE) for named in (names, {**names, **NOBODYS}, {**names, **malformed})]
    for who, named, headers, challenge in [*calls, ("expired", names, callers.expired, expired)]:
        answer = await callers.things.ask(operation, named, headers)
        callers.expect(operation, who, answer, 401)
        if answer.headers.get("www-authenticate") != challenge:
            callers.faults.append(f"{operation} as {who}: {answer.headers.get('www-authenticate')}")


async def _strangers(callers: Callers, operation: Operation, names: dict[str, str]) -> None:
    """Another tenant's owner gets for our thing, to the letter, what it gets for a thing that nobody has."""
    if not operation.can_name_anothers:
        return
    body = NO_ARCHIVE if operation.method == "PUT" and "{version}" in operation.path else None
    for _ in range(PAIRS):  # what is remembered of the caller may be forgotten between two calls
        seen = []
        for named in ({**names, **NOBODYS}, names):
            with statements() as executed:
                answer = await callers.things.ask(operation, named, callers.stranger, body=body)
            callers.expect(operation, "another tenant's owner", answer, 422 if body else 404)
            seen.append((_all_but_names(answer, operation, named), executed))
        if seen[0] == seen[1]:
            return
    callers.faults.append(f"{operation}: theirs can be told from nobody's: {seen[0]} {seen[1]}")


async def _without_permission(callers: Callers, operation: Operation, names: dict[str, str]) -> None:
    example = EXAMPLES[str(operation)]
    if operation.need == "any":
        callers.expect(
            operation, "powerless", await callers.things.ask(operation, names, callers.powerless), example.done
        )
        return
    unseen = 404 if operation.names_a_thing else 403
    answer = await callers.things.ask(operation, names, callers.powerless)
    callers.expect(operation, "powerless", answer, unseen)
    all_but = callers.scoped(operation, set(EVERYTHING - {operation.need}))
    answer = await callers.things.ask(operation, names, all_but)
    callers.expect(operation, f"all but {operation.need}", answer, unseen if operation.need == operation.reads else 403)
    if operation.names_a_thing and operation.need != operation.reads:
        blind = callers.scoped(operation, set(EVERYTHING - {operation.reads}))
        answer = await callers.things.ask(operation, names, blind)
        callers.expect(operation, f"all but {operation.reads}", answer, 404)


async def _operators(callers: Callers, operation: Operation, names: dict[str, str]) -> None:
    """The platform's operator sees no tenant's things; what is its own, it may look at."""
    example = EXAMPLES[str(operation)]
    if example.is_operators:
        return
    is_own = operation.need == "any" or (operation.need in OF_OPERATORS and not operation.names_a_thing)
    expected = example.done if is_own else 404 if operation.names_a_thing else 403
    answer = await callers.things.ask(operation, names, callers.operator)
    callers.expect(operation, "the operator", answer, expected)


async def _bound_to_one_model(callers: Callers, operation: Operation, names: dict[str, str]) -> None:
    """A role on one model gives what it permits on that model; the tenant's others do not exist for it."""
    parameter = "model" if operation.is_door else "name"
    if parameter not in operation.parameters or operation.need not in {"model:read", "model:predict"}:
        return
    answer = await callers.things.ask(operation, names, callers.on_served)
    callers.expect(operation, "invoker of one model", answer, EXAMPLES[str(operation)].done)
    seen = []
    for named in ({**names, parameter: "cycled"}, {**names, parameter: NOBODYS["model"]}):
        answer = await callers.things.ask(operation, named, callers.on_served)
        callers.expect(operation, "invoker of one model", answer, 404)
        seen.append(_all_but_names(answer, operation, named))
    if seen[0] != seen[1]:
        callers.faults.append(f"{operation}: another model can be told from nobody's: {seen}")


async def _right(callers: Callers, operation: Operation, names: dict[str, str]) -> None:
    """Whoever may gets it done: so nobody before has done it, and the declared permission is enough."""
    example = EXAMPLES[str(operation)]
    if operation.need != "any":
        exact = callers.scoped(operation, {operation.need, operation.reads, *example.also.split()})
        callers.expect(
            operation, f"with {operation.need} only", await callers.things.ask(operation, names, exact), example.done
        )
        names = await callers.things.names(operation)
    right = callers.operator if example.is_operators else callers.owner
    callers.expect(operation, "the right one", await callers.things.ask(operation, names, right), example.done)


def _all_but_names(
    answer: httpx.Response, operation: Operation, names: dict[str, str]
) -> tuple[int, str, dict[str, str]]:
    """Return all that a caller sees, without the names that it sent and what differs between any two answers."""
    text = answer.text.replace(answer.headers["x-request-id"], "<request>")
    for parameter in operation.parameters:
        text = text.replace(names[parameter], f"<{parameter}>")
    kept = {name: value for name, value in answer.headers.items() if name not in {"x-request-id", "content-length"}}
    return answer.status_code, text, kept


_EXECUTED: ContextVar[list[str] | None] = ContextVar("executed", default=None)


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the statements that a request executes itself: as many of the same take the same class of time."""
    executed: list[str] = []
    token = _EXECUTED.set(executed)
    event.listen(Engine, "before_cursor_execute", _collect)
    try:
        yield executed
    finally:
        event.remove(Engine, "before_cursor_execute", _collect)
        _EXECUTED.reset(token)


def _collect(_connection: object, _cursor: object, statement: str, *_: Any) -> None:
    executed = _EXECUTED.get()
    if executed is not None:
        executed.append(statement)


async def _refusals(world: World) -> Counter[str]:
    """Return how many refusals stand in all chains together, by whom was refused."""
    await world.gateway.audit.flush()
    database = Database(world.settings.main_url, CHANGES)
    chains = [PLATFORM, await world.tenant_id(US), await world.tenant_id("globex")]
    async with read_all(database) as session:
        found = [await audit.records(session.within(chain)) for chain in chains]
    await database.close()
    refused = Counter[str]()
    for records in found:
        assert [record.number for record in records] == list(range(1, len(records) + 1)), "a chain has a gap"
    for record in itertools.chain(*found):
        if record.event.kind == "request.refused":
            refused[record.event.actor] += record.event.n_times
    return refused
