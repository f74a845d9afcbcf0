"""The public keys of identity providers: fetched, checked, kept for a while, and what verifies with them.

Rules:
- an issuer is asked when somebody who is registered for it has a token to verify and its keys are unknown or old, or
  lack the token's; never twice within the pause, whatever came of the first time; who comes meanwhile waits for
  that one answer, or gets none if too many wait;
- discovery, then the keys: both from listed hosts, no redirects, no proxy and no credential of the environment,
  one deadline for both, 256 KiB of each, strict JSON; the discovery document names the very issuer asked for; a
  token's own `jku`, `x5u` or `jwk` is never looked at;
- a key counts if it is RSA of 2048 to 8192 bits or EC on P-256, P-384 or P-521, is for signatures, has a `kid` that
  no other has, and does not come with its private half; it fixes the algorithm: the one that it names, else RS256
  or the curve's;
- while the provider does not answer, keys that are known count for an hour more; then, and where none are known,
  nobody can tell who is who: unavailable.

Protects against a provider that is slow, endless, swapped or elsewhere. Does not protect against whoever can change
what the provider's host answers: those keys are the truth about its users.

Source: OpenID Connect Discovery 1.0 sections 3 and 4; OpenID Connect Core 1.0 section 10.1.1 (keys rolled over);
RFC 7517 sections 4 and 5; RFC 7518 sections 3.3, 3.4, 6.2 and 6.3; RFC 8725 sections 3.1 and 3.10.
"""

import asyncio
import base64
import math
import ssl
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import structlog
from jose import jwk, jws
from jose.backends.base import Key

from maas_gateway.auth.jwt_form import strict_object
from maas_gateway.auth.provider_address import AllowedHosts
from maas_gateway.clock import Clock
from maas_gateway.errors import TokenInvalid, Unavailable

MAX_ANSWER_BYTES: Final = 256 << 10
MAX_KEYS: Final = 64
GRACE_S: Final = 3_600.0
"""How long keys that are due count on while their provider does not answer."""
MAX_WAITING: Final = 1_000
MAX_ISSUERS: Final = 1_024

_DISCOVERY: Final = "/.well-known/openid-configuration"
_OK: Final = 200
_RSA_BITS: Final = range(2_048, 8_193)
_MAX_EXPONENT_BITS: Final = 32
_RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512")
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_MEMBERS: Final = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y")}
_MAX_REASON: Final = 200
_NO_ANSWER: Final = "the identity provider does not answer, or not as one does"

Spawn = Callable[[Coroutine[Any, Any, None]], None]


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """One public key of a provider.

    Attributes:
        algorithm: the only one that it is used for.
        key: the library's.
    """

    algorithm: str
    key: Key

    def verify(self, token: str) -> None:
        """Return only if the token was signed with this key's private half.

        Raises:
            TokenInvalid: it was not.
        """
        try:
            jws.verify(token, self.key, [self.algorithm])
        except Exception as cause:
            # The library raises whatever its parts raise; each of them means that the token does not verify.
            raise TokenInvalid("the token does not verify") from cause


@dataclass(slots=True)
class _Followed:
    """What is known of one issuer; times are of the monotonic clock."""

    keys: Mapping[str, ProviderKey] = field(default_factory=dict)
    fetched_at_s: float = -math.inf
    tried_at_s: float = -math.inf
    fetching: asyncio.Event | None = None
    n_waiting: int = 0


class ProviderKeys:
    """Every followed issuer's keys.

    Args:
        hosts: which may be asked.
        clock: what time it is.
        spawn: runs a fetch to its end, also when whoever waits for it goes away.
        deadline_s: how long a fetch may take.
        life_s: how long keys count without being fetched again.
        pause_s: the least time between two fetches for one issuer.
    """

    def __init__(
        self, hosts: AllowedHosts, *, clock: Clock, spawn: Spawn, deadline_s: float, life_s: float, pause_s: float
    ) -> None:
        self._hosts = hosts
        self._clock = clock
        self._spawn = spawn
        self._deadline_s = deadline_s
        self._life_s = life_s
        self._pause_s = pause_s
        self._followed: dict[str, _Followed] = {}
        self._tls: ssl.SSLContext | None = None
        self._client: httpx.AsyncClient | None = None
        self._log = structlog.get_logger()

    async def key(self, issuer: str, kid: str) -> tuple[ProviderKey, float]:
        """Return an issuer's key of that id, and for how many seconds that it counts need not be asked again.

        Raises:
            TokenInvalid: the issuer has no such key.
            Unavailable: what keys it has cannot be told.
        """
        followed = self._follow(issuer)
        if kid not in followed.keys or self._age_s(followed) >= self._life_s:
            await self._refresh(issuer, followed)
        age_s = self._age_s(followed)
        has_answered = followed.fetched_at_s >= followed.tried_at_s
        key = followed.keys.get(kid)
        if age_s > self._life_s + GRACE_S or (key is None and not has_answered):
            raise Unavailable(_NO_ANSWER, retry_after_s=max(1.0, self._pause_left_s(followed)))
        if key is None:
            raise TokenInvalid("the token's key is unknown or retired")
        return key, max(self._life_s - age_s, self._pause_left_s(followed), 1.0)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    def _follow(self, issuer: str) -> _Followed:
        followed = self._followed.get(issuer)
        if followed is None:
            if len(self._followed) >= MAX_ISSUERS:
                self._followed.pop(next(iter(self._followed)))
            followed = self._followed[issuer] = _Followed()
        return followed

    def _age_s(self, followed: _Followed) -> float:
        return self._clock.monotonic_s() - followed.fetched_at_s

    def _pause_left_s(self, followed: _Followed) -> float:
        return followed.tried_at_s + self._pause_s - self._clock.monotonic_s()

    async def _refresh(self, issuer: str, followed: _Followed) -> None:
        """Have the keys fetched unless that was tried a moment ago; wait for what is under way."""
        if followed.fetching is None:
            if self._pause_left_s(followed) > 0:
                return
            followed.tried_at_s = self._clock.monotonic_s()
            followed.fetching = asyncio.Event()
            self._spawn(self._fetch(issuer, followed, followed.fetching))
        if followed.n_waiting >= MAX_WAITING:
            return
        followed.n_waiting += 1
        try:
            await asyncio.wait_for(followed.fetching.wait(), self._deadline_s + 1)
        except TimeoutError:
            return  # a gateway that is closing runs no fetch any more
        finally:
            followed.n_waiting -= 1

    async def _fetch(self, issuer: str, followed: _Followed, done: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(self._deadline_s):
                keys = await self._download(issuer)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as fault:
            reason = str(fault)[:_MAX_REASON] or type(fault).__name__
            self._log.warning("identity_provider_unavailable", issuer=issuer, reason=reason)
        else:
            followed.keys, followed.fetched_at_s = keys, self._clock.monotonic_s()
        finally:
            followed.fetching = None
            done.set()

    async def _download(self, issuer: str) -> Mapping[str, ProviderKey]:
        said = await self._get(issuer.rstrip("/") + _DISCOVERY)
        if said.get("issuer") != issuer:
            raise ValueError("its discovery document names another issuer")
        address = said.get("jwks_uri")
        if not isinstance(address, str):
            raise ValueError("its discovery document names no jwks_uri")  # noqa: TRY004  one kind of failure
        listed = (await self._get(address)).get("keys")
        if not isinstance(listed, list) or len(listed) > MAX_KEYS:
            raise ValueError(f"its key set is no list of at most {MAX_KEYS} keys")
        return _usable(listed)

    async def _get(self, address: str) -> dict[str, Any]:
        self._hosts.check(address)
        client = await self._opened()
        async with client.stream("GET", address) as response:
            if response.status_code != _OK:
                raise ValueError(f"{address} answers {response.status_code}")
            return strict_object(await _bounded(response))

    async def _opened(self) -> httpx.AsyncClient:
        """Return the client; a gateway without federation has none and does not read the system's certificates."""
        if self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        if self._client is None:
            self._client = _new_client(self._tls, self._deadline_s)
        return self._client


def _new_client(tls: ssl.SSLContext, deadline_s: float) -> httpx.AsyncClient:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    return httpx.AsyncClient(verify=tls, timeout=deadline_s, trust_env=False, follow_redirects=False, headers=headers)


async def _bounded(response: httpx.Response) -> bytes:
    content = bytearray()
    async with aclosing(response.aiter_raw()) as chunks:  # type: ignore[type-var]  # it is declared as less than it is
        async for chunk in chunks:
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                raise ValueError(f"its answer is longer than {MAX_ANSWER_BYTES} bytes")
    return bytes(content)


def _usable(listed: Iterable[object]) -> dict[str, ProviderKey]:
    """Return the keys that count, by their ids; an id that two have names neither."""
    found: dict[str, ProviderKey] = {}
    seen: set[str] = set()
    for said in listed:
        kid = said.get("kid") if isinstance(said, dict) else None
        if not isinstance(said, dict) or not isinstance(kid, str) or not kid:
            continue
        key = _key(said)
        if kid in seen:
            found.pop(kid, None)
        elif key is not None:
            found[kid] = key
        seen.add(kid)
    return found


def _key(said: Mapping[str, Any]) -> ProviderKey | None:
    """Return the key that a JWK describes, None for one that does not count."""
    algorithm = _algorithm(said)
    operations = said.get("key_ops", ["verify"])
    is_to_verify = said.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    if algorithm is None or not is_to_verify or "d" in said:
        return None
    try:
        return ProviderKey(algorithm, jwk.construct({name: said[name] for name in _MEMBERS[said["kty"]]}, algorithm))
    except Exception:  # noqa: BLE001  the library raises whatever its parts raise; each of them means that it is no key
        return None


def _algorithm(said: Mapping[str, Any]) -> str | None:
    """Return the only algorithm that a key is good for, None for one that does not count."""
    match said:
        case {"kty": "RSA", "n": str(modulus), "e": str(exponent)}:
            if _bits(modulus) not in _RSA_BITS or _bits(exponent) > _MAX_EXPONENT_BITS:
                return None
            named = said.get("alg", _RSA_ALGORITHMS[0])
            return named if named in _RSA_ALGORITHMS else None
        case {"kty": "EC", "crv": str(curve)} if curve in _CURVES:
            return _CURVES[curve] if said.get("alg", _CURVES[curve]) == _CURVES[curve] else None
        case _:
            return None


def _bits(number: str) -> int:
    """Return the length of a number in base64url, 0 for what is none."""
    try:
        return int.from_bytes(base64.urlsafe_b64decode(number + "=" * (-len(number) % 4)), "big").bit_length()
    except ValueError:
        return 0
