"""Tokens of identity providers: which count, for whom, and what every other kind is refused as."""

import base64
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builders.gateways import World, running_gateway
from maas_gateway.auth.identity_provider import ClaimRule, IdentityProvider
from maas_gateway.errors import GatewayError, TokenExpired, TokenInvalid, Unavailable
from maas_gateway.policy.roles import ROLES
from maas_gateway.principal import Principal
from simulators.identity_provider import (
    ABSENT,
    AUDIENCE,
    ProviderSimulator,
    identity_provider,
    signing_key,
    symmetric,
)

pytestmark = pytest.mark.anyio

RULES = [ClaimRule("ml-team", "invoker"), ClaimRule("ml-team", "publisher", "bc"), ClaimRule("auditors", "auditor")]
MALLORY = signing_key("first", "ES256")


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
        oidc = {"allowed_hosts": [provider.host]}
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


Good = Callable[[ProviderSimulator], str]
GOOD: dict[str, Good] = {
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
async def test_a_token_of_another_make_counts_too(place: Place, good: Good) -> None:
    assert (await place.bearer(good(place.provider))).kind == "federated"


def _swapped(provider: ProviderSimulator, part: int) -> str:
    parts, others = provider.token().split("."), provider.signed(provider.header(typ="JWT"), provider.claims(sub="eve"))
    parts[part] = others.split(".")[part]
    return ".".join(parts)


def _text(provider: ProviderSimulator, before: str, after: str) -> str:
    text = json.dumps(provider.claims())
    assert before in text
    return provider.signed(claims=text.replace(before, after, 1).encode())


def _respelt(token: str) -> str:
    last = token[-1]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + letters[letters.index(last) ^ 1]  # 256 bytes leave unused bits in the last letter


def _jwk_header(provider: ProviderSimulator) -> str:
    return provider.signed(provider.header(alg="ES256", jwk=MALLORY.jwk()), sign=MALLORY.sign)


BAD: dict[str, Good] = {
    **{
        f"alg {alg!r} and {what}": lambda p, alg=alg, sign=sign: p.signed(p.header(alg=alg), sign=sign)  # type: ignore[misc]
        for alg in ("none", "None", "NONE", "")
        for what, sign in (("some signature", lambda _: b"x"), ("the right signature", None))
    },
    "alg none and no signature": lambda p: p.signed(p.header(alg="none"), sign=lambda _: b""),
    "HS256 keyed by the public key in PEM": lambda p: p.signed(p.header(alg="HS256"), sign=symmetric(p.key.pem())),
    "HS256 keyed by the public key's JWK": lambda p: p.signed(
        p.header(alg="HS256"), sign=symmetric(json.dumps(p.key.jwk()).encode())
    ),
    "HS256 keyed by nothing": lambda p: p.signed(p.header(alg="HS256"), sign=symmetric(b"")),
    "RS256 in the header, HMAC in the signature": lambda p: p.signed(sign=symmetric(p.key.pem())),
    "RS512 with the RS256 key": lambda p: p.signed(p.header(alg="RS512"), sign=lambda m: p.key.sign(m, "RS512")),
    "PS256": lambda p: p.signed(p.header(alg="PS256")),
    "an alg that is a list": lambda p: p.signed(p.header(alg=["RS256"])),
    "no alg": lambda p: p.signed(p.header(alg=ABSENT)),
    "another key of the same kid": lambda p: p.signed(sign=signing_key("another").sign),
    "another key of the same kid, EC": lambda p: p.signed(p.header(alg="ES256"), sign=MALLORY.sign),
    "a jwk header with the thief's key": _jwk_header,
    "a kid that is unknown": lambda p: p.signed(p.header(kid="unknown")),
    "an empty kid": lambda p: p.signed(p.header(kid="")),
    "a kid that is null": lambda p: p.signed(p.header(kid=None)),
    "a kid that is a list": lambda p: p.signed(p.header(kid=["first"])),
    "a kid that is half a surrogate pair": lambda p: p.signed(p.header(kid="\ud800")),
    "no kid": lambda p: p.signed(p.header(kid=ABSENT)),
    "a crit header": lambda p: p.signed(p.header(crit=["exp"])),
    "an empty crit header": lambda p: p.signed(p.header(crit=[])),
    "a payload that is not encoded": lambda p: p.signed(p.header(b64=False, crit=["b64"])),
    "the typ of a logout token": lambda p: p.signed(p.header(typ="logout+jwt")),
    "the typ as a list": lambda p: p.signed(p.header(typ=["JWT"])),
    "the typ as null": lambda p: p.signed(p.header(typ=None)),
    "the header of another token": lambda p: _swapped(p, 0),
    "the claims of another token": lambda p: _swapped(p, 1),
    "the signature of another token": lambda p: _swapped(p, 2),
    "a signature of zeros": lambda p: p.signed(sign=lambda _: bytes(256)),
    "half a signature": lambda p: p.signed(sign=lambda m: p.key.sign(m)[:128]),
    "a signature spelt otherwise": lambda p: _respelt(p.token()),
    "a newline behind it": lambda p: p.token() + "\n",
    "padding": lambda p: p.token() + "==",
    "a fourth part": lambda p: p.token() + ".e30",
    "more than 8 KiB": lambda p: p.token(padding="x" * 8_192),
    "claims that are a list": lambda p: p.signed(claims=b"[1]"),
    "a claim said twice": lambda p: _text(p, '{"iss"', '{"aud": "maas-gateway", "iss"'),
    "an exp of Infinity": lambda p: p.token(exp=float("inf")),
    "another issuer": lambda p: p.token(iss="https://attacker.example"),
    "its issuer with a slash": lambda p: p.token(iss=p.issuer + "/"),
    "its issuer in capitals": lambda p: p.token(iss=p.issuer.upper()),
    "its issuer in a list": lambda p: p.token(iss=[p.issuer]),
    "no issuer": lambda p: p.token(iss=ABSENT),
    "our own issuer": lambda p: p.token(iss="http://127.0.0.1:8080"),
    "another audience": lambda p: p.token(aud="another"),
    "other audiences": lambda p: p.token(aud=["another", "third"]),
    "an audience that begins like ours": lambda p: p.token(aud=AUDIENCE + "-2"),
    "an audience in capitals": lambda p: p.token(aud=AUDIENCE.upper()),
    "an audience in a list in a list": lambda p: p.token(aud=[[AUDIENCE]]),
    "an audience as a member": lambda p: p.token(aud={AUDIENCE: 1}),
    "no audience": lambda p: p.token(aud=ABSENT),
    **{
        f"{name} as {value!r}": lambda p, n=name, v=value: p.token(**{n: v})  # type: ignore[misc]
        for name in ("exp", "nbf", "iat")
        for value in (None, "1", True, [], 1.5, -1, 2**63)
    },
    "no exp": lambda p: p.token(exp=ABSENT),
    "an exp of more than a day": lambda p: p.token(exp=int(time.time()) + 86_500),
    "an nbf ahead": lambda p: p.token(nbf=int(time.time()) + 60),
    "an iat ahead": lambda p: p.token(iat=int(time.time()) + 60),
    **{f"sub as {value!r}": lambda p, v=value: p.token(sub=v) for value in (None, "", 7, ["ada"], {}, True)},  # type: ignore[misc]
    "no sub": lambda p: p.token(sub=ABSENT),
    "a subject of 256 letters": lambda p: p.token(sub="s" * 256),
    "a subject that is half a surrogate pair": lambda p: p.token(sub="\ud800"),
    "a key of its sender's that nobody checks": lambda p: p.token(cnf={"jkt": "x"}),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
async def test_a_token_that_is_wrong_in_one_way_is_refused(place: Place, bad: Good) -> None:
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
    decoded = [base64.urlsafe_b64decode(t.rpartition(".")[2] + "==") for t in (token, _respelt(token))]
    assert decoded[0] == decoded[1]
    assert token != _respelt(token)
