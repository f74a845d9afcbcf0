"""Tokens of identity providers: which count, for whom, and what every other kind is refused as."""

import base64
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builders.federated_tokens import BAD, MALLORY, Made, respelt
from builders.gateways import World, running_gateway
from maas_gateway.auth.identity_provider import ClaimRule, IdentityProvider
from maas_gateway.errors import GatewayError, TokenExpired, TokenInvalid, Unavailable
from maas_gateway.policy.roles import ROLES
from maas_gateway.principal import Principal
from simulators.identity_provider import ABSENT, AUDIENCE, ProviderSimulator, identity_provider

pytestmark = pytest.mark.anyio

RULES = [ClaimRule("ml-team", "invoker"), ClaimRule("ml-team", "publisher", "bc"), ClaimRule("auditors", "auditor")]


@dataclass
class Place:
    world: World
    provider: ProviderSimulator
    registered: IdentityProvider

    async def bearer(self, token: str) -> Principal:
        return await self.world.gateway.authenticator.principal(token)


@pytest.fixture(scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    async with identity_provider() as provider:
        oidc = {"allowed_hosts": [f"{slug}@{provider.host}" for slug in ("acme", "globex")]}
        async with running_gateway(tmp_path_factory.mktemp("federation"), oidc=oidc) as world:
            owner = await world.principal(await world.tenant("acme"))
            registered = await world.gateway.identity_providers.add(
                owner, "sso", issuer=provider.issuer, audience=AUDIENCE, claim="groups", rules=RULES
            )
            yield Place(world, provider, registered)


async def test_a_bearer_is_a_principal_of_the_tenant_with_what_the_rules_say(place: Place) -> None:
    bearer = await place.bearer(place.provider.token(groups=["ml-team", "strangers"]))
    assert bearer.tenant == await place.world.tenant_id("acme")
    assert bearer.subject == uuid.uuid5(place.registered.provider_id, "ada")
    assert (bearer.kind, bearer.name) == ("federated", "ada@sso.acme")
    assert bearer.everywhere == ROLES["invoker"]
    assert bearer.on_models == {"bc": ROLES["publisher"]}


async def test_a_bearer_of_no_known_value_may_do_nothing(place: Place) -> None:
    for groups in (ABSENT, [], ["strangers"], "ml-teams", {"ml-team": True}):
        assert (await place.bearer(place.provider.token(groups=groups))).anywhere == frozenset()


GOOD: dict[str, Made] = {
    "no typ": lambda p: p.signed(p.header(typ=ABSENT)),
    "the typ JWT": lambda p: p.signed(p.header(typ="JWT")),
    "the typ in small letters": lambda p: p.signed(p.header(typ="jwt")),
    "the typ of access tokens in capitals": lambda p: p.signed(p.header(typ="AT+JWT")),
    "a header that nobody looks at": lambda p: p.signed(p.header(x5t="abc", cty="x")),
    "the audience in a list": lambda p: p.token(aud=["another", AUDIENCE]),
    "the audience in a list twice": lambda p: p.token(aud=[AUDIENCE, AUDIENCE]),
    "an nbf of now": lambda p: p.token(nbf=int(time.time())),
    "no iat": lambda p: p.token(iat=ABSENT),
    "an exp a second ago, within the leeway": lambda p: p.token(exp=int(time.time()) - 1),
    "an exp a day away": lambda p: p.token(exp=int(time.time()) + 86_400),
    "an iat ahead within the leeway": lambda p: p.token(iat=int(time.time()) + 5),
    "a subject of 255 letters": lambda p: p.token(sub="s" * 255),
    "claims that nobody knows": lambda p: p.token(at_hash="x", azp="y", jti=7, scope=["a"], tenant="globex"),
}


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD)
async def test_a_token_of_another_make_counts_too(place: Place, good: Made) -> None:
    assert (await place.bearer(good(place.provider))).kind == "federated"


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_a_token_that_is_wrong_in_one_way_is_refused(place: Place, bad: Made) -> None:
    with pytest.raises(TokenInvalid):
        await place.bearer(bad(place.provider))
    assert (await place.bearer(place.provider.token())).kind == "federated"


@pytest.mark.parametrize("ago_s", [11, 3_600])
async def test_a_token_that_was_good_once_has_expired(place: Place, ago_s: int) -> None:
    with pytest.raises(TokenExpired):
        await place.bearer(place.provider.token(exp=int(time.time()) - ago_s, iat=int(time.time()) - 4_000))


@pytest.mark.parametrize("name", ["jku", "x5u"])
async def test_an_address_in_a_header_is_not_asked(place: Place, name: str) -> None:
    async with identity_provider() as thief:
        thief.use(MALLORY)
        forged = place.provider.signed(
            place.provider.header(alg="ES256", **{name: f"{thief.issuer}/keys"}), sign=MALLORY.sign
        )
        with pytest.raises(TokenInvalid):
            await place.bearer(forged)
        assert thief.n_connections == 0


@pytest.mark.parametrize(
    "aud", [AUDIENCE, "another", ABSENT, [AUDIENCE, "another"]], ids=["ours", "another", "none", "both"]
)
async def test_nobody_is_asked_for_an_issuer_that_is_not_registered(place: Place, aud: Any) -> None:
    async with identity_provider() as stranger:
        with pytest.raises(TokenInvalid):
            await place.bearer(stranger.token(aud=aud))
        with pytest.raises(TokenInvalid):
            await place.bearer(stranger.token(iss=place.provider.issuer, aud="another"))
        assert stranger.n_connections == 0


async def test_a_stranger_is_refused_in_the_words_that_every_foreign_token_is_refused_in(
    place: Place, tmp_path: Path
) -> None:
    async with identity_provider() as stranger, running_gateway(tmp_path) as plain:
        for header in (stranger.header(), stranger.header(typ="JWT"), stranger.header(alg="none")):
            token = stranger.signed(header)
            told = [await _refusal(world, token) for world in (place.world, plain)]
            assert told[0] == told[1]


async def _refusal(world: World, token: str) -> tuple[type[GatewayError], str]:
    try:
        await world.gateway.authenticator.principal(token)
    except GatewayError as refused:
        return type(refused), refused.detail
    raise AssertionError


@pytest.mark.parametrize(
    ("sub", "name"),
    [
        ("ada", "ada"),
        ("owner@acme", "owner@acme"),
        ("s" * 48, "s" * 48),
        ("s" * 49, "s" * 39 + "~"),
        ("Ada Lovelace", "Ada?Lovelace~"),
        ("\u202eeve", "?eve~"),
        ("a\nb\x00", "a?b?~"),
        ("ключ", "????~"),
    ],
    ids=ascii,
)
async def test_a_name_on_record_is_plain_short_and_nobody_elses(place: Place, sub: str, name: str) -> None:
    bearer = await place.bearer(place.provider.token(sub=sub))
    expected = name + (bearer.subject.hex[:8] if name.endswith("~") else "")
    assert bearer.name == f"{expected}@sso.acme"


async def test_a_token_for_two_registered_audiences_is_nobodys(place: Place) -> None:
    owner = await place.world.principal(place.world.owners["acme"])
    providers, issuer = place.world.gateway.identity_providers, place.provider.issuer
    theirs = await providers.add(owner, "other", issuer=issuer, audience="globex", claim="groups", rules=RULES)
    assert (await place.bearer(place.provider.token(aud="globex"))).tenant == owner.tenant
    assert (await place.bearer(place.provider.token(aud=["globex", "x"]))).tenant == owner.tenant
    with pytest.raises(TokenInvalid):
        await place.bearer(place.provider.token(aud=["globex", AUDIENCE]))
    ada = [await place.bearer(place.provider.token(aud=aud)) for aud in ("globex", AUDIENCE)]
    assert ada[0].subject != ada[1].subject
    await providers.remove(owner, theirs.provider_id)


async def test_a_provider_that_is_down_from_the_beginning_is_unavailable_and_not_a_wrong_token(place: Place) -> None:
    owner = await place.world.principal(place.world.owners["acme"])
    issuer = place.provider.issuer + "/down"
    await place.world.gateway.identity_providers.add(
        owner, "down", issuer=issuer, audience=AUDIENCE, claim="groups", rules=RULES
    )
    with pytest.raises(Unavailable) as caught:
        await place.bearer(place.provider.token(iss=issuer))
    assert caught.value.retry_after_s is not None


async def test_a_bearer_is_remembered_until_the_token_ends_and_no_longer_than_the_keys(place: Place) -> None:
    federation, now = place.world.gateway.authenticator._federation, time.time()
    short = await federation.bearer(place.provider.token(exp=int(now) + 60))
    long = await federation.bearer(place.provider.token(exp=int(now) + 7_200))
    assert short is not None
    assert long is not None
    assert short.until_s == int(now) + 60 + place.world.settings.tokens.skew_s
    assert long.until_s <= time.time() + place.world.settings.oidc.keys_life_s


def test_the_forgery_of_another_spelling_is_one(place: Place) -> None:
    token = place.provider.token()
    decoded = [base64.urlsafe_b64decode(t.rpartition(".")[2] + "==") for t in (token, respelt(token))]
    assert decoded[0] == decoded[1]
    assert token != respelt(token)
