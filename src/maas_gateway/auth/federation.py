"""Tokens of identity providers: from what one says to a principal of the tenant that registered its issuer.

Rules:
- nobody is asked anything for an issuer and audience that no tenant has registered, and none of our own tokens comes
  here; an issuer is the first tenant's that registers it, or that of the tenants for which the operator lists its host;
- a token for two registered audiences says of no provider that it is meant;
- an identity token counts like an access token, if it is for the registered audience;
- the header names the key and its algorithm, which is the one that the key is for; `crit` is refused; what else
  stands there is not looked at;
- `iss` is exactly the registered one, `aud` holds the registered one, `exp` is required and at most a day away, `nbf`
  and `iat` count where they stand, `sub` is a text that can be written down; a token that is bound to a key of its
  sender (`cnf`) is refused, because nobody here checks that key;
- who bears it has no account: its subject is made of the provider and its `sub`, its permissions of the provider's
  rules, now; it is remembered until the token ends or the provider's keys are due again;
- providers are kept in memory until anything about tenants or accounts changes.

Source: OpenID Connect Core 1.0 sections 2 and 3.1.3.7; RFC 9068 section 4; RFC 8725 sections 3.1, 3.8 to 3.12;
RFC 7800 section 3 (`cnf`); RFC 9562 section 5.5 (identifiers made of names).
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from maas_gateway.auth import jwt_form, store
from maas_gateway.auth.identity_provider import IdentityProvider
from maas_gateway.auth.provider_address import AllowedHosts
from maas_gateway.auth.provider_keys import ProviderKeys
from maas_gateway.auth.standing import permits
from maas_gateway.auth.tokens import MAX_LIFE_S
from maas_gateway.clock import Clock
from maas_gateway.database.engine import Database
from maas_gateway.errors import TokenExpired, TokenInvalid
from maas_gateway.identifiers import SubjectId
from maas_gateway.memory import Memory
from maas_gateway.principal import Principal

MAX_SUB: Final = 255
MAX_SHOWN: Final = 48
"""How much of a `sub` stands in the record; with the provider's and the tenant's names it fits everywhere."""

_ALL: Final = "all"
_TYPES: Final = frozenset({"jwt", "at+jwt"})
_WRONG_HEADER: Final = "the token's header is not that of a token of its issuer"
_WRONG_CLAIMS: Final = "the token's claims are not those of a token for this gateway"

Registered = Mapping[tuple[str, str], tuple[IdentityProvider, str]]
"""Providers and their tenants' slugs, by issuer and audience."""


@dataclass(frozen=True, slots=True)
class FederatedRules:
    """What holds for every token of another issuer.

    Attributes:
        issuer: our own, which is never another's.
        skew_s: how far clocks may differ.
    """

    issuer: str
    skew_s: int


@dataclass(frozen=True, slots=True)
class Bearer:
    """Who bears a token.

    Attributes:
        principal: who.
        until_s: until when that need not be found out again, in seconds since the epoch.
    """

    principal: Principal
    until_s: float


class Federation:
    """Decides who bears a token of another issuer."""

    def __init__(
        self, database: Database, keys: ProviderKeys, rules: FederatedRules, *, hosts: AllowedHosts, clock: Clock
    ) -> None:
        self._database = database
        self._keys = keys
        self._rules = rules
        self._hosts = hosts
        self._clock = clock
        self._kept: Memory[str, Registered] = Memory(1)

    def forget(self) -> None:
        """Ask the database again from now on; keys stay known."""
        self._kept.forget()

    async def bearer(self, token: str) -> Bearer | None:
        """Return who bears `token`, or None where it is not of an issuer that a tenant has registered.

        Raises:
            TokenInvalid: it is of such an issuer and does not verify.
            TokenExpired: its life is over.
            Unavailable: the issuer's keys are not known, and it does not answer.
        """
        if not self._hosts:
            return None
        try:
            header, claims = jwt_form.read(token)
        except TokenInvalid:
            return None
        found = await self._registered(claims)
        if found is None:
            return None
        provider, slug = found
        _check_header(header)
        _check_claims(claims)
        key, counts_for_s = await self._keys.key(provider.issuer, header["kid"])
        if header["alg"] != key.algorithm:
            raise TokenInvalid(_WRONG_HEADER)
        key.verify(token)
        self._check_times(claims)
        everywhere, on_models = permits(provider.bound(claims))
        subject = SubjectId(uuid.uuid5(provider.provider_id, claims["sub"]))
        principal = Principal(
            tenant=provider.tenant,
            subject=subject,
            kind="federated",
            name=f"{_shown(claims['sub'], subject)}@{provider.name}.{slug}",
            everywhere=everywhere,
            on_models=on_models,
        )
        until_s = min(claims["exp"] + self._rules.skew_s, self._clock.unix_s() + counts_for_s)
        return Bearer(principal, until_s)

    async def _registered(self, claims: Mapping[str, Any]) -> tuple[IdentityProvider, str] | None:
        """Return the one provider that a token's `iss` and `aud` name, None where there is none."""
        issuer, audiences = claims.get("iss"), claims.get("aud")
        if not isinstance(issuer, str) or issuer == self._rules.issuer:
            return None
        named = {audiences} if isinstance(audiences, str) else set(filter(_is_text, _listed(audiences)))
        registered = await self._kept.find(_ALL, self._read)
        found = [registered[issuer, audience] for audience in named if (issuer, audience) in registered]
        if len(found) > 1:
            raise TokenInvalid("the token is for more than one registered audience")
        return found[0] if found else None

    async def _read(self) -> Registered:
        providers = await store.counting_providers(self._database)
        return {
            (provider.issuer, provider.audience): (provider, slug)
            for provider, slug, is_first in providers
            if self._hosts.has(provider.issuer, slug)  # the operator may have taken it off the list since
            and (is_first or self._hosts.is_of_tenants(provider.issuer))
        }

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now, skew_s = self._clock.unix_s(), self._rules.skew_s
        if claims["exp"] + skew_s <= now:
            raise TokenExpired("the token has expired")
        if claims["exp"] - now > MAX_LIFE_S + skew_s:
            raise TokenInvalid("the token lives longer than this gateway takes")
        if any(claims[name] > now + skew_s for name in ("nbf", "iat") if name in claims):
            raise TokenInvalid("the token is from the future")


def _check_header(header: Mapping[str, Any]) -> None:
    said_type = header.get("typ", "JWT")
    is_right = isinstance(said_type, str) and said_type.lower() in _TYPES and "crit" not in header
    if not is_right or not isinstance(header.get("kid"), str) or not isinstance(header.get("alg"), str):
        raise TokenInvalid(_WRONG_HEADER)


def _check_claims(claims: Mapping[str, Any]) -> None:
    """Refuse claims of a wrong type, before anybody is asked for a key."""
    times = ["exp", *(name for name in ("nbf", "iat") if name in claims)]
    if not all(type(claims.get(name)) is int and 0 <= claims[name] < 2**40 for name in times):
        raise TokenInvalid(_WRONG_CLAIMS)
    sub = claims.get("sub")
    if not isinstance(sub, str) or not 1 <= len(sub) <= MAX_SUB or not _is_unicode(sub) or "cnf" in claims:
        raise TokenInvalid(_WRONG_CLAIMS)


def _shown(sub: str, subject: SubjectId) -> str:
    """Return a `sub` as it stands in the record: as it is if that is short and plain, else told apart by its subject."""
    if len(sub) <= MAX_SHOWN and sub.isascii() and sub.isprintable() and " " not in sub:
        return sub
    plain = "".join(letter if letter.isascii() and letter.isprintable() and letter != " " else "?" for letter in sub)
    mark = f"~{subject.hex[:8]}"
    return plain[: MAX_SHOWN - len(mark)] + mark


def _is_unicode(text: str) -> bool:
    """Tell whether a text has a UTF-8 form: JSON can spell half a surrogate pair, which has none."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
