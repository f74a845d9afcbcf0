"""Access tokens: signed and verified here and nowhere else, strictly.

Rules: at most 8 KiB, three base64url parts; the header is exactly `alg`, `typ`, `kid`; the key is
found by `kid` in our own map and fixes the algorithm; every claim of RFC 9068 is required and of its
type; a name said twice, a number that is no integer, an unknown header: refused; whatever goes wrong
in a library is a refusal, never a 500. A token that verified is remembered until it expires;
whether its subject may still act is asked every time, elsewhere.

Source: RFC 9068 (profile), RFC 8725 (sections 3.1, 3.9 to 3.12), RFC 7515, RFC 7519.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

from jose import jwt
from jose.backends.base import Key
from jose.exceptions import ExpiredSignatureError

from maas_gateway.auth import jwt_form
from maas_gateway.auth.jwks import ALGORITHM, JWKSet
from maas_gateway.clock import Clock
from maas_gateway.crypto.signatures import Signer
from maas_gateway.errors import TokenExpired, TokenInvalid
from maas_gateway.identifiers import PLATFORM, SubjectId, TenantId
from maas_gateway.keyring.key import Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.memory import Memory
from maas_gateway.permissions import Permission

TYPE: Final = "at+jwt"
PASSWORD_CLIENT: Final = "password"  # noqa: S105  the client id of users, no password
MAX_REMEMBERED: Final = 10_000
MAX_LIFE_S: Final = 86_400

_HEADER: Final = frozenset({"alg", "typ", "kid"})
_TEXTS: Final = ("iss", "aud", "sub", "jti", "client_id", "scope", "tenant")
_TIMES: Final = ("exp", "nbf", "iat")
_OPTIONS: Final = {f"require_{claim}": True for claim in ("aud", "exp", "nbf", "iat", "iss", "sub", "jti")}


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """What a token says, once it is known to be ours.

    Attributes:
        tenant: the subject's tenant.
        subject: who.
        scope: what was asked for; never more than the bindings gave then.
        expires_at: seconds since the epoch.
        generation: the account's when it proved who it is; 0 where none is said, as by an earlier version of this program.
        token_id: its `jti`; where it comes from a sign-in that can be refreshed, that family's identifier is
            the part before a dot.
    """

    tenant: TenantId
    subject: SubjectId
    scope: frozenset[Permission]
    expires_at: int
    token_id: str
    generation: int


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What makes a token ours.

    Attributes:
        issuer: `iss`, the gateway's public address.
        audience: `aud`.
        life_s: seconds from `iat` to `exp`.
        skew_s: how far clocks may differ.
    """

    issuer: str
    audience: str
    life_s: int
    skew_s: int


class _SigningKey(Key):  # type: ignore[misc]  # the library has no types
    """A key for python-jose that asks the keyring's signer and holds nothing itself."""

    def __init__(self, signer: Signer) -> None:
        super().__init__(None, ALGORITHM)
        self._signer = signer

    def sign(self, msg: bytes) -> bytes:
        return self._signer.sign(msg)


class Tokens:
    """Issues and verifies access tokens."""

    def __init__(self, keyring: Keyring, jwks: JWKSet, rules: TokenRules, clock: Clock) -> None:
        self._keyring = keyring
        self._jwks = jwks
        self._rules = rules
        self._clock = clock
        self._remembered: Memory[str, VerifiedToken] = Memory(MAX_REMEMBERED)

    @property
    def rules(self) -> TokenRules:
        """What makes a token ours."""
        return self._rules

    async def issue(
        self,
        tenant: TenantId,
        subject: SubjectId,
        *,
        client_id: str,
        scope: frozenset[Permission],
        generation: int,
        family: UUID | None = None,
    ) -> str:
        """Return a signed access token for a subject that has proved who it is, perhaps within a family.

        Args:
            tenant: the subject's.
            subject: who.
            client_id: what it signed in with.
            scope: what the token is for.
            generation: the account's when its secret was checked.
            family: the sign-in that it comes from.
        """
        token_id = secrets.token_urlsafe(16)
        signer = await self._keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)
        now = int(self._clock.unix_s())
        claims = {
            "iss": self._rules.issuer,
            "aud": self._rules.audience,
            "sub": str(subject),
            "exp": now + self._rules.life_s,
            "nbf": now,
            "iat": now,
            "jti": token_id if family is None else f"{family.hex}.{token_id}",
            "client_id": client_id,
            "scope": " ".join(sorted(scope)),
            "tenant": str(tenant),
            "generation": generation,
        }
        headers = {"typ": TYPE, "kid": signer.key_id}
        return str(jwt.encode(claims, _SigningKey(signer), algorithm=ALGORITHM, headers=headers))

    async def verify(self, token: str) -> VerifiedToken:
        """Return what a token says.

        Raises:
            TokenInvalid: it is not one of ours, or was altered.
            TokenExpired: its life is over.
        """
        known = await self._remembered.find(token, partial(self._verify, token))
        if known.expires_at + self._rules.skew_s <= self._clock.unix_s():
            self._remembered.drop(token)
            raise TokenExpired("the token has expired")
        return known

    async def key_ids(self) -> frozenset[str]:
        """Return the keys that may verify, as stored now."""
        return await self._jwks.key_ids()

    def forget(self) -> None:
        """Verify every token anew, because a key may have been retired."""
        self._remembered.forget()

    async def _verify(self, token: str) -> VerifiedToken:
        header, claims = jwt_form.read(token)
        if frozenset(header) != _HEADER or header["alg"] != ALGORITHM or header["typ"] != TYPE:
            raise TokenInvalid("the token's header is not that of an access token")
        if not isinstance(header["kid"], str):
            raise TokenInvalid("the token's header is not that of an access token")
        self._check_types(claims)
        self._decode(token, await self._jwks.key(header["kid"]))
        try:
            return VerifiedToken(
                tenant=TenantId(UUID(claims["tenant"])),
                subject=SubjectId(UUID(claims["sub"])),
                scope=frozenset(Permission(text) for text in claims["scope"].split()),
                expires_at=claims["exp"],
                token_id=claims["jti"],
                generation=claims.get("generation", 0),
            )
        except ValueError as cause:
            raise TokenInvalid("the token's claims are not those of an access token") from cause

    def _check_types(self, claims: Mapping[str, Any]) -> None:
        texts = all(isinstance(claims.get(name), str) for name in _TEXTS)
        times = all(type(claims.get(name)) is int and 0 <= claims[name] < 2**40 for name in _TIMES)
        generation = claims.get("generation", 0)
        if not texts or not times or type(generation) is not int or not 0 <= generation < 2**40:
            raise TokenInvalid("the token's claims are not those of an access token")
        if not 0 < claims["exp"] - claims["iat"] <= MAX_LIFE_S:
            raise TokenInvalid("the token's life is not one that this gateway gives")
        if claims["iat"] > self._clock.unix_s() + self._rules.skew_s:
            raise TokenInvalid("the token is from the future")

    def _decode(self, token: str, key: Key) -> None:
        try:
            jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                audience=self._rules.audience,
                issuer=self._rules.issuer,
                options={**_OPTIONS, "leeway": self._rules.skew_s},
            )
        except ExpiredSignatureError as cause:
            raise TokenExpired("the token has expired") from cause
        except Exception as cause:
            # The library raises whatever its parts raise; each of them means that the token is not ours.
            raise TokenInvalid("the token does not verify") from cause
