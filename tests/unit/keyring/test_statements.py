"""Statements: what verifies them, and that nothing else does."""

import base64
import hashlib
import hmac
import itertools
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from builders.keyrings import open_keyring
from maas_gateway.clock import SystemClock
from maas_gateway.crypto.digests import canonical_json
from maas_gateway.crypto.signatures import ES256Signer, Signer
from maas_gateway.errors import SignatureRejected
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring.key import KeyState, Purpose
from maas_gateway.keyring.keyring import Keyring
from maas_gateway.keyring.statements import Statements, key_of
from maas_gateway.keyring.tables import KEY_VERSIONS

pytestmark = pytest.mark.anyio

KIND = "maas-manifest"
BODY: dict[str, object] = {"model": "bc", "version": 1, "findings": [], "publisher": None}
STRANGER = ES256Signer(ES256Signer.generate_key())
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True)
class Place:
    """A key store with its rings, and what can be made with them.

    Attributes:
        keyring: every ring.
        statements: what is tested.
        signer: signs as the deployment does.
        token_signer: signs access tokens.
        good: a statement that verifies.
    """

    keyring: Keyring
    statements: Statements
    signer: Signer
    token_signer: Signer
    good: str

    def header(self, **changes: object) -> dict[str, object]:
        """Return the header that the deployment writes, changed."""
        return {"alg": "ES256", "kid": self.signer.key_id, "typ": f"{KIND}+jws", **changes}

    def made(
        self,
        header: Mapping[str, object] | bytes | None = None,
        body: bytes | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> str:
        """Return a statement that is rightly signed, and right in all that is not given."""
        said = self.header() if header is None else header
        first = said if isinstance(said, bytes) else canonical_json(dict(said))
        signed = f"{encoded(first)}.{encoded(canonical_json(BODY) if body is None else body)}"
        return f"{signed}.{encoded((sign or self.signer.sign)(signed.encode()))}"

    def part(self, number: int, change: Callable[[str], str]) -> str:
        """Return the good statement with one of its three parts changed."""
        parts = self.good.split(".")
        parts[number] = change(parts[number])
        return ".".join(parts)


class Hurrying(SystemClock):
    """A second goes by whenever it is asked, so that nothing waits before it reads a ring again."""

    def __init__(self) -> None:
        self._ticks = itertools.count()

    def monotonic_s(self) -> float:
        return float(next(self._ticks))


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Place]:
    async with open_keyring(folder) as keyring:
        for purpose in (Purpose.STATEMENTS, Purpose.TOKEN_SIGNING):
            await keyring.ensure(PLATFORM, purpose)
        statements = Statements(keyring)
        signer = await keyring.signer(PLATFORM, Purpose.STATEMENTS)
        token_signer = await keyring.signer(PLATFORM, Purpose.TOKEN_SIGNING)
        yield Place(keyring, statements, signer, token_signer, await statements.sign(KIND, BODY))


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with opened(tmp_path) as found:
        yield found


async def rotate(keyring: Keyring) -> int:
    number = await keyring.add_version(PLATFORM, Purpose.STATEMENTS)
    await keyring.move(PLATFORM, Purpose.STATEMENTS, number, state=KeyState.PRIMARY)
    return number


async def write_row(keyring: Keyring, **values: Any) -> None:
    """Change the rows of the statements ring as whoever has the key store can."""
    async with keyring.database.connection(is_write=True) as connection:
        ring = KEY_VERSIONS.c.purpose == Purpose.STATEMENTS.value
        await connection.execute(sa.update(KEY_VERSIONS).where(ring).values(**values))
    keyring.forget()


def published(signer: ES256Signer, key_id: str) -> dict[str, str]:
    return {**signer.public_jwk(), "kid": key_id, "alg": "ES256", "use": "sig"}


async def test_a_statement_says_what_was_signed(place: Place) -> None:
    assert await place.statements.verify(KIND, place.good) == BODY
    assert await place.statements.verify(KIND, place.made()) == BODY


async def test_a_statement_is_a_compact_jws_of_canonical_json_that_names_its_kind_and_its_key(place: Place) -> None:
    header, body, signature = (base64.urlsafe_b64decode(part + "==") for part in place.good.split("."))
    assert header == canonical_json({"alg": "ES256", "kid": place.signer.key_id, "typ": "maas-manifest+jws"})
    assert body == canonical_json(BODY)
    assert len(signature) == 64
    assert key_of(place.good) == place.signer.key_id


@pytest.mark.parametrize("value", [1.5, (1,), 2**53, {1: "x"}, "\ud800"], ids=repr)
async def test_what_canonical_json_cannot_say_is_not_signed(place: Place, value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        await place.statements.sign(KIND, {"value": value})


@pytest.mark.parametrize("kind", ["maas-erasure", "maas-manifest2", "maas", "", "maas-manifest+jws"])
async def test_another_kind_is_refused(place: Place, kind: str) -> None:
    with pytest.raises(SignatureRejected):
        await place.statements.verify(kind, place.good)
    with pytest.raises(SignatureRejected):
        await place.statements.verify(KIND, await place.statements.sign(kind, BODY))


async def test_every_character_of_a_statement_counts(place: Place) -> None:
    """In every place the nearest letter, the farthest, two that are none of the alphabet, and none at all."""
    good = place.good
    statements = Statements(Keyring(place.keyring.database, place.keyring.root, Hurrying()))
    for at, found in enumerate(good):
        place_in_alphabet = ALPHABET.find(found)
        others = {ALPHABET[place_in_alphabet ^ 1], ALPHABET[place_in_alphabet ^ 32], "=", "."} - {found}
        for other in (*others, ""):
            with pytest.raises(SignatureRejected):
                await statements.verify(KIND, good[:at] + other + good[at + 1 :])
    assert await statements.verify(KIND, good) == BODY


async def test_every_shorter_statement_is_refused(place: Place) -> None:
    for end in range(len(place.good)):
        with pytest.raises(SignatureRejected):
            await place.statements.verify(KIND, place.good[:end])


Bad = Callable[[Place], str]

SHAPES: dict[str, Bad] = {
    "nothing": lambda p: "",
    "a word": lambda p: "manifest",
    "dots only": lambda p: "..",
    "no signature and no dot before it": lambda p: p.good.rpartition(".")[0],
    "no signature": lambda p: p.part(2, lambda _: ""),
    "no payload": lambda p: p.part(1, lambda _: ""),
    "no header": lambda p: p.part(0, lambda _: ""),
    "a fourth part": lambda p: p.good + ".AAAA",
    "five parts, as an encrypted one has": lambda p: p.good + ".AAAA.AAAA",
    "padding behind it": lambda p: p.good + "==",
    "padding in the header": lambda p: p.part(0, lambda part: part + "="),
    "a newline behind it": lambda p: p.good + "\n",
    "a newline inside the payload": lambda p: p.part(1, lambda part: part[:8] + "\n" + part[8:]),
    "a space before it": lambda p: " " + p.good,
    "a letter that is no ASCII": lambda p: p.part(1, lambda part: "\u0430" + part[1:]),
    "half a surrogate pair": lambda p: p.part(1, lambda part: "\ud800" + part[1:]),
    "a NUL": lambda p: p.good + "\0",
    "the standard alphabet's plus sign": lambda p: p.part(2, lambda part: "+" + part[1:]),
    "the same statement twice": lambda p: p.good + p.good,
    "as JSON, not compact": lambda p: json.dumps(dict(zip(("protected", "payload", "signature"), p.good.split("."), strict=True))),
}  # fmt: skip

HEADERS: dict[str, Bad] = {
    "alg none without a signature": lambda p: p.made(p.header(alg="none"), sign=lambda _: b""),
    "alg none with the right signature": lambda p: p.made(p.header(alg="none")),
    "alg None in other letters": lambda p: p.made(p.header(alg="nOnE"), sign=lambda _: b""),
    "alg HS256 keyed by our public key": lambda p: p.made(
        p.header(alg="HS256"), sign=lambda m: hmac.digest(json.dumps(p.signer.public_jwk()).encode(), m, "sha256")  # type: ignore[attr-defined]
    ),
    "alg HS256 keyed by our key's name": lambda p: p.made(
        p.header(alg="HS256"), sign=lambda m: hmac.digest(p.signer.key_id.encode(), m, "sha256")
    ),
    "alg ES384": lambda p: p.made(p.header(alg="ES384")),
    "alg es256 in small letters": lambda p: p.made(p.header(alg="es256")),
    "alg that is a list": lambda p: p.made(p.header(alg=["ES256"])),
    "no alg": lambda p: p.made({name: text for name, text in p.header().items() if name != "alg"}),
    "no kid": lambda p: p.made({name: text for name, text in p.header().items() if name != "kid"}),
    "no typ": lambda p: p.made({name: text for name, text in p.header().items() if name != "typ"}),
    "a kid that is unknown": lambda p: p.made(p.header(kid="A" * 43)),
    "a kid that is empty": lambda p: p.made(p.header(kid="")),
    "a kid that is null": lambda p: p.made(p.header(kid=None)),
    "a kid that is a list": lambda p: p.made(p.header(kid=[p.signer.key_id])),
    "a kid that is a path": lambda p: p.made(p.header(kid="../../root.json")),
    "a kid with a space behind it": lambda p: p.made(p.header(kid=p.signer.key_id + " ")),
    "the typ of an access token": lambda p: p.made(p.header(typ="at+jwt")),
    "the typ JWT": lambda p: p.made(p.header(typ="JWT")),
    "the typ in capitals": lambda p: p.made(p.header(typ="MAAS-MANIFEST+JWS")),
    "the typ as a media type": lambda p: p.made(p.header(typ=f"application/{KIND}+jws")),
    "a member more": lambda p: p.made(p.header(zip="DEF")),
    "a crit that is empty": lambda p: p.made(p.header(crit=[])),
    "a payload that says it is not encoded": lambda p: p.made(p.header(b64=False, crit=["b64"])),
    "the stranger's key in a jwk, signed by it": lambda p: p.made(p.header(jwk=STRANGER.public_jwk()), sign=STRANGER.sign),
    "an address of keys in a jku": lambda p: p.made(p.header(jku="https://attacker.example/keys")),
    "a header that is a list": lambda p: p.made(b'["ES256"]'),
    "a header that is null": lambda p: p.made(b"null"),
    "a header that is no JSON": lambda p: p.made(b"{"),
    "a header with white space": lambda p: p.made(json.dumps(p.header(), sort_keys=True).encode()),
    "a header that is out of order": lambda p: p.made(json.dumps(dict(reversed(p.header().items())), separators=(",", ":")).encode()),
    "a header that says alg twice": lambda p: p.made(canonical_json(p.header()).replace(b"{", b'{"alg":"none",', 1)),
    "a header 5000 levels deep": lambda p: p.made(b"[" * 5_000),
}  # fmt: skip

BODIES: dict[str, Bad] = {
    "white space": lambda p: p.made(body=json.dumps(BODY, sort_keys=True).encode()),
    "members out of order": lambda p: p.made(body=json.dumps(BODY, separators=(",", ":")).encode()),
    "a member said twice": lambda p: p.made(body=canonical_json(BODY)[:-1] + b',"version":2}'),
    "a float": lambda p: p.made(body=canonical_json(BODY).replace(b'"version":1', b'"version":1.0')),
    "an integer beyond 2^53": lambda p: p.made(body=canonical_json(BODY).replace(b'"version":1', b'"version":' + b"9" * 20)),
    "needless escapes": lambda p: p.made(body=canonical_json(BODY).replace(b'"bc"', b'"\\u0062c"')),
    "a newline behind it": lambda p: p.made(body=canonical_json(BODY) + b"\n"),
    "a byte order mark": lambda p: p.made(body=b"\xef\xbb\xbf" + canonical_json(BODY)),
    "UTF-16": lambda p: p.made(body=canonical_json(BODY).decode().encode("utf-16")),
    "invalid UTF-8": lambda p: p.made(body=canonical_json(BODY).replace(b"bc", b"\xff\xff")),
    "no object": lambda p: p.made(body=b"[]"),
    "null": lambda p: p.made(body=b"null"),
    "nothing": lambda p: p.made(body=b""),
}  # fmt: skip

SIGNATURES: dict[str, Bad] = {
    "a stranger's, under our key's name": lambda p: p.made(sign=STRANGER.sign),
    "a stranger's, under the stranger's name": lambda p: p.made(p.header(kid=STRANGER.key_id), sign=STRANGER.sign),
    "that of the ring that signs tokens": lambda p: p.made(p.header(kid=p.token_signer.key_id), sign=p.token_signer.sign),
    "that of the ring that signs tokens, under our key's name": lambda p: p.made(sign=p.token_signer.sign),
    "another statement's": lambda p: p.part(2, lambda _: p.made(body=b'{"model":"other"}').rpartition(".")[2]),
    "over another payload": lambda p: p.part(1, lambda _: encoded(b'{"model":"other"}')),
    "over the digest": lambda p: p.made(sign=lambda m: p.signer.sign(hashlib.sha256(m).digest())),
    "over the payload alone": lambda p: p.made(sign=lambda m: p.signer.sign(m.partition(b".")[2])),
    "zeros": lambda p: p.made(sign=lambda _: bytes(64)),
    "ones": lambda p: p.made(sign=lambda _: b"\xff" * 64),
    "half of it": lambda p: p.made(sign=lambda m: p.signer.sign(m)[:32]),
    "with a byte more": lambda p: p.made(sign=lambda m: p.signer.sign(m) + b"\0"),
    "with its halves swapped": lambda p: p.made(sign=lambda m: (s := p.signer.sign(m))[32:] + s[:32]),
}  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(bad, id=f"{what}: {name}")
        for what, table in (
            ("the form is", SHAPES),
            ("the header has", HEADERS),
            ("the payload has", BODIES),
            ("the signature is", SIGNATURES),
        )
        for name, bad in table.items()
    ],
)
async def test_a_statement_is_refused_when(place: Place, bad: Bad) -> None:
    with pytest.raises(SignatureRejected):
        await place.statements.verify(KIND, bad(place))


async def test_a_statement_of_an_earlier_key_verifies_until_that_key_is_retired(place: Place) -> None:
    number = await rotate(place.keyring)
    assert key_of(await place.statements.sign(KIND, BODY)) != key_of(place.good)
    assert await place.statements.verify(KIND, place.good) == BODY
    await place.keyring.move(PLATFORM, Purpose.STATEMENTS, number - 1, state=KeyState.DISABLED)
    with pytest.raises(SignatureRejected):
        await place.statements.verify(KIND, place.good)
    await place.keyring.move(PLATFORM, Purpose.STATEMENTS, number - 1, state=KeyState.DESTROYED)
    with pytest.raises(SignatureRejected):
        await place.statements.verify(KIND, place.good)


async def test_a_key_that_is_pending_verifies_already(place: Place) -> None:
    """A process that has not seen the rotation end must take what one that has seen it signs."""
    number = await place.keyring.add_version(PLATFORM, Purpose.STATEMENTS)
    signer = ES256Signer(await place.keyring.key(PLATFORM, Purpose.STATEMENTS, number))
    assert await place.statements.verify(KIND, place.made(place.header(kid=signer.key_id), sign=signer.sign)) == BODY


async def test_a_key_that_another_process_has_made_is_found(tmp_path: Path) -> None:
    async with opened(tmp_path) as here, opened(tmp_path) as there:
        assert await there.statements.verify(KIND, here.good) == BODY  # knows the first version by now
        await rotate(here.keyring)
        signed = await here.statements.sign(KIND, BODY)
        assert key_of(signed) != key_of(here.good)
        assert await there.statements.verify(KIND, signed) == BODY


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"public": published(STRANGER, STRANGER.key_id)}, id="the stranger's, under its own name"),
        pytest.param({"public": None}, id="none"),
        pytest.param({"public": {}}, id="an object without members"),
        pytest.param({"public": ["kid"]}, id="a list"),
        pytest.param({"public": {"kid": ["x"]}}, id="one whose name is a list"),
        pytest.param({"wrapped": bytes(60)}, id="another wrapping"),
        pytest.param({"wrapped": b""}, id="no bytes"),
        pytest.param({"wrapped": None}, id="no wrapping"),
        pytest.param({"version": 2}, id="another number"),
        pytest.param({"root_version": 9}, id="another root version"),
        pytest.param({"state": "disabled"}, id="another state"),
    ],
)
async def test_whoever_writes_to_the_ring_cannot_have_a_statement_verified_when_its_row_has(
    place: Place, values: dict[str, Any]
) -> None:
    forged = place.made(place.header(kid=STRANGER.key_id), sign=STRANGER.sign)
    await write_row(place.keyring, **values)
    for statement in (place.good, forged):
        with pytest.raises(SignatureRejected):
            await place.statements.verify(KIND, statement)


async def test_a_public_key_that_was_put_under_our_keys_name_verifies_nothing(place: Place) -> None:
    """What verifies is the other half of the key that the root key opens; a row's own public key is anybody's to write."""
    await write_row(place.keyring, public=published(STRANGER, place.signer.key_id))
    with pytest.raises(SignatureRejected):
        await place.statements.verify(KIND, place.made(sign=STRANGER.sign))
    assert await place.statements.verify(KIND, place.good) == BODY


async def test_the_name_of_the_key_is_told_without_verifying(place: Place) -> None:
    assert key_of(place.made(place.header(kid="anything"), sign=lambda _: b"")) == "anything"
    assert key_of(place.good.partition(".")[0]) == place.signer.key_id


@pytest.mark.parametrize("text", ["", "manifest", ".", "e30=.", "bnVsbA.x.y", "W10.x.y"])
async def test_what_is_no_statement_has_no_key(text: str) -> None:
    with pytest.raises(SignatureRejected):
        key_of(text)
