"""Credentials that must not count, each at every route of the OpenAPI document that needs one.

The numbers are those of the list in `security.md` 3.3. Those about a credential are here, expanded into their
variants: `CASES` are wrong from the beginning, `GOOD_ONCE` were good and are not any more. Those that belong to one
route are tested where that route is: `ELSEWHERE` says in which function. Tokens of identity providers that should not
count are sent to a route of each kind only, because one module decides on a token for all of them. Number 63 and what
follows (DPoP) is not built.

Each answer: status 401 and the challenge of RFC 6750, in the door's own words, before the body is read; no outgoing
connection; one more refusal on record for each, without the credential.
"""

import asyncio
import base64
import re
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from prometheus_client import generate_latest

from builders.federated_tokens import BAD as BAD_FEDERATED
from builders.federated_tokens import MALLORY
from builders.gateways import Account, World, running_gateway
from builders.listening import listening
from builders.requests import RawClient, scope
from builders.routes import EXAMPLES, NOBODYS, OIDC, Operation, protected_operations
from builders.tokens import BAD_BY_NUMBER, Forge, encoded, forge, stranger_signs
from maas_gateway.accounts.tables import USERS
from maas_gateway.admin.examples import NEW_IDENTITY_PROVIDER
from maas_gateway.audit import store as audit
from maas_gateway.crypto.signatures import ES256Signer
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import CHANGES
from maas_gateway.database.unscoped import write_all
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring.key import KeyState, Purpose
from maas_gateway.permissions import Permission
from simulators.identity_provider import AUDIENCE, identity_provider, signing_key

pytestmark = pytest.mark.anyio

A = "/admin/v1"
TESTS = Path(__file__).parents[1]
CHALLENGE = b'Bearer realm="maas-gateway"'
EVERYTHING = " ".join(permission.value for permission in Permission)
AT_ONCE = 400
NOTICED_WITHIN_S = 3.0
A_ROUTE_OF_EACH_KIND = {"GET /admin/v1/users", "GET /v1/models", "GET /v2"}

ELSEWHERE: dict[int, tuple[str, ...]] = {
    44: ("journeys/test_refresh.py::test_a_token_that_is_spent_twice_ends_its_sign_in_in_every_process_and_no_other",),
    45: ("journeys/test_refresh.py::test_of_two_that_spend_a_token_at_once_at_most_one_gets_another",),
    # A user's sign-in is bound to no client, so a refresh token cannot be another client's, only another person's.
    46: ("journeys/test_refresh.py::test_nobody_ends_what_is_not_his_to_end",),
    47: ("journeys/test_refresh.py::test_nobody_ends_what_is_not_his_to_end",),
    48: (
        "journeys/test_refresh.py::test_introspection_tells_of_the_callers_own_tenant_only",
        "journeys/test_refresh.py::test_nobody_asks_without_a_credential_or_a_token",
    ),
    49: (
        "attacks/test_callers.py::test_every_route_asks_each_kind_of_caller_for_what_it_declares",
        "attacks/test_cross_tenant.py::test_another_tenants_thing_answers_as_one_that_nobody_has",
    ),
    50: (
        "attacks/test_cross_tenant.py::test_listing_names_nothing_of_another_tenant",
        "journeys/test_lists.py::test_a_cursor_gives_another_tenant_nothing_of_the_one_that_it_is_of",
    ),
    51: ("attacks/test_cross_tenant.py::test_same_name_in_two_tenants_is_two_models",),
    52: ("attacks/test_negative_cases.py::test_52_tenant_is_not_onboarded_under_a_name_that_looks_like_another",),
    53: (
        "attacks/test_cross_tenant.py::test_error_names_nothing_that_the_caller_did_not_send",
        "attacks/test_negative_cases.py::test_53_metrics_name_no_tenant_and_no_model",
    ),
    54: ("attacks/test_cross_tenant.py::test_no_body_chooses_what_is_not_the_callers_to_choose",),
    55: ("attacks/test_callers.py::test_every_route_asks_each_kind_of_caller_for_what_it_declares",),
    **dict.fromkeys(range(56, 63), ("journeys/test_sign_in.py",)),
}
"""Where the other numbers are tested. A file without a function stands for all of it, and may still be to come."""

Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Attack:
    """What a bad credential is made with.

    Attributes:
        world: the gateway.
        forged: makes tokens of an owner of tenant `acme`, with the gateway's own key.
        operations: every one that needs a credential.
        attacker: the address of the attacker's server.
    """

    world: World
    forged: Forge
    operations: list[Operation]
    attacker: str


Variants = dict[str, Headers]
Make = Callable[[Attack], Awaitable[Variants]]


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with running_gateway(tmp_path_factory.mktemp("negative"), oidc=OIDC) as world:
        await world.tenants("acme", "globex")
        yield world


@pytest.fixture
def attacker() -> Any:
    """A server that nobody may call, and a check that nobody did."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.fixture
async def attack(world: World, attacker: socket.socket) -> Attack:
    forged = await forge(world, world.owners["acme"])
    address = f"http://127.0.0.1:{attacker.getsockname()[1]}/keys"
    return Attack(world, forged, protected_operations(world.app), address)


def sent(token: str | bytes, scheme: bytes = b"Bearer ") -> Headers:
    """Return the header that bears a token."""
    text = token if isinstance(token, bytes) else token.encode("utf-8", "surrogatepass")
    return [(b"authorization", scheme + text)]


def basic(name: str, password: str) -> Headers:
    return [(b"authorization", b"Basic " + base64.b64encode(f"{name}:{password}".encode()))]


# --- asking every route --------------------------------------------------------------------------


async def asked(
    world: World, operation: Operation, headers: Headers, query: bytes = b"", body: bytes = b""
) -> RawClient:
    client = RawClient([body])
    request = {**scope(operation.method, operation.address().partition("?")[0], headers), "query_string": query}
    await world.app(request, client.receive, client.send)
    return client


async def every_route_refuses(
    attack: Attack,
    variants: Variants,
    *,
    challenge: bytes | None = None,
    query: bytes = b"",
    only: Any = None,
    takes_turns: bool = False,
) -> None:
    """Send each variant to each route, and see that each is refused rightly and is on record.

    Where they take turns, a variant goes to each third route only, and every route gets each third variant.
    """
    operations = [operation for operation in attack.operations if only is None or only(operation)]
    before = await _refusals(attack.world)
    turns = 3 if takes_turns and len(variants) >= 3 else 1
    pairs = [
        (name, headers, operation)
        for number, (name, headers) in enumerate(variants.items())
        for operation in operations[number % turns :: turns]
    ]
    faults = []
    for start in range(0, len(pairs), AT_ONCE):
        batch = pairs[start : start + AT_ONCE]
        answers = await asyncio.gather(*[asked(attack.world, where, headers, query) for _, headers, where in batch])
        for (name, _, operation), answer in zip(batch, answers, strict=True):
            fault = _fault(operation, answer, challenge)
            if fault is not None:
                faults.append(f"{operation} with {name}: {fault}")
    assert not faults, "\n".join(faults[:20])
    expected = Counter(_recorded(operation) for _, _, operation in pairs)
    assert await _refusals(attack.world) - before == expected


def _fault(operation: Operation, answer: RawClient, challenge: bytes | None) -> str | None:
    given = answer.headers.get(b"www-authenticate", b"")
    is_challenge = (
        given == challenge if challenge else given.startswith(CHALLENGE + b', error="invalid_token", error_d')
    )
    members = set(orjson.loads(answer.body))
    is_dialect = members == {"error", "request_id"} if operation.is_door else {"type", "detail"} < members
    if answer.status != 401 or not is_challenge:
        return f"{answer.status} {given!r} {answer.body[:200]!r}"
    if not is_dialect or b"Traceback" in answer.body or b'File "' in answer.body:
        return f"the body is {answer.body[:200]!r}"
    if answer.n_received_at_start:
        return "the body was read before the caller was known"
    return None if answer.is_whole else "the answer has no end"


def _recorded(operation: Operation) -> str:
    """Return as what a refusal of nobody in particular stands on record."""
    if operation.path.startswith("/v1"):
        return "tf_serving"
    return "open_inference" if operation.path.startswith("/v2") else str(operation)


async def _refusals(world: World) -> Counter[str]:
    """Return how many refusals of nobody in particular stand on record, by what was asked for."""
    await world.gateway.audit.flush()
    database = Database(world.settings.main_url, CHANGES)
    async with database.read(PLATFORM) as session:
        records = await audit.records(session)
    await database.close()
    refused = Counter[str]()
    for record in records:
        if record.event.kind == "request.refused" and record.event.actor == "anonymous":
            refused[record.event.thing] += record.event.n_times
    return refused


async def counts_everywhere(attack: Attack, headers: Headers) -> None:
    """See that a credential is one, at every route: so that a refusal later is of what was changed in between."""
    harmless = [operation for operation in attack.operations if operation.is_door or operation.method == "GET"]
    answers = await asyncio.gather(*[asked(attack.world, operation, headers) for operation in harmless])
    assert all(answer.status != 401 for answer in answers)


# --- wrong from the beginning --------------------------------------------------------------------


def tokens(number: int) -> Make:
    """Return what makes the tokens that `builders.tokens` has for a number."""

    async def make(attack: Attack) -> Variants:
        made = {name: bad(attack.forged) for name, bad in BAD_BY_NUMBER[number].items()}
        # A newline at the very end is what ends the header; no server passes it on.
        return {name: sent(token) for name, token in made.items() if not token.endswith("\n")}

    return make


async def empty(attack: Attack) -> Variants:
    token = attack.forged.token().encode()
    texts = {
        "the scheme alone": b"Bearer",
        "the scheme and a space": b"Bearer ",
        "the scheme and many spaces": b"Bearer        ",
        "nothing at all": b"",
        "the token without its scheme": token,
        "another scheme": b"Token " + token,
        "Digest": b'Digest username="owner"',
        "a scheme that only begins so": b"Bearers " + token,
        "a comma behind the token": b"Bearer " + token + b",",
        "two tokens in one header": b"Bearer " + token + b", Bearer " + token,
    }
    return {name: [(b"authorization", text)] for name, text in texts.items()}


async def bad_basic(attack: Attack) -> Variants:
    owner = attack.world.owners["acme"]
    texts = {
        "no base64": b"!!!",
        "letters that are no ASCII": "ключ".encode(),
        "Latin letters that are no ASCII": "é".encode("latin-1"),
        "no UTF-8": base64.b64encode(b"\xff\xfe:x"),
        "no colon": base64.b64encode(b"abc"),
        "a token in the name's place": base64.b64encode(f"{attack.forged.token()}:".encode()),
    }
    return {
        **{f"Basic with {name}": [(b"authorization", b"Basic " + text)] for name, text in texts.items()},
        "Basic with a username and its password": basic(owner.name, owner.secret),
    }


async def several(attack: Attack) -> Variants:
    good = sent(attack.forged.token())
    return {
        "the same token twice": good * 2,
        "a good token and a bad one": [*good, *sent("x")],
        "a bad token and a good one": [*sent("x"), *good],
        "a token and an API key": [*good, (b"x-api-key", b"maas_0123456789abcdef_" + b"A" * 43)],
        "a token and an empty API key": [*good, (b"x-api-key", b"")],
        "two API keys": [(b"x-api-key", b"maas_0123456789abcdef_" + b"A" * 43)] * 2,
    }


async def bad_shapes(attack: Attack) -> Variants:
    made = await attack.world.gateway.api_keys.add(
        await attack.world.principal(attack.world.owners["acme"]), "bad", frozenset({Permission.MODEL_READ})
    )
    text = made[1]
    keys = {
        "an API key of nobody": "maas_0123456789abcdef_" + "A" * 43,
        "an API key with another secret": text[:-43] + "A" * 43,
        "an API key cut short": text[:-1],
        "an API key with a letter more": text + "A",
        "an API key without its secret": text[:-44],
        "an API key in capitals": text.upper(),
        "an API key of a mebibyte": "maas_" + "A" * (1 << 20),
        "an access token as API key": attack.forged.token(),
    }
    as_key = {name: [(b"x-api-key", key.encode())] for name, key in keys.items()}
    as_bearer = {f"{name}, as bearer": sent(key) for name, key in keys.items() if key.startswith("maas_")}
    return {**await tokens(6)(attack), **as_key, **as_bearer}


async def of_the_attackers_keys(attack: Attack) -> Variants:
    """Tokens that name where their key is to be fetched from, rightly signed and signed by the attacker."""
    variants = await tokens(19)(attack)
    forged = attack.forged
    for name in ("jku", "x5u", "x5c", "jwk", "x5t#S256", "iss", "url"):
        for value in (attack.attacker, [attack.attacker], {"url": attack.attacker}):
            header = forged.header(**{name: value})
            variants[f"{name} {value}, rightly signed"] = sent(forged.token(header))
            variants[f"{name} {value}, signed by the attacker"] = sent(forged.token(header, sign=stranger_signs))
    variants["a kid that is an address"] = sent(forged.with_header(kid=attack.attacker))
    claims = forged.claims(iss=attack.attacker)
    variants["an issuer that is an address"] = sent(forged.token(claims=claims, sign=stranger_signs))
    return variants


async def of_other_keys(attack: Attack) -> Variants:
    """What is signed by, or is, a credential that is not for this."""
    signer = await attack.world.gateway.jwks._keyring.signer(PLATFORM, Purpose.STATEMENTS)
    other = replace(attack.forged, signer=signer)
    signed_in = await attack.world.gateway.sign_in.by_password(
        attack.world.owners["acme"].name, attack.world.owners["acme"].secret, address=""
    )
    service = await attack.world.service("acme", "owner")
    return {
        "a token signed with the key of statements": sent(other.token()),
        "a token signed so, under the token key's id": sent(other.with_header(kid=attack.forged.signer.key_id)),
        "a refresh token": sent(signed_in.refresh_token),
        "a password": sent(attack.world.owners["acme"].secret),
        "a service account's secret": sent(service.secret),
        "a client id": sent(service.name),
        "a manifest": sent(await attack.world.gateway.statements.sign("manifest+jwt", {"sub": "x"})),
    }


async def with_more_than_the_bindings(attack: Attack) -> Variants:
    """What says that it may more, and is not signed by us."""
    powerless = await forge(attack.world, await attack.world.service("acme"))
    said = {"scope": EVERYTHING, "roles": ["owner"], "role": "operator", "is_admin": True}
    claims = powerless.claims(**said)
    whole = powerless.token()
    cut = whole.split(".")
    return {
        "roles, signed by another's key": sent(powerless.token(claims=claims, sign=stranger_signs)),
        "roles, unsigned": sent(powerless.token(powerless.header(alg="none"), claims, sign=lambda _: b"")),
        "roles put into a good token": sent(f"{cut[0]}.{encoded(orjson.dumps(claims))}.{cut[2]}"),
    }


async def of_another_tenant(attack: Attack) -> Variants:
    globex = str(await attack.world.tenant_id("globex"))
    return {
        **await tokens(35)(attack),
        "another tenant than the subject's": sent(attack.forged.with_claims(tenant=globex)),
        "the subject of another tenant": sent(
            (await forge(attack.world, attack.world.owners["globex"])).with_claims(tenant=attack.forged.tenant)
        ),
    }


CASES: dict[int, tuple[str, Make]] = {
    2: ("no token behind the scheme", empty),
    3: ("Basic", bad_basic),
    4: ("several credentials", several),
    6: ("parts too few or too many, API keys that are none", bad_shapes),
    7: ("letters that are no base64url", tokens(7)),
    8: ("too long", tokens(8)),
    9: ("an encrypted token", tokens(9)),
    10: ("a password-encrypted token", tokens(10)),
    11: ("JSON that is odd", tokens(11)),
    12: ("text that is no UTF-8", tokens(12)),
    13: ("alg none", tokens(13)),
    14: ("HS256 keyed by the public key", tokens(14)),
    15: ("an empty signature", tokens(15)),
    16: ("a signature of zeros and its like", tokens(16)),
    17: ("another algorithm than the key's", tokens(17)),
    18: ("a kid that is odd", tokens(18)),
    19: ("a header that names the attacker's key", of_the_attackers_keys),
    20: ("crit and its like", tokens(20)),
    22: ("a signature of something else", tokens(22)),
    23: ("a credential of another kind", of_other_keys),
    24: ("expired", tokens(24)),
    25: ("an odd exp", tokens(25)),
    26: ("an odd nbf", tokens(26)),
    27: ("an odd iat", tokens(27)),
    28: ("an odd aud", tokens(28)),
    29: ("an odd iss", tokens(29)),
    30: ("an odd sub", tokens(30)),
    31: ("an odd jti", tokens(31)),
    32: ("an odd typ", tokens(32)),
    33: ("an odd scope", tokens(33)),
    34: ("a role that is not bound", with_more_than_the_bindings),
    35: ("another tenant", of_another_tenant),
    43: ("an odd generation", tokens(43)),
}


@pytest.mark.parametrize("takes_turns", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["in turn", "all"])
@pytest.mark.parametrize("make", [pytest.param(make, id=f"{n:02} {name}") for n, (name, make) in CASES.items()])
async def test_every_route_refuses(attack: Attack, make: Make, *, takes_turns: bool) -> None:
    await every_route_refuses(attack, await make(attack), takes_turns=takes_turns)


async def test_01_every_route_challenges_who_sends_no_credential(attack: Attack) -> None:
    variants: Variants = {"nothing": [], "other headers": [(b"cookie", b"token=x"), (b"x-tenant", b"acme")]}
    await every_route_refuses(attack, variants, challenge=CHALLENGE)


async def test_03_basic_with_a_token_counts_at_prediction_doors_only(attack: Attack) -> None:
    good = basic("anyone", attack.forged.token())
    await every_route_refuses(attack, {"Basic with a token": good}, only=lambda operation: not operation.is_door)
    answers = [await asked(attack.world, where, good) for where in attack.operations if where.is_door]
    assert all(answer.status != 401 for answer in answers)


async def test_05_no_route_takes_a_token_from_the_query_or_the_body(attack: Attack) -> None:
    token = attack.forged.token()
    query = f"access_token={token}&token={token}&authorization=Bearer+{token}&api_key={token}".encode()
    await every_route_refuses(attack, {"a token in the query": []}, challenge=CHALLENGE, query=query)
    form = {"access_token": token}
    for operation in attack.operations:
        answer = await attack.world.http.request(operation.method, operation.address(), data=form)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, CHALLENGE.decode()), operation


async def test_a_forged_token_with_nothing_wrong_counts(attack: Attack) -> None:
    """So that each refusal above is of the one thing that is wrong there."""
    await counts_everywhere(attack, sent(attack.forged.token()))


async def test_08_header_that_no_server_should_pass_on(attack: Attack) -> None:
    """Through a real port: what breaks a header ends the request, and what is only long is refused."""
    token = attack.forged.token().encode()
    requests = {
        "a mebibyte": token + b"A" * (1 << 20),
        "a NUL": token + b"\x00",
        "a newline": token + b"\nX-Tenant: globex",
        "a folded line": token[:40] + b"\r\n " + token[40:],
        "letters that are no ASCII": token + b"\xff",
    }
    async with listening(attack.world.app) as url:
        for name, credential in requests.items():
            reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
            head = b"GET /admin/v1/users HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nAuthorization: Bearer "
            writer.write(head + credential + b"\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            assert re.match(rb"HTTP/1\.1 (400|401|431) ", answer), (name, answer[:100])
            assert b"Traceback" not in answer


async def test_18_a_route_of_each_kind_refuses_what_an_identity_provider_did_not_say(
    tmp_path: Path, attacker: socket.socket
) -> None:
    """Also what names a key of another tenant's issuer, and what our own issuer's key or name is put to."""
    async with identity_provider() as provider, identity_provider() as others:
        others.use(signing_key("others"))
        oidc = {"allowed_hosts": [f"acme@{provider.host}", f"globex@{others.host}"]}
        async with running_gateway(tmp_path, oidc=oidc) as world:
            await world.tenants("acme", "globex")
            for slug, issuer in (("acme", provider.issuer), ("globex", others.issuer)):
                body = {**NEW_IDENTITY_PROVIDER, "issuer": issuer, "audience": AUDIENCE}
                made = await world.http.post(
                    f"{A}/identity-providers", json=body, headers=await world.headers(world.owners[slug])
                )
                assert made.status_code == 201, made.text
            forged = await forge(world, world.owners["acme"])
            ours, now = forged.header(), int(time.time())
            keys = f"http://127.0.0.1:{attacker.getsockname()[1]}/keys"
            variants = {
                **{name: bad(provider) for name, bad in BAD_FEDERATED.items()},
                "expired": provider.token(exp=now - 60, iat=now - 600),
                "the key of another tenant's issuer": others.token(iss=provider.issuer),
                "that and its kid": provider.signed(provider.header(kid="others"), sign=others.key.sign),
                "our key, for its issuer": forged.with_claims(iss=provider.issuer),
                "our key and header, its claims": forged.token(claims=provider.claims()),
                "its key, for our issuer": provider.signed(ours, forged.claims()),
                "its key, under our kid": provider.signed(provider.header(kid=ours["kid"])),
                **{
                    f"a {name} with the attacker's key": provider.signed(
                        provider.header(alg="ES256", **{name: keys}), sign=MALLORY.sign
                    )
                    for name in ("jku", "x5u")
                },
            }
            routes = [where for where in protected_operations(world.app) if str(where) in A_ROUTE_OF_EACH_KIND]
            assert len(routes) == len(A_ROUTE_OF_EACH_KIND)
            attack = Attack(world, forged, routes, "")
            await counts_everywhere(attack, sent(provider.token()))
            await every_route_refuses(
                attack, {name: sent(token) for name, token in variants.items() if not token.endswith("\n")}
            )
            await counts_everywhere(attack, sent(provider.token(sub="eve")))


# --- good once -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Once:
    """Credentials that count, and what ends them.

    Attributes:
        credentials: by name.
        end: ends them.
    """

    credentials: Variants
    end: Callable[[], Awaitable[object]]


MakeOnce = Callable[[Attack], Awaitable[Once]]


async def _acts(attack: Attack, method: str, path: str, *, by: Account | None = None, **body: Any) -> httpx.Response:
    headers = await attack.world.headers(by or attack.world.owners["acme"])
    answer = await attack.world.http.request(method, path, headers=headers, **body)
    assert answer.is_success, answer.text
    return answer


async def _api_key(attack: Attack, **more: Any) -> tuple[str, Headers]:
    """Make an API key; return its address and the header that bears it."""
    body = {"name": "once", "permissions": ["model:read"], **more}
    made = await _acts(attack, "POST", f"{A}/api-keys", json=body)
    return made.headers["location"], [(b"x-api-key", made.json()["api_key"].encode())]


async def _signed_in(world: World, account: Account) -> tuple[Headers, str]:
    """Return the header of a sign-in's access token, and its refresh token."""
    told = (await world.http.post("/oauth/token", data=account.form())).json()
    return sent(told["access_token"]), told.get("refresh_token", "")


async def whose_key_is_retired(attack: Attack) -> Once:
    keyring = attack.world.gateway.jwks._keyring
    headers = sent(await attack.world.token(attack.world.owners["acme"]))

    async def end() -> None:
        old, _ = await keyring.primary(PLATFORM, Purpose.TOKEN_SIGNING)
        new = await keyring.add_version(PLATFORM, Purpose.TOKEN_SIGNING)
        await keyring.move(PLATFORM, Purpose.TOKEN_SIGNING, new, state=KeyState.PRIMARY)
        await keyring.move(PLATFORM, Purpose.TOKEN_SIGNING, old, state=KeyState.DISABLED)
        async with asyncio.timeout(NOTICED_WITHIN_S):
            while (await asked(attack.world, Operation("GET", "/v2", "any"), headers)).status != 401:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    return Once({"a token": headers}, end)


async def that_is_revoked(attack: Attack) -> Once:
    accounts = [await attack.world.service("acme", "owner"), await attack.world.user("acme", "revoked", "owner")]
    tokens = {account.name: await attack.world.token(account) for account in accounts}

    async def end() -> None:
        for token in tokens.values():
            await _acts(attack, "POST", "/oauth/revoke", data={"token": token})

    return Once({f"a token of {name}": sent(token) for name, token in tokens.items()}, end)


async def of_an_ended_sign_in(attack: Attack) -> Once:
    first, refresh = await _signed_in(attack.world, await attack.world.user("acme", "ended", "owner"))
    form = {"grant_type": "refresh_token", "refresh_token": refresh}
    told = (await attack.world.http.post("/oauth/token", data=form)).json()

    async def end() -> None:
        await _acts(attack, "POST", "/oauth/revoke", data={"token": told["refresh_token"]})

    return Once({"the first token": first, "the second token": sent(told["access_token"])}, end)


async def of_a_deleted_account(attack: Attack) -> Once:
    user, service = await attack.world.user("acme", "deleted", "owner"), await attack.world.service("acme", "owner")
    _, key = await _api_key(attack, subject=service.subject)

    async def end() -> None:
        await _acts(attack, "DELETE", f"{A}/users/{user.subject}")
        await _acts(attack, "DELETE", f"{A}/service-accounts/{service.subject}")

    tokens = {account.name: sent(await attack.world.token(account)) for account in (user, service)}
    return Once({**tokens, "an API key": key}, end)


async def of_a_disabled_account(attack: Attack) -> Once:
    user, service = await attack.world.user("acme", "disabled", "owner"), await attack.world.service("acme", "owner")
    address, key = await _api_key(attack)
    _, of_service = await _api_key(attack, subject=service.subject)

    async def end() -> None:
        for path in (f"{A}/users/{user.subject}", f"{A}/service-accounts/{service.subject}", address):
            await _acts(attack, "PATCH", path, json={"enabled": False})

    tokens = {account.name: sent(await attack.world.token(account)) for account in (user, service)}
    return Once({**tokens, "a disabled API key": key, "an API key of a disabled account": of_service}, end)


async def of_a_tenant_that_is_shut_out(attack: Attack) -> Once:
    await attack.world.tenants("hooli", "initech")
    tokens = {slug: sent(await attack.world.token(attack.world.owners[slug])) for slug in ("hooli", "initech")}

    async def end() -> None:
        await _acts(attack, "POST", f"{A}/tenants/hooli:suspend", by=attack.world.operator)
        await _acts(attack, "POST", f"{A}/tenants/initech:erase", by=attack.world.operator)

    return Once(tokens, end)


async def of_a_user_who_moved(attack: Attack) -> Once:
    user = await attack.world.user("acme", "moved", "owner")
    globex = await attack.world.tenant_id("globex")

    async def end() -> None:
        database = Database(attack.world.settings.main_url, CHANGES)
        async with write_all(database) as session:  # there is no such act; only whoever holds the database can
            await session.update(USERS, USERS.c.id == UUID(user.subject), tenant_id=globex)
        await database.close()
        attack.world.gateway.authenticator.forget_standings()

    return Once({"a token": sent(await attack.world.token(user))}, end)


async def from_before_another_password(attack: Attack) -> Once:
    changing, reset = [await attack.world.user("acme", name, "owner") for name in ("changing", "forgetful")]
    by = sent(await attack.world.token(changing))[0][1].decode()
    tokens = {account.name: (await _signed_in(attack.world, account))[0] for account in (changing, reset)}

    async def end() -> None:
        change = {"current": changing.secret, "new": "twelve bytes or more"}
        done = await attack.world.http.post(f"{A}/password", json=change, headers={"authorization": by})
        assert done.status_code == 204
        await _acts(attack, "POST", f"{A}/users/{reset.subject}:reset-password")

    return Once(tokens, end)


GOOD_ONCE: dict[int, tuple[str, MakeOnce]] = {
    21: ("whose key was retired", whose_key_is_retired),
    36: ("that was revoked", that_is_revoked),
    37: ("of an ended sign-in", of_an_ended_sign_in),
    38: ("of a deleted account", of_a_deleted_account),
    39: ("of a disabled account", of_a_disabled_account),
    40: ("of a tenant that is suspended or erased", of_a_tenant_that_is_shut_out),
    41: ("of a user who moved to another tenant", of_a_user_who_moved),
    43: ("from before another password", from_before_another_password),
}


@pytest.mark.parametrize("make", [pytest.param(make, id=f"{n:02} {name}") for n, (name, make) in GOOD_ONCE.items()])
async def test_every_route_refuses_what_counted_once(attack: Attack, make: MakeOnce) -> None:
    once = await make(attack)
    for headers in once.credentials.values():
        await counts_everywhere(attack, headers)
    await once.end()
    await every_route_refuses(attack, once.credentials)


async def test_21_every_route_refuses_a_token_of_a_key_that_does_not_count_yet(attack: Attack) -> None:
    """It is published, so that others know it in time; what it signs counts from the moment it is the primary."""
    keyring = attack.world.gateway.jwks._keyring
    pending = await keyring.add_version(PLATFORM, Purpose.TOKEN_SIGNING)
    signer = ES256Signer(await keyring.key(PLATFORM, Purpose.TOKEN_SIGNING, pending))
    headers = sent(replace(attack.forged, signer=signer).token())
    await every_route_refuses(attack, {"a token": headers})
    await keyring.move(PLATFORM, Purpose.TOKEN_SIGNING, pending, state=KeyState.PRIMARY)
    await counts_everywhere(attack, headers)


# --- permissions that are said and not bound -----------------------------------------------------


def _body(operation: Operation) -> bytes:
    """Return a body of the right form: which form is wrong, a route may say to whoever is known."""
    body = EXAMPLES[str(operation)].body
    if body == "publisher":
        body = {"name": "ada", "pem": "…"}
    if body == "provider":
        body = NEW_IDENTITY_PROVIDER
    if isinstance(body, dict):
        names = {**NOBODYS, "new": "new"}
        body = {key: value.format(**names) if isinstance(value, str) else value for key, value in body.items()}
    return body if isinstance(body, bytes) else orjson.dumps(body)


async def only_what_anybody_may(attack: Attack, headers: Headers) -> None:
    """See that a caller without roles may nothing that needs a permission, whatever its token says."""
    faults = []
    asking = [asked(attack.world, operation, headers, body=_body(operation)) for operation in attack.operations]
    for operation, answer in zip(attack.operations, await asyncio.gather(*asking), strict=True):
        if operation.need == "any":
            is_right = answer.status not in {401, 403, 404, 500}
        else:
            is_right = answer.status == (404 if operation.names_a_thing else 403)
        if not is_right:
            faults.append(f"{operation}: {answer.status} {answer.body[:200]!r}")
    assert not faults, "\n".join(faults)


async def test_34_roles_in_a_token_of_ours_give_nothing_that_is_not_bound(attack: Attack) -> None:
    powerless = await forge(attack.world, await attack.world.service("acme"))
    said = {"scope": EVERYTHING, "roles": ["owner"], "role": "operator", "is_admin": True}
    await only_what_anybody_may(attack, sent(powerless.with_claims(**said)))


async def test_35_tenant_named_in_a_header_or_the_query_changes_nothing(attack: Attack) -> None:
    globex = str(await attack.world.tenant_id("globex")).encode()
    names = (b"x-tenant", b"x-tenant-id", b"tenant", b"x-forwarded-user", b"x-original-url", b"x-http-method-override")
    good, users = sent(attack.forged.with_claims(scope=EVERYTHING)), Operation("GET", f"{A}/users", "user:read")
    plain = await asked(attack.world, users, good)
    assert plain.status == 200
    for value in (globex, b"globex"):
        other = await asked(attack.world, users, [*good, *[(name, value) for name in names]], b"tenant=" + value)
        assert (other.status, other.body) == (200, plain.body)


async def test_42_role_that_was_taken_gives_nothing_at_once(attack: Attack) -> None:
    account = await attack.world.service("acme", "owner")
    headers = sent(await attack.world.token(account))
    await counts_everywhere(attack, headers)
    listed = (await _acts(attack, "GET", f"{A}/role-bindings?limit=1000")).json()["bindings"]
    (binding,) = (bound["id"] for bound in listed if bound["subject"] == account.subject)
    await _acts(attack, "DELETE", f"{A}/role-bindings/{binding}")
    await only_what_anybody_may(attack, headers)


# --- names of tenants ----------------------------------------------------------------------------

_LOOK_ALIKES = {
    "in capitals": "ACME",
    "decomposed": "a\u0301cme",
    "composed": "\u00e1cme",
    "full-width": "\uff41cme",
    "Cyrillic": "\u0430cme",
    "written backwards": "\u202eemca",
    "with a zero-width space": "ac\u200bme",
    "with a dot behind": "acme.",
    "with a space behind": "acme ",
    "with a newline behind": "acme\n",
    "with a NUL": "ac\x00me",
    "the parent folder": "..",
    "the parent folder, encoded": "%2e%2e",
    "of one letter": "a",
    "of 40 letters": "a" * 40,
    "of 64 letters": "a" * 64,
    "of 65 letters": "a" * 65,
    "an emoji": "\U0001f600\U0001f600",
    "of nothing": "",
    "admin": "admin",
    "null": "null",
    "platform": "platform",
    "an underscore": "_",
    "a hyphen first": "-acme",
}


@pytest.mark.parametrize("slug", [pytest.param(slug, id=name) for name, slug in _LOOK_ALIKES.items()])
async def test_52_tenant_is_not_onboarded_under_a_name_that_looks_like_another(world: World, slug: str) -> None:
    operator = await world.headers(world.operator)
    answer = await world.http.post(f"{A}/tenants", json={"slug": slug}, headers=operator)
    assert (answer.status_code, answer.json()["detail"].partition(":")[0]) == (400, "slug")
    form = {"grant_type": "password", "username": f"owner@{slug}", "password": world.owners["acme"].secret}
    refused = await world.http.post("/oauth/token", data=form)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


async def test_53_metrics_name_no_tenant_and_no_model(attack: Attack) -> None:
    await counts_everywhere(attack, sent(attack.forged.token()))
    text = generate_latest(attack.world.app.metrics.registry).decode()
    assert "management" in text
    named = {"acme", "globex", "nobodys-model", attack.forged.tenant, attack.forged.subject}
    assert [name for name in named if name in text] == []


# --- the list itself -----------------------------------------------------------------------------


def test_every_number_of_the_list_is_tested_here_or_where_it_is_said() -> None:
    own = Path(__file__).read_text(encoding="utf-8")
    here = {*CASES, *GOOD_ONCE, *(int(number) for number in re.findall(r"def test_(\d\d)_", own))}
    assert {*here, *ELSEWHERE} == set(range(1, 63))
    for number, places in ELSEWHERE.items():
        for place in places:
            path, _, function = place.partition("::")
            if function:
                assert f"def {function}(" in (TESTS / path).read_text(encoding="utf-8"), (number, place)
