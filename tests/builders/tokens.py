"""Access tokens that should not count: one table, for the unit that verifies and for every door.

A `Forge` signs with the gateway's own key, so that each entry is wrong in exactly the one way it is about.
Source: `security.md` 3.3, items 6 to 35.
"""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jose import jwk

from builders.gateways import Account, World
from maas_gateway.crypto.signatures import Signer
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring.key import Purpose

ABSENT: Final = object()
_FORMS = serialization.PublicFormat.SubjectPublicKeyInfo
_STRANGER: Final = ec.generate_private_key(ec.SECP256R1())
_RSA: Final = rsa.generate_private_key(65_537, 2048)


@dataclass(frozen=True)
class Forge:
    """Makes tokens with the gateway's own key, right in all but what a test says.

    Attributes:
        signer: the gateway's.
        public: its public key, as the JWK Set publishes it.
        issuer: `iss`.
        tenant: the identifier of the tenant of `subject`.
        subject: who.
    """

    signer: Signer
    public: dict[str, str]
    issuer: str
    tenant: str
    subject: str

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return claims that count, changed; `ABSENT` leaves one out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": "maas-gateway",
            "sub": self.subject,
            "exp": now + 300,
            "nbf": now,
            "iat": now,
            "jti": "a-token",
            "client_id": "password",
            "scope": "model:read model:predict audit:read",
            "tenant": self.tenant,
            **changes,
        }
        return {name: value for name, value in claims.items() if value is not ABSENT}

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return a header that counts, changed."""
        header = {"alg": "ES256", "typ": "at+jwt", "kid": self.signer.key_id, **changes}
        return {name: value for name, value in header.items() if value is not ABSENT}

    def token(
        self,
        header: dict[str, Any] | bytes | None = None,
        claims: dict[str, Any] | bytes | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> str:
        """Return a token; what is not given is right."""
        parts = [_part(self.header() if header is None else header), _part(self.claims() if claims is None else claims)]
        signed = ".".join(parts)
        return f"{signed}.{encoded((sign or self.signer.sign)(signed.encode()))}"

    def with_claims(self, **changes: Any) -> str:
        """Return a token with changed claims, rightly signed."""
        return self.token(claims=self.claims(**changes))

    def with_header(self, **changes: Any) -> str:
        """Return a token with a changed header, rightly signed."""
        return self.token(header=self.header(**changes))

    def with_claims_text(self, before: str, after: str) -> str:
        """Return a token whose claims' JSON was changed as text, rightly signed."""
        text = json.dumps(self.claims())
        assert before in text
        return self.token(claims=text.replace(before, after, 1).encode())

    @property
    def public_key(self) -> Any:
        return serialization.load_pem_public_key(jwk.construct(self.public, "ES256").to_pem())


async def forge(world: World, account: Account) -> Forge:
    """Return a forge for tokens of one account."""
    signer = await world.gateway.jwks._keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)
    document = await world.gateway.jwks.document()
    (public,) = (key for key in document["keys"] if key["kid"] == signer.key_id)
    principal = await world.principal(account)
    return Forge(signer, public, world.settings.base_url, str(principal.tenant), str(principal.subject))


def encoded(content: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _part(content: dict[str, Any] | bytes) -> str:
    return encoded(content if isinstance(content, bytes) else json.dumps(content).encode())


def stranger_signs(message: bytes) -> bytes:
    """Sign with a key that is not the gateway's."""
    r, s = decode_dss_signature(_STRANGER.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _stranger_jwk() -> dict[str, Any]:
    pem = _STRANGER.public_key().public_bytes(serialization.Encoding.PEM, _FORMS)
    return dict(jwk.construct(pem.decode(), "ES256").to_dict())


def _hmac(key: bytes) -> Callable[[bytes], bytes]:
    return lambda message: hmac.digest(key, message, hashlib.sha256)


def _rs256(message: bytes) -> bytes:
    return _RSA.sign(message, padding.PKCS1v15(), hashes.SHA256())


def _deep(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def _pem(f: Forge) -> bytes:
    return bytes(f.public_key.public_bytes(serialization.Encoding.PEM, _FORMS))


def _der(f: Forge) -> bytes:
    return bytes(f.public_key.public_bytes(serialization.Encoding.DER, _FORMS))


def _another_last_letter(token: str) -> str:
    """Return a token whose last letter spells the same bytes in another way."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    place = letters.index(token[-1])
    return token[:-1] + letters[place ^ 1]


def _swapped(f: Forge, part: int, other: str) -> str:
    parts, others = f.token().split("."), other.split(".")
    parts[part] = others[part]
    return ".".join(parts)


Bad = Callable[[Forge], str]

_SHAPES: dict[str, Bad] = {
    "a word": lambda f: "token",
    "one part": lambda f: f.token().split(".")[0],
    "two parts": lambda f: f.token().rpartition(".")[0],
    "four parts": lambda f: f.token() + ".AAAA",
    "five parts, as an encrypted token has": lambda f: f.token() + ".AAAA.AAAA",
    "dots only": lambda f: "..",
    "no signature": lambda f: f.token().rpartition(".")[0] + ".",
    "no payload": lambda f: "{0}..{2}".format(*f.token().split(".")),
    "padding behind it": lambda f: f.token() + "==",
    "padding in the header": lambda f: f.token().replace(".", "=.", 1),
    "a plus sign": lambda f: f.token()[:-1] + "+",
    "a letter that is no ASCII": lambda f: f.token()[:-1] + "é",
    "a newline behind it": lambda f: f.token() + "\n",
    "a newline inside": lambda f: f.token().replace(".", ".\n", 1),
    "a NUL behind it": lambda f: f.token() + "\x00",
    "a space inside": lambda f: f.token().replace(".", ". ", 1),
    "another spelling of the same signature": lambda f: _another_last_letter(f.token()),
    "more than 8 KiB": lambda f: f.with_claims(extra="x" * 8_192),
    "a mebibyte": lambda f: f.token() + "A" * (1 << 20),
    "an encrypted token's header": lambda f: f.token({"alg": "dir", "enc": "A256GCM", "zip": "DEF"}),
    "a password-encrypted token's header": lambda f: f.token({"alg": "PBES2-HS512+A256KW", "p2c": 10**9, "p2s": "A"}),
    "a header that is a list": lambda f: f.token(b'["ES256"]'),
    "a header that is a text": lambda f: f.token(b'"ES256"'),
    "a header that is null": lambda f: f.token(b"null"),
    "a header that is no JSON": lambda f: f.token(b"{"),
    "a header in invalid UTF-8": lambda f: f.token(b'{"alg":"ES256\xff"}'),
    "a header in UTF-16": lambda f: f.token(json.dumps(f.header()).encode("utf-16")),
    "a header with a byte order mark": lambda f: f.token(b"\xef\xbb\xbf" + json.dumps(f.header()).encode()),
    "a header 2000 levels deep": lambda f: f.token(_deep(1_000)),
    "a header that says alg twice": lambda f: f.token(
        json.dumps(f.header()).replace("{", '{"alg":"none",', 1).encode()
    ),
    "claims that are a list": lambda f: f.token(claims=b"[1]"),
    "claims that are null": lambda f: f.token(claims=b"null"),
    "claims 2000 levels deep": lambda f: f.token(claims=_deep(1_000)),
    "claims in invalid UTF-8": lambda f: f.token(claims=b'{"sub":"\xff"}'),
    "a claim said twice": lambda f: f.with_claims_text('{"iss"', '{"aud": "maas-gateway", "iss"'),
    "the tenant said twice": lambda f: f.with_claims_text(
        '{"iss"', '{"tenant": "00000000-0000-0000-0000-000000000000", "iss"'
    ),
    "an exp of Infinity": lambda f: f.with_claims(exp=float("inf")),
    "an exp of NaN": lambda f: f.with_claims(exp=float("nan")),
    "an exp of 1e308": lambda f: f.with_claims(exp=1e308),
    "an exp of five thousand digits": lambda f: f.with_claims_text('"exp": ', '"exp": ' + "9" * 5_000),
}

_SIGNATURES: dict[str, Bad] = {
    **{
        f"alg {alg!r} and {what}": lambda f, alg=alg, sign=sign: f.token(f.header(alg=alg), sign=sign)  # type: ignore[misc]
        for alg in ("none", "None", "nOnE", "NONE", "")
        for what, sign in (("some signature", lambda _: b"x"), ("the right signature", None))
    },
    "HS256 keyed by our public key in PEM": lambda f: f.token(f.header(alg="HS256"), sign=_hmac(_pem(f))),
    "HS256 keyed by our public key in PEM without its newline": lambda f: f.token(
        f.header(alg="HS256"), sign=_hmac(_pem(f).rstrip())
    ),
    "HS256 keyed by our public key in DER": lambda f: f.token(f.header(alg="HS256"), sign=_hmac(_der(f))),
    "HS256 keyed by our JWK": lambda f: f.token(f.header(alg="HS256"), sign=_hmac(json.dumps(f.public).encode())),
    "HS256 keyed by nothing": lambda f: f.token(f.header(alg="HS256"), sign=_hmac(b"")),
    "ES256 in the header, HMAC in the signature": lambda f: f.token(sign=_hmac(_pem(f))),
    "RS256 by a key of its own": lambda f: f.token(f.header(alg="RS256"), sign=_rs256),
    "PS256": lambda f: f.token(f.header(alg="PS256"), sign=_rs256),
    "ES384": lambda f: f.with_header(alg="ES384"),
    "EdDSA": lambda f: f.with_header(alg="EdDSA"),
    "es256 in small letters": lambda f: f.with_header(alg="es256"),
    "an alg that is a list": lambda f: f.with_header(alg=["ES256"]),
    "an alg that is a number": lambda f: f.with_header(alg=256),
    "no alg": lambda f: f.with_header(alg=ABSENT),
    "a signature of zeros": lambda f: f.token(sign=lambda _: bytes(64)),
    "a signature of ones": lambda f: f.token(sign=lambda _: b"\xff" * 64),
    "half a signature": lambda f: f.token(sign=lambda m: f.signer.sign(m)[:32]),
    "a signature with a byte more": lambda f: f.token(sign=lambda m: f.signer.sign(m) + b"\0"),
    "a signature with its halves swapped": lambda f: f.token(sign=lambda m: (s := f.signer.sign(m))[32:] + s[:32]),
    "a signature by a stranger's key": lambda f: f.token(sign=stranger_signs),
    "the signature of another token": lambda f: _swapped(f, 2, f.with_claims(jti="another")),
    "the claims of another token": lambda f: _swapped(f, 1, f.with_claims(jti="another")),
    "the header of another token": lambda f: _swapped(f, 0, f.with_header(typ="JWT")),
    "a kid that is a path": lambda f: f.with_header(kid="../../../dev/null"),
    "a kid that is SQL": lambda f: f.with_header(kid="' OR 1=1--"),
    "a kid of 4000 letters": lambda f: f.with_header(kid="k" * 4_000),
    "a kid in Cyrillic": lambda f: f.with_header(kid="ключ"),
    "a kid that is half a surrogate pair": lambda f: f.with_header(kid="\ud800"),
    "an empty kid": lambda f: f.with_header(kid=""),
    "a kid that is unknown": lambda f: f.with_header(kid="A" * 43),
    "a kid with a space behind it": lambda f: f.with_header(kid=f.signer.key_id + " "),
    "a kid that is a list": lambda f: f.with_header(kid=[f.signer.key_id]),
    "a kid that is an object": lambda f: f.with_header(kid={"kid": f.signer.key_id}),
    "a kid that is null": lambda f: f.with_header(kid=None),
    "no kid": lambda f: f.with_header(kid=ABSENT),
    "a jwk header with the stranger's key": lambda f: f.token(f.header(jwk=_stranger_jwk()), sign=stranger_signs),
    "a jwk header, rightly signed": lambda f: f.with_header(jwk=f.public),
    "a jku header, rightly signed": lambda f: f.with_header(jku="https://attacker.example/jwks.json"),
    "an x5u header, rightly signed": lambda f: f.with_header(x5u="https://attacker.example/chain.pem"),
    "an x5c header, rightly signed": lambda f: f.with_header(x5c=["MIIB"]),
    "a crit header that nobody knows": lambda f: f.with_header(crit=["exp-soon"], **{"exp-soon": 1}),
    "an empty crit header": lambda f: f.with_header(crit=[]),
    "a payload that is not encoded": lambda f: f.with_header(b64=False, crit=["b64"]),
    "a zip header": lambda f: f.with_header(zip="DEF"),
    "a cty header": lambda f: f.with_header(cty="JWT"),
    "no typ": lambda f: f.with_header(typ=ABSENT),
    "the typ JWT": lambda f: f.with_header(typ="JWT"),
    "the typ of an identity token": lambda f: f.with_header(typ="id_token+jwt"),
    "the typ of a refresh token": lambda f: f.with_header(typ="refresh+jwt"),
    "the typ in capitals": lambda f: f.with_header(typ="AT+JWT"),
    "the typ as a media type": lambda f: f.with_header(typ="application/at+jwt"),
}

_TEXTS = ("iss", "aud", "sub", "jti", "client_id", "scope", "tenant")
_TIMES = ("exp", "nbf", "iat")


def _now(seconds: float) -> int:
    return int(time.time() + seconds)


_CLAIMS: dict[str, Bad] = {
    **{f"no {name}": lambda f, n=name: f.with_claims(**{n: ABSENT}) for name in (*_TEXTS, *_TIMES)},  # type: ignore[misc]
    **{
        f"{name} as {value!r}": lambda f, n=name, v=value: f.with_claims(**{n: v})  # type: ignore[misc]
        for name in _TEXTS
        for value in (None, 7, True, [], {}, ["maas-gateway"])
    },
    **{
        f"{name} as {kind}": lambda f, n=name, make=make: f.with_claims(**{n: make(f.claims()[n])})  # type: ignore[misc]
        for name in _TIMES
        for kind, make in (
            ("a text", str),
            ("a fraction", lambda v: v + 0.5),
            ("a whole fraction", float),
            ("true", lambda _: True),
            ("null", lambda _: None),
            ("a list", lambda v: [v]),
            ("a negative number", lambda v: -v),
            ("2 to the 63rd", lambda _: 2**63),
        )
    },
    "an exp in a hundred years": lambda f: f.with_claims(exp=_now(100 * 365 * 86_400)),
    "a life of a day and a second": lambda f: f.with_claims(exp=_now(60), iat=_now(60) - 86_401),
    "an exp before its iat": lambda f: f.with_claims(exp=_now(2), iat=_now(5)),
    "an exp that is its iat": lambda f: f.with_claims(exp=_now(5), iat=_now(5)),
    "an nbf in the future": lambda f: f.with_claims(nbf=_now(60)),
    "an iat in the future": lambda f: f.with_claims(iat=_now(60)),
    "another audience": lambda f: f.with_claims(aud="another-gateway"),
    "an audience that begins like ours": lambda f: f.with_claims(aud="maas-gateway-2"),
    "an audience that ours begins like": lambda f: f.with_claims(aud="maas"),
    "our audience in a list": lambda f: f.with_claims(aud=["maas-gateway", "another"]),
    "our audience in capitals": lambda f: f.with_claims(aud="MAAS-GATEWAY"),
    "another issuer": lambda f: f.with_claims(iss="https://attacker.example"),
    "our issuer with a slash": lambda f: f.with_claims(iss=f.issuer + "/"),
    "our issuer in capitals": lambda f: f.with_claims(iss=f.issuer.upper()),
    "our issuer with a path": lambda f: f.with_claims(iss=f.issuer + "/oauth"),
    "an empty issuer": lambda f: f.with_claims(iss=""),
    "an empty subject": lambda f: f.with_claims(sub=""),
    "a subject that is a name": lambda f: f.with_claims(sub="owner@acme"),
    "a subject that nobody has": lambda f: f.with_claims(sub="11111111-1111-4111-8111-111111111111"),
    "a tenant that is a slug": lambda f: f.with_claims(tenant="acme"),
    "a tenant that nobody has": lambda f: f.with_claims(tenant="11111111-1111-4111-8111-111111111111"),
    "the platform as tenant": lambda f: f.with_claims(tenant="00000000-0000-0000-0000-000000000000"),
    "a scope that is no permission": lambda f: f.with_claims(scope="model:read everything"),
    "a scope separated by commas": lambda f: f.with_claims(scope="model:read,audit:read"),
    **{
        f"a generation as {value!r}": lambda f, v=value: f.with_claims(generation=v)  # type: ignore[misc]
        for value in (None, "0", "1", 1.0, True, [1], -1, 2**63)
    },
}

_EXPIRED: dict[str, Bad] = {
    "an exp a second past the leeway": lambda f: f.with_claims(exp=_now(-11), iat=_now(-300), nbf=_now(-300)),
    "an exp of an hour ago": lambda f: f.with_claims(exp=_now(-3_600), iat=_now(-4_000), nbf=_now(-4_000)),
}

_KNOWN_ONLY_TO_THE_DATABASE = (
    "a subject that nobody has",
    "a tenant that nobody has",
    "the platform as tenant",
)


_CASES: tuple[tuple[int, str], ...] = (
    (9, r"five parts.*|an encrypted token's header|a zip header"),
    (6, r"a word|one part|\w+ parts|dots only|no payload"),
    (7, r"padding .*|a plus sign|a letter that is no ASCII|a newline .*|a NUL .*|a space inside|another spelling .*"),
    (8, r"more than 8 KiB|a mebibyte"),
    (10, r"a password-encrypted token's header"),
    (12, r".* in (invalid UTF-8|UTF-16)|.* with a byte order mark"),
    (11, r"(a header|claims) (that|2000) .*|.* said twice|an exp of (Infinity|NaN|1e308|five thousand digits)"),
    (13, r"alg .*"),
    (14, r"HS256 .*|ES256 in the header, HMAC in the signature"),
    (15, r"no signature"),
    (16, r"a signature (of|with) .*|half a signature"),
    (17, r"RS256 .*|PS256|ES384|EdDSA|es256 .*|an alg .*|no alg"),
    (18, r"(a|an empty|no) kid.*"),
    (19, r"an? (jwk|jku|x5u|x5c) header.*"),
    (20, r".* crit header.*|a payload that is not encoded|a cty header"),
    (22, r"the (signature|claims|header) of another token|a signature by a stranger's key"),
    (24, r"an exp a second past the leeway|an exp of an hour ago"),
    (25, r"no exp|exp .*|an exp .*|a life .*"),
    (26, r"no nbf|nbf .*|an nbf .*"),
    (27, r"no iat|iat .*|an iat .*"),
    (28, r"no aud|aud .*|another audience|(an|our) audience .*"),
    (29, r"no iss|iss .*|another issuer|our issuer .*|an empty issuer"),
    (30, r"no (sub|client_id)|(sub|client_id) .*|an empty subject|a subject .*"),
    (31, r"no jti|jti .*"),
    (32, r"(no|the) typ.*"),
    (33, r"no scope|scope .*|a scope .*"),
    (35, r"no tenant|tenant .*|a tenant .*|the platform as tenant"),
    (43, r"a generation .*"),
)
"""The numbers of the list in `security.md` 3.3, and which names of tokens belong to each; the first that fits."""


def _number_of(name: str) -> int:
    return next(number for number, pattern in _CASES if re.fullmatch(pattern, name))


def _table(*tables: dict[str, Bad], without: tuple[str, ...] = ()) -> list[Any]:
    return [pytest.param(bad, id=name) for table in tables for name, bad in table.items() if name not in without]


EXPIRED_TOKENS = _table(_EXPIRED)
"""Tokens that were good once."""

INVALID_TOKENS = _table(_SHAPES, _SIGNATURES, _CLAIMS, without=_KNOWN_ONLY_TO_THE_DATABASE)
"""Tokens that never were, as their text alone tells."""

BAD_BY_NUMBER: Final[Mapping[int, Mapping[str, Bad]]] = {
    number: {
        name: bad
        for table in (_SHAPES, _SIGNATURES, _CLAIMS, _EXPIRED)
        for name, bad in table.items()
        if _number_of(name) == number
    }
    for number, _ in _CASES
}
"""All that no door lets in, by number of `security.md` 3.3."""
