"""Access tokens: what verifies, what never does, and how long it is remembered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from jose.backends.base import Key

from builders.clocks import ShiftedClock
from builders.gateways import gateway_settings
from builders.tokens import EXPIRED_TOKENS, INVALID_TOKENS, Bad, Forge
from maas_gateway.auth.jwks import JWKSet
from maas_gateway.auth.tokens import TokenRules, Tokens
from maas_gateway.database.engine import Database
from maas_gateway.database.metadata import KEYS_CHANGES
from maas_gateway.errors import TokenExpired, TokenInvalid, Unauthenticated
from maas_gateway.identifiers import PLATFORM, SubjectId, TenantId, new_id
from maas_gateway.keyring.key import KeyState, Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.permissions import Permission
from maas_gateway.place import open_keyring, prepare

pytestmark = pytest.mark.anyio

RULES = TokenRules(issuer="http://127.0.0.1:8080", audience="maas-gateway", life_s=300, skew_s=10)
TENANT, SUBJECT = TenantId(new_id()), SubjectId(new_id())
SCOPE = frozenset({Permission.MODEL_READ, Permission.AUDIT_READ})


class PausedJWKSet(JWKSet):
    """A JWK Set that holds a verification just after it got its key, until told to go on."""

    def __init__(self, keyring: Keyring, clock: ShiftedClock) -> None:
        super().__init__(keyring, clock)
        self.has_key = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def key(self, kid: str) -> Key:
        found = await super().key(kid)
        self.has_key.set()
        await self.may_go_on.wait()
        return found


class Rig:
    """Tokens over a real keyring."""

    def __init__(self, keyring: Keyring, clock: ShiftedClock, rules: TokenRules = RULES) -> None:
        self.keyring = keyring
        self.clock = clock
        self.jwks = JWKSet(keyring, clock)
        self.tokens = Tokens(keyring, self.jwks, rules, clock)

    async def issue(self) -> str:
        return await self.tokens.issue(TENANT, SUBJECT, client_id="password", scope=SCOPE, generation=0)

    async def forge(self) -> Forge:
        signer = await self.keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)
        (public,) = (k for k in (await self.jwks.document())["keys"] if k["kid"] == signer.key_id)
        return Forge(signer, public, RULES.issuer, str(TENANT), str(SUBJECT))

    async def rotate(self) -> None:
        version = await self.keyring.add_version(PLATFORM, Purpose.TOKEN_SIGNING)
        await self.keyring.move(PLATFORM, Purpose.TOKEN_SIGNING, version, state=KeyState.PRIMARY)
        self.tokens.forget()

    async def retire(self, version: int) -> None:
        await self.keyring.move(PLATFORM, Purpose.TOKEN_SIGNING, version, state=KeyState.DISABLED)
        self.tokens.forget()


@asynccontextmanager
async def rig_in(folder: Path) -> AsyncIterator[Rig]:
    settings = gateway_settings(folder)
    await prepare(settings, makes_root_key=True)
    database = Database(settings.keys_url, KEYS_CHANGES, overwrites_deleted=True)
    clock = ShiftedClock()
    yield Rig(open_keyring(settings, database, clock), clock)
    await database.close()


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Rig]:
    async with rig_in(tmp_path_factory.mktemp("tokens")) as rig:
        yield rig


async def test_issued_token_says_who_and_what_for(shared: Rig) -> None:
    verified = await shared.tokens.verify(await shared.issue())
    assert (verified.tenant, verified.subject, verified.scope) == (TENANT, SUBJECT, SCOPE)


async def test_forged_token_with_nothing_wrong_verifies(shared: Rig) -> None:
    verified = await shared.tokens.verify((await shared.forge()).token())
    assert (verified.tenant, verified.subject) == (TENANT, SUBJECT)
    assert verified.scope == {Permission.MODEL_READ, Permission.MODEL_PREDICT, Permission.AUDIT_READ}


async def test_two_tokens_of_one_moment_differ(shared: Rig) -> None:
    assert await shared.issue() != await shared.issue()


@pytest.mark.parametrize("bad", INVALID_TOKENS)
async def test_verify_refuses(shared: Rig, bad: Bad) -> None:
    token = bad(await shared.forge())
    for _ in range(2):  # what was refused once is not remembered as good
        with pytest.raises(TokenInvalid) as caught:
            await shared.tokens.verify(token)
    assert token[:40] not in caught.value.detail or len(token) < 10


@pytest.mark.parametrize("bad", EXPIRED_TOKENS)
async def test_verify_tells_an_expired_token(shared: Rig, bad: Bad) -> None:
    with pytest.raises(TokenExpired):
        await shared.tokens.verify(bad(await shared.forge()))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exp": -5}, id="expired within the leeway"),
        pytest.param({"nbf": 5}, id="valid soon, within the leeway"),
        pytest.param({"iat": 5, "nbf": 5}, id="issued by a clock that is ahead, within the leeway"),
    ],
)
async def test_verify_allows_for_clocks_that_differ(shared: Rig, changes: dict[str, int]) -> None:
    forge = await shared.forge()
    now = forge.claims()["iat"]
    moved = {"iat": now - 60, **{name: now + seconds for name, seconds in changes.items()}}
    await shared.tokens.verify(forge.with_claims(**moved))


async def test_every_single_changed_character_is_refused(shared: Rig) -> None:
    token = await shared.issue()
    await shared.tokens.verify(token)
    for place in range(0, len(token), 3):
        changed = "A" if token[place] != "A" else "B"
        with pytest.raises(TokenInvalid):
            await shared.tokens.verify(token[:place] + changed + token[place + 1 :])


async def test_remembered_token_expires(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        token = await rig.issue()
        await rig.tokens.verify(token)
        rig.clock.ahead_s = RULES.life_s + RULES.skew_s - 2
        await rig.tokens.verify(token)
        rig.clock.ahead_s = RULES.life_s + RULES.skew_s + 1
        for _ in range(2):
            with pytest.raises(TokenExpired):
                await rig.tokens.verify(token)


async def test_rotation_keeps_old_tokens_good_and_signs_with_the_new_key(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        old = await rig.issue()
        first = (await rig.keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)).key_id
        await rig.rotate()
        new = await rig.issue()
        assert (await rig.keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)).key_id != first
        assert len((await rig.jwks.document())["keys"]) == 2
        for token in (old, new):
            assert (await rig.tokens.verify(token)).subject == SUBJECT


async def test_retired_keys_tokens_are_refused_remembered_or_not(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        remembered, unseen = await rig.issue(), await rig.issue()
        await rig.tokens.verify(remembered)
        await rig.rotate()
        await rig.retire(1)
        for token in (remembered, unseen):
            with pytest.raises(TokenInvalid):
                await rig.tokens.verify(token)
        assert len((await rig.jwks.document())["keys"]) == 1


async def test_token_verified_while_its_key_is_retired_is_not_remembered(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as rig:
        paused = PausedJWKSet(rig.keyring, rig.clock)
        tokens = Tokens(rig.keyring, paused, RULES, rig.clock)
        token = await rig.issue()
        verifying = asyncio.create_task(tokens.verify(token))
        await paused.has_key.wait()
        await rig.rotate()
        await rig.retire(1)
        tokens.forget()
        paused.may_go_on.set()
        await asyncio.gather(verifying, return_exceptions=True)  # it began before: either answer is right
        with pytest.raises(TokenInvalid):
            await tokens.verify(token)


async def test_key_that_another_process_made_is_known_at_once(tmp_path: Path) -> None:
    async with rig_in(tmp_path) as here, rig_in(tmp_path) as there:
        await here.tokens.verify(await here.issue())
        await there.rotate()
        assert (await here.tokens.verify(await there.issue())).subject == SUBJECT


async def test_unknown_kids_make_the_ring_be_read_at_a_bounded_rate(shared: Rig) -> None:
    forge = await shared.forge()
    began_s = shared.clock.monotonic_s()
    refused = [shared.tokens.verify(forge.with_header(kid=f"unknown-{n}")) for n in range(300)]
    answers = await asyncio.gather(*refused, return_exceptions=True)
    assert all(isinstance(answer, Unauthenticated) for answer in answers)
    assert shared.clock.monotonic_s() - began_s < 5


async def test_document_publishes_no_private_part(shared: Rig) -> None:
    for key in (await shared.jwks.document())["keys"]:
        assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
        assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")
