"""An OpenID Connect provider, as far as whoever takes its tokens sees it: a discovery document and a key set, over a
real port of the test's own loop, and tokens that it never told anybody of. What goes wrong is a `Mode`.

    async with identity_provider() as provider:
        token = provider.token(groups=["ml-team"])

Source: OpenID Connect Discovery 1.0 section 4; RFC 7517 section 5; RFC 7515 section 5.1; RFC 7518 section 3.
"""

import asyncio
import base64
import functools
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ABSENT: Final = object()
DISCOVERY: Final = "/.well-known/openid-configuration"
KEYS: Final = "/keys"
AUDIENCE: Final = "maas-gateway"

_HASHES: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: Final[dict[str, tuple[str, ec.EllipticCurve]]] = {
    "ES256": ("P-256", ec.SECP256R1()),
    "ES384": ("P-384", ec.SECP384R1()),
    "ES512": ("P-521", ec.SECP521R1()),
}


class Mode(Enum):
    """How a document is answered."""

    USUAL = "as it should"
    SLOW = "not before the client goes away"
    DRIPPING = "one byte now and then, for ever"
    HUGE = "without an end"
    LARGE = "well-formed, and a byte longer than is read"
    CUT = "the connection ends within the answer"
    GONE = "the connection ends without an answer"
    BROKEN = "status 500"
    ELSEWHERE = "redirected to the same document"
    GARBAGE = "status 200, no JSON"
    LIST = "JSON that is no object"
    TWICE = "an object that says a name twice"
    COMPRESSED = "compressed although nobody asked for that"


class SigningKey:
    """A key of a provider.

    Attributes:
        kid: its id.
        algorithm: what it signs with.
        private: the library's key.
    """

    def __init__(self, kid: str, algorithm: str = "RS256", *, bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: Any = (
            ec.generate_private_key(_CURVES[algorithm][1])
            if algorithm in _CURVES
            else rsa.generate_private_key(65_537, bits)
        )

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return the public half as a key set lists it, changed; `ABSENT` leaves a member out."""
        numbers = self.private.public_key().public_numbers()
        if self.algorithm in _CURVES:
            size = (self.private.key_size + 7) // 8
            curve = _CURVES[self.algorithm][0]
            public = {"kty": "EC", "crv": curve, "x": _number(numbers.x, size), "y": _number(numbers.y, size)}
        else:
            public = {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
        said = {**public, "kid": self.kid, "use": "sig", "alg": self.algorithm, **changes}
        return {name: value for name, value in said.items() if value is not ABSENT}

    def pem(self) -> bytes:
        """Return the public half as PEM."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.PEM, form)  # type: ignore[no-any-return]

    def sign(self, message: bytes, algorithm: str | None = None) -> bytes:
        """Sign as JOSE does."""
        digest = _HASHES[(algorithm or self.algorithm)[2:]]
        if self.algorithm not in _CURVES:
            return self.private.sign(message, padding.PKCS1v15(), digest)  # type: ignore[no-any-return]
        size = (self.private.key_size + 7) // 8
        return b"".join(
            part.to_bytes(size, "big") for part in decode_dss_signature(self.private.sign(message, ec.ECDSA(digest)))
        )


@functools.cache
def signing_key(kid: str, algorithm: str = "RS256", bits: int = 2048) -> SigningKey:
    """Return a key, made once a test session."""
    return SigningKey(kid, algorithm, bits=bits)


def symmetric(secret: bytes) -> Callable[[bytes], bytes]:
    """Return what signs with HS256."""
    return lambda message: hmac.digest(secret, message, hashlib.sha256)


class ProviderSimulator:
    """A provider that behaves.

    Attributes:
        keys: what its key set lists.
        key: what it signs with.
        modes: how it answers a path, where not as it should.
        discovery: what its discovery document says in place of the truth.
        asked: the path of every request so far.
        n_connections: how many connections there were.
    """

    def __init__(self) -> None:
        self.key = signing_key("first")
        self.keys: list[Any] = [self.key.jwk()]
        self.modes: dict[str, Mode] = {}
        self.discovery: dict[str, Any] = {}
        self.asked: list[str] = []
        self.n_connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def issuer(self) -> str:
        return f"http://{self.host}"

    def mend(self) -> None:
        """Behave as in the beginning; what was asked is forgotten."""
        self.key = signing_key("first")
        self.keys = [self.key.jwk()]
        self.modes, self.discovery, self.asked = {}, {}, []

    def use(self, key: SigningKey) -> None:
        """Sign with another key, and list that alone."""
        self.key, self.keys = key, [key.jwk()]

    def header(self, **changes: Any) -> dict[str, Any]:
        """Return a header that counts, changed."""
        said = {"alg": self.key.algorithm, "typ": "at+jwt", "kid": self.key.kid, **changes}
        return {name: value for name, value in said.items() if value is not ABSENT}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return claims that count, changed; `ABSENT` leaves one out."""
        now = int(time.time())
        said = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ada", "iat": now, "exp": now + 300, **changes}
        return {name: value for name, value in said.items() if value is not ABSENT}

    def token(self, **changes: Any) -> str:
        """Return a token with changed claims."""
        return self.signed(claims=self.claims(**changes))

    def signed(
        self,
        header: dict[str, Any] | bytes | None = None,
        claims: dict[str, Any] | bytes | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> str:
        """Return a token; what is not given is right."""
        parts = [self.header() if header is None else header, self.claims() if claims is None else claims]
        signed = ".".join(_encoded(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in parts)
        return f"{signed}.{_encoded((sign or self.key.sign)(signed.encode()))}"

    async def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more: a connection is refused."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.n_connections += 1
        self._writers.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            self.asked.append(path)
            await self._answer(path, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client is gone
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        mode = self.modes.get(path.partition("?")[0], Mode.USUAL)
        body = json.dumps(self._document(path.partition("?")[0])).encode()
        match mode:
            case Mode.SLOW:
                await reader.read()
            case Mode.DRIPPING | Mode.HUGE:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
                while not reader.at_eof() and not writer.is_closing():
                    writer.write(b" " if mode is Mode.DRIPPING else b" " * 65_536)
                    await writer.drain()
                    await asyncio.sleep(0.02 if mode is Mode.DRIPPING else 0)
            case Mode.LARGE:
                await _send(writer, "200 OK", body.ljust((256 << 10) + 1))
            case Mode.CUT:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n" + body[:20])
                await writer.drain()
            case Mode.GONE:
                return
            case Mode.BROKEN:
                await _send(writer, "500 Internal Server Error", body)
            case Mode.ELSEWHERE:
                aim = f"location: {self.issuer}{path}?again"
                await _send(writer, "302 Found" if "?" not in path else "200 OK", body, aim)
            case Mode.COMPRESSED:
                import gzip

                await _send(writer, "200 OK", gzip.compress(body), "content-encoding: gzip")
            case _:
                said = {Mode.GARBAGE: b"{", Mode.LIST: b"[" + body + b"]", Mode.TWICE: b'{"keys":[],' + body[1:]}
                await _send(writer, "200 OK", said.get(mode, body))

    def _document(self, path: str) -> dict[str, Any]:
        if path == KEYS:
            return {"keys": self.keys}
        return {"issuer": self.issuer, "jwks_uri": self.issuer + KEYS, **self.discovery}


@asynccontextmanager
async def identity_provider() -> AsyncIterator[ProviderSimulator]:
    """Serve a provider on a free loopback port."""
    simulator = ProviderSimulator()
    await simulator.start()
    try:
        yield simulator
    finally:
        await simulator.stop()


async def _send(writer: asyncio.StreamWriter, status: str, body: bytes, *headers: str) -> None:
    said = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    writer.write("\r\n".join(said).encode() + b"\r\n\r\n" + body)
    await writer.drain()


def _number(number: int, size: int | None = None) -> str:
    return _encoded(number.to_bytes(size or (number.bit_length() + 7) // 8, "big"))


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
