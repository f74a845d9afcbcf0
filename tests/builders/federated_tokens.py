"""Tokens of an identity provider that should not count: one table, for the unit that decides and for the doors.

Each entry is wrong in the one way that it is about; the provider that it is made with is registered, and behaves.
"""

import json
import time
from collections.abc import Callable, Mapping
from typing import Final

from simulators.identity_provider import ABSENT, AUDIENCE, ProviderSimulator, signing_key, symmetric

Made = Callable[[ProviderSimulator], str]

MALLORY: Final = signing_key("first", "ES256")
"""The attacker's key, under the id of the provider's."""


def _swapped(provider: ProviderSimulator, part: int) -> str:
    parts, others = provider.token().split("."), provider.signed(provider.header(typ="JWT"), provider.claims(sub="eve"))
    parts[part] = others.split(".")[part]
    return ".".join(parts)


def _text(provider: ProviderSimulator, before: str, after: str) -> str:
    text = json.dumps(provider.claims())
    assert before in text
    return provider.signed(claims=text.replace(before, after, 1).encode())


def respelt(token: str) -> str:
    """Return a token whose last letter spells the same bytes in another way."""
    last = token[-1]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + letters[letters.index(last) ^ 1]  # 256 bytes leave unused bits in the last letter


def _jwk_header(provider: ProviderSimulator) -> str:
    return provider.signed(provider.header(alg="ES256", jwk=MALLORY.jwk()), sign=MALLORY.sign)


BAD: Final[Mapping[str, Made]] = {
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
    "a signature spelt otherwise": lambda p: respelt(p.token()),
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
