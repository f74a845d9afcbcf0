"""Keys of identity providers: which count, when they are fetched, what a provider that misbehaves can do."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from maas_gateway.auth.provider_address import AllowedHosts
from maas_gateway.auth.provider_keys import GRACE_S, MAX_KEYS, MAX_WAITING, ProviderKeys
from maas_gateway.errors import TokenInvalid, Unavailable
from simulators.clock import ManualClock
from simulators.identity_provider import (
    ABSENT,
    DISCOVERY,
    KEYS,
    Mode,
    ProviderSimulator,
    identity_provider,
    signing_key,
)

pytestmark = [pytest.mark.anyio, pytest.mark.thorough]

LIFE_S, PAUSE_S = 600, 30
DEADLINE_S, SHORT_S = 10.0, 0.8


class Place:
    """A provider, and who follows its keys on a clock that a test moves."""

    def __init__(self, provider: ProviderSimulator, *hosts: str, deadline_s: float) -> None:
        self.provider = provider
        self.clock = ManualClock()
        self.tasks: list[asyncio.Task[None]] = []
        self.keys = ProviderKeys(
            AllowedHosts([provider.host, *hosts]),
            clock=self.clock,
            spawn=self._spawn,
            deadline_s=deadline_s,
            life_s=LIFE_S,
            pause_s=PAUSE_S,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    async def key(self, kid: str = "first") -> Any:
        return (await self.keys.key(self.provider.issuer, kid))[0]

    async def has(self, kid: str = "first") -> bool:
        try:
            await self.key(kid)
        except TokenInvalid:
            return False
        return True

    @property
    def n_fetches(self) -> int:
        return self.provider.asked.count(DISCOVERY)


@asynccontextmanager
async def _place(*hosts: str, deadline_s: float = DEADLINE_S) -> AsyncIterator[Place]:
    async with identity_provider() as provider:
        place = Place(provider, *hosts, deadline_s=deadline_s)
        yield place
        await asyncio.gather(*place.tasks)
        await place.keys.close()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    async with _place() as place:
        yield place


@pytest.fixture
async def hasty() -> AsyncIterator[Place]:
    async with _place(deadline_s=SHORT_S) as place:
        yield place


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"])
async def test_a_key_verifies_what_was_signed_with_it_and_nothing_else(place: Place, algorithm: str) -> None:
    provider = place.provider
    provider.use(signing_key("k", algorithm))
    key = await place.key("k")
    assert key.algorithm == algorithm
    key.verify(provider.token())
    for token in (provider.signed(sign=signing_key("other", algorithm).sign), provider.signed(sign=lambda _: b"x")):
        with pytest.raises(TokenInvalid):
            key.verify(token)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "ES512"])
async def test_a_key_that_names_no_algorithm_has_the_usual_one(place: Place, algorithm: str) -> None:
    key = signing_key("k", algorithm)
    place.provider.keys = [key.jwk(alg=ABSENT, use=ABSENT)]
    assert (await place.key("k")).algorithm == algorithm


RSA, EC = signing_key("bad", "RS256"), signing_key("bad", "ES256")
OTHER = signing_key("bad", "ES384")
UNUSABLE: dict[str, Any] = {
    "for encryption": RSA.jwk(use="enc"),
    "for signing by its holder only": RSA.jwk(key_ops=["sign"]),
    "for operations that are no list": RSA.jwk(key_ops="verify"),
    "symmetric": {"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "bad", "alg": "HS256"},
    "of a type that nobody knows": RSA.jwk(kty="XYZ"),
    "of no type": RSA.jwk(kty=ABSENT),
    "Ed25519": {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "bad"},
    "on secp256k1": EC.jwk(crv="secp256k1", alg=ABSENT),
    "RSA of 1024 bits": signing_key("bad", "RS256", 1024).jwk(),
    "RSA of 16384 bits": RSA.jwk(n="_" * 2731),
    "RSA with a huge exponent": RSA.jwk(e=RSA.jwk()["n"]),
    "RSA with an even exponent": RSA.jwk(e="Ag"),
    "RSA without a modulus": RSA.jwk(n=ABSENT),
    "RSA whose modulus is a number": RSA.jwk(n=17),
    "RSA for HS256": RSA.jwk(alg="HS256"),
    "RSA for none": RSA.jwk(alg="none"),
    "RSA for PS256": RSA.jwk(alg="PS256"),
    "RSA for ES256": RSA.jwk(alg="ES256"),
    "RSA whose algorithm is a list": RSA.jwk(alg=["RS256"]),
    "EC for RS256": EC.jwk(alg="RS256"),
    "EC for another curve's algorithm": EC.jwk(alg="ES384"),
    "EC off its curve": EC.jwk(y=EC.jwk()["x"]),
    "EC with another curve's coordinates": OTHER.jwk(crv="P-256", alg="ES256"),
    "EC whose coordinate is no base64": EC.jwk(x="!!!"),
    "with its private half": EC.jwk(d="AQAB"),
    "a text": "bad",
    "null": None,
}


@pytest.mark.parametrize("listed", UNUSABLE.values(), ids=UNUSABLE)
async def test_a_key_that_does_not_count_leaves_the_others_alone(place: Place, listed: Any) -> None:
    place.provider.keys.insert(0, listed)
    assert await place.has("first")
    assert not await place.has("bad")


@pytest.mark.parametrize(
    "kid", [ABSENT, "", 7, None, ["first"]], ids=["no", "an empty", "a number as", "null as", "a list as"]
)
async def test_a_key_with_no_text_as_its_kid_does_not_count(place: Place, kid: Any) -> None:
    place.provider.keys.append(EC.jwk(kid=kid))
    assert await place.has("first")
    assert not await place.has("")


async def test_two_keys_of_one_kid_name_neither(place: Place) -> None:
    place.provider.keys += [EC.jwk(), OTHER.jwk(), RSA.jwk()]
    assert await place.has("first")
    assert not await place.has("bad")


async def test_so_many_keys_are_taken_and_one_more_is_no_key_set(place: Place) -> None:
    place.provider.keys += [EC.jwk(kid=f"k{number}") for number in range(MAX_KEYS - 1)]
    assert await place.has(f"k{MAX_KEYS - 2}")
    place.provider.keys.append(EC.jwk(kid="too many"))
    place.clock.move(PAUSE_S)
    with pytest.raises(Unavailable):
        await place.key("too many")
    assert await place.has("first")


async def test_keys_are_fetched_once_until_they_are_old(place: Place) -> None:
    for _ in range(3):
        assert await place.has()
        place.clock.move(LIFE_S / 3 - 1)
    assert place.n_fetches == 1
    place.clock.move(LIFE_S)
    assert await place.has()
    assert place.provider.asked == [DISCOVERY, KEYS] * 2


async def test_what_was_found_out_holds_until_the_keys_are_due_again(place: Place) -> None:
    assert (await place.keys.key(place.provider.issuer, "first"))[1] == LIFE_S
    place.clock.move(100)
    assert (await place.keys.key(place.provider.issuer, "first"))[1] == LIFE_S - 100


async def test_whoever_comes_while_keys_are_fetched_waits_for_that_answer(place: Place) -> None:
    assert all(await asyncio.gather(*(place.has() for _ in range(50))))
    assert place.n_fetches == 1


async def test_a_fetch_ends_though_whoever_waited_for_it_has_gone(place: Place) -> None:
    waiting = asyncio.create_task(place.key())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(*place.tasks)
    await place.provider.stop()
    assert await place.has()
    await place.provider.start()


async def test_so_many_wait_for_a_provider_and_one_more_is_told_so_at_once(hasty: Place) -> None:
    hasty.provider.modes[DISCOVERY] = Mode.SLOW
    waiting = [asyncio.create_task(hasty.key()) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    one_more = asyncio.create_task(hasty.key())
    await asyncio.sleep(0)
    assert isinstance(one_more.exception(), Unavailable)
    assert not any(task.done() for task in waiting)
    assert all(isinstance(told, Unavailable) for told in await asyncio.gather(*waiting, return_exceptions=True))
    assert hasty.n_fetches == 1


async def test_an_unknown_kid_has_the_keys_fetched_again_at_most_once_in_the_pause(place: Place) -> None:
    assert await place.has()
    place.provider.use(signing_key("second", "ES256"))
    assert not await place.has("second")  # the first fetch was a moment ago
    place.clock.move(PAUSE_S)
    assert await place.has("second")
    assert not await place.has("first"), "a key that is listed no more counts no more"
    for number in range(500):
        assert not await place.has(f"made up {number}")
    assert place.n_fetches == 2
    place.clock.move(PAUSE_S - 1)
    assert not await place.has("made up")
    assert place.n_fetches == 2


async def test_a_key_swapped_under_its_kid_counts_once_the_keys_are_due(place: Place) -> None:
    provider = place.provider
    (await place.key()).verify(before := provider.token())
    provider.key = signing_key("first", "ES256")
    provider.keys = [provider.key.jwk()]
    with pytest.raises(TokenInvalid):
        (await place.key()).verify(provider.token())
    place.clock.move(LIFE_S)
    (await place.key()).verify(provider.token())
    with pytest.raises(TokenInvalid):
        (await place.key()).verify(before)


BAD = [mode for mode in Mode if mode is not Mode.USUAL]


@pytest.mark.parametrize("path", [DISCOVERY, KEYS], ids=["discovery", "keys"])
@pytest.mark.parametrize("mode", BAD, ids=lambda mode: mode.value)
async def test_a_provider_that_misbehaves_is_unavailable_within_the_deadline(
    hasty: Place, mode: Mode, path: str
) -> None:
    hasty.provider.modes[path] = mode
    if mode is Mode.TWICE and path == DISCOVERY:
        hasty.provider.discovery["keys"] = []  # so that this document says it twice too
    began_s = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        await hasty.key()
    assert time.monotonic() - began_s < SHORT_S + 1
    assert caught.value.retry_after_s == pytest.approx(PAUSE_S)
    assert all("?" not in asked for asked in hasty.provider.asked), "no redirect is followed"
    hasty.provider.mend()
    with pytest.raises(Unavailable):
        await hasty.key()
    assert hasty.n_fetches == 0, "it is left alone for the pause"
    hasty.clock.move(PAUSE_S)
    assert await hasty.has()


@pytest.mark.parametrize("way", ["refuses connections", *(mode.value for mode in (Mode.SLOW, Mode.BROKEN))])
async def test_known_keys_count_for_an_hour_while_their_provider_does_not_answer(hasty: Place, way: str) -> None:
    provider = hasty.provider
    assert await hasty.has()
    if way == "refuses connections":
        await provider.stop()
    else:
        provider.modes = dict.fromkeys((DISCOVERY, KEYS), Mode(way))
    hasty.clock.move(LIFE_S)
    assert (await hasty.keys.key(provider.issuer, "first"))[1] == pytest.approx(PAUSE_S), "asked again soon"
    began_s = time.monotonic()
    for _ in range(100):
        assert await hasty.has()
    assert time.monotonic() - began_s < SHORT_S, "nobody waits for it a second time"
    with pytest.raises(Unavailable):
        await hasty.key("unknown")
    hasty.clock.move(GRACE_S)
    assert await hasty.has()
    hasty.clock.move(PAUSE_S)
    with pytest.raises(Unavailable):
        await hasty.key()
    if way == "refuses connections":
        await provider.start()
    provider.mend()
    hasty.clock.move(PAUSE_S)
    assert await hasty.has()


@pytest.mark.parametrize(
    "issuer",
    ["http://127.0.0.1:1", "{issuer}/", "{issuer}/realms/other", "HTTP://{host}", "", None, ["{issuer}"]],
    ids=repr,
)
async def test_a_discovery_document_of_another_issuer_is_none(place: Place, issuer: Any) -> None:
    provider = place.provider
    if isinstance(issuer, str):
        issuer = issuer.format(issuer=provider.issuer, host=provider.host)
    provider.discovery = {"issuer": issuer}
    with pytest.raises(Unavailable):
        await place.key()
    assert provider.asked == [DISCOVERY]


@pytest.mark.parametrize("address", [None, 7, ["http://127.0.0.1/keys"], "", "/keys", "file:///etc/passwd"], ids=repr)
async def test_a_discovery_document_that_names_no_address_of_keys_is_none(place: Place, address: Any) -> None:
    place.provider.discovery = {"jwks_uri": address}
    with pytest.raises(Unavailable):
        await place.key()


async def test_keys_on_a_host_that_is_not_listed_are_not_even_asked_for(place: Place) -> None:
    async with identity_provider() as elsewhere:
        elsewhere.keys = place.provider.keys
        place.provider.discovery = {"jwks_uri": elsewhere.issuer + KEYS}
        with pytest.raises(Unavailable):
            await place.key()
        assert elsewhere.n_connections == 0


async def test_keys_on_another_host_that_is_listed_count() -> None:
    async with identity_provider() as elsewhere, _place(elsewhere.host) as place:
        elsewhere.use(signing_key("second", "ES256"))
        place.provider.discovery = {"jwks_uri": elsewhere.issuer + KEYS}
        assert await place.has("second")
        assert elsewhere.asked == [KEYS]


async def test_an_issuer_that_ends_in_a_slash_has_its_document_beneath_it(place: Place) -> None:
    issuer = place.provider.issuer + "/"
    place.provider.discovery = {"issuer": issuer}
    assert (await place.keys.key(issuer, "first"))[0].algorithm == "RS256"
    assert place.provider.asked == [DISCOVERY, KEYS]


async def test_a_proxy_of_the_environment_is_not_asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with identity_provider() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.issuer)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        assert await place.has()
        assert proxy.n_connections == 0
