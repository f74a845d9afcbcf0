"""The Transit engine of Vault and OpenBao, as far as a root-key holder speaks to it, over a real port.

It answers as OpenBao does, sentences and status codes included (its Transit backend, and its
documentation "Transit secrets engine (API)"): versions count from 1 and are named `vault:v<n>:<base64>`; base64 is read as
Go reads it (line breaks and unused bits do not count); `key_version` below `min_encryption_version`
and a ciphertext below `min_decryption_version` are refused; versions are trimmed only below both;
encrypting under a key that is not there makes it; a key that is not there has no errors in its 404,
a mount that is not there has one. What differs between servers, and what goes wrong, is a `Mode`.
"""

import asyncio
import base64
import json
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import uvicorn
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from key_services import self_signed

NONCE_BYTES = 12
START_S = 10.0
SYMMETRIC = ("aes256-gcm96", "aes128-gcm96", "chacha20-poly1305", "xchacha20-poly1305")


class Mode(Enum):
    """How the server behaves."""

    USUAL = "as it should"
    OLD = "as Vault 1.12: no associated data, no content after a rotation"
    SEALED = "sealed"
    BUSY = "over its rate limit"
    STANDBY = "a standby that sends elsewhere"
    BROKEN = "status 500"
    SLOW = "no answer before the client goes away"
    DRIPPING = "one byte of an answer now and then, for ever"
    GARBAGE = "status 200, no JSON"
    OTHER_JSON = "status 200, JSON of another kind"
    PAGE = "an error page of something in between"
    HUGE = "an answer without an end"
    CUT = "the connection ends within the answer"


SAYINGS = {
    Mode.SEALED: (503, b'{"errors":["Vault is sealed"]}'),
    Mode.BUSY: (429, b'{"errors":["request path \\"transit\\": rate limit quota exceeded"]}'),
    Mode.STANDBY: (307, b""),
    # What a damaged storage says; an altered ciphertext is answered with status 400.
    Mode.BROKEN: (500, b'{"errors":["decryption failed: cipher: message authentication failed"]}'),
    Mode.GARBAGE: (200, b"\xff{]"),
    Mode.OTHER_JSON: (200, b'{"data": {"latest_version": "1", "ciphertext": 1, "plaintext": {}}}'),
    Mode.PAGE: (404, b"<html>no such page</html>"),
}


@dataclass
class TransitKey:
    """One named key with its versions."""

    type: str = "aes256-gcm96"
    derived: bool = False
    soft_deleted: bool = False
    versions: dict[int, bytes] = field(default_factory=dict)
    latest: int = 0
    min_available: int = 0
    min_decryption: int = 1
    min_encryption: int = 0

    def rotate(self) -> None:
        self.latest += 1
        self.versions[self.latest] = secrets.token_bytes(32)

    def described(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "type": self.type,
            "derived": self.derived,
            "soft_deleted": self.soft_deleted,
            "keys": {str(n): 1767225600 for n in self.versions if n >= self.min_decryption},
            "latest_version": self.latest,
            "min_available_version": self.min_available,
            "min_decryption_version": self.min_decryption,
            "min_encryption_version": self.min_encryption,
            "supports_encryption": self.type in SYMMETRIC,
            "supports_decryption": self.type in SYMMETRIC,
        }


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Refusal(Exception):
    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(status, *errors)
        self.status = status
        self.errors = errors


class TransitSimulator:
    """One server with one mount, as an ASGI application.

    Attributes:
        token: the one that it accepts.
        namespace: the one that the mount is in.
        keys: by name; tests look in and reach in.
        mode: how it behaves from now on.
        asked: all requests so far.
        was_asked: set with the first.
        url: where it is.
        certificate: a file with the one that it shows, if it speaks TLS.
    """

    def __init__(self, *, mount: str = "transit", namespace: str | None = None) -> None:
        self.token = f"s.{secrets.token_hex(12)}"
        self.mount = mount
        self.namespace = namespace
        self.keys: dict[str, TransitKey] = {}
        self.mode = Mode.USUAL
        self.asked: list[Asked] = []
        self.was_asked = threading.Event()
        self.url = ""
        self.certificate = Path()

    def paths(self) -> list[str]:
        """Return what was asked of the mount so far, oldest first."""
        return [f"{asked.method} {asked.path.removeprefix(f'/v1/{self.mount}/')}" for asked in self.asked]

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        content = bytearray()
        while True:
            message = await receive()
            content += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        asked = Asked(scope["method"], scope["path"], headers, json.loads(content) if content else {})
        self.asked.append(asked)
        self.was_asked.set()
        if await self._misbehaves(receive, send):
            return
        try:
            status, data = self._answer(asked)
            body = b"" if status == 204 else json.dumps({"request_id": "1", "data": data, "warnings": None}).encode()
        except Refusal as refusal:
            status, body = refusal.status, json.dumps({"errors": refusal.errors}).encode()
        await _send(send, status, body)

    async def _misbehaves(self, receive: Any, send: Any) -> bool:
        if self.mode in {Mode.USUAL, Mode.OLD}:
            return False
        if self.mode is Mode.SLOW:
            await receive()  # until the client goes away
        elif self.mode is Mode.DRIPPING:
            await _send_without_end(receive, send, b" ", pause_s=0.02)
        elif self.mode is Mode.HUGE:
            await _send_without_end(receive, send, b" " * 65536, pause_s=0)
        elif self.mode is Mode.CUT:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
            await send({"type": "http.response.body", "body": b'{"data":', "more_body": True})
            raise ConnectionAbortedError
        else:
            status, body = SAYINGS[self.mode]
            await _send(send, status, body, (b"location", f"{self.url}/elsewhere".encode()))
        return True

    def _answer(self, asked: Asked) -> tuple[int, dict[str, Any]]:
        if not secrets.compare_digest(asked.headers.get("x-vault-token", ""), self.token):
            raise Refusal(403, "permission denied")
        route = asked.path.removeprefix("/v1/")
        if asked.headers.get("x-vault-namespace") != self.namespace or not route.startswith(f"{self.mount}/"):
            raise Refusal(404, f'no handler for route "{route}". route entry not found.')
        match asked.method, route.removeprefix(f"{self.mount}/").split("/"):
            case "GET", ["keys", name]:
                if name not in self.keys:
                    raise Refusal(404)
                return 200, self.keys[name].described(name)
            case "POST", ["keys", name]:
                return self._make(name, asked.body)
            case "POST", ["keys", name, act]:
                return self._change(name, act, asked.body)
            case "POST", ["encrypt", name]:
                return 200, self._encrypt(name, asked.body)
            case "POST", ["decrypt", name]:
                return 200, self._decrypt(name, asked.body)
        raise Refusal(404, f'no handler for route "{route}". route entry not found.')

    def _make(self, name: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if body.get("type", "aes256-gcm96") not in SYMMETRIC:
            raise Refusal(400, f"unknown key type {body['type']}")
        if name not in self.keys:
            self.keys[name] = TransitKey(body.get("type", "aes256-gcm96"))
            self.keys[name].rotate()
        return self._changed(name)

    def _change(self, name: str, act: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        key = self.keys.get(name)
        match act:
            case "rotate":
                if key is None:
                    raise Refusal(400, "key not found")
                if key.soft_deleted:
                    raise Refusal(500, "refusing to use soft-deleted key")
                key.rotate()
            case "config":
                if key is None:
                    raise Refusal(400, f"no existing key named {name} could be found")
                _configure(key, body)
            case "trim":
                if key is None:
                    raise Refusal(400, "invalid key name")
                _trim(key, body)
            case _:
                raise Refusal(404, "unsupported path")
        return self._changed(name)

    def _changed(self, name: str) -> tuple[int, dict[str, Any]]:
        return (204, {}) if self.mode is Mode.OLD else (200, self.keys[name].described(name))

    def _encrypt(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        plaintext = _read_base64(body["plaintext"])
        if name not in self.keys:
            if body.get("convergent_encryption"):
                sentence = "convergent encryption requires derivation to be enabled, so context is required"
                raise Refusal(400, sentence)
            self._make(name, {})
        key = self.keys[name]
        if key.soft_deleted:
            raise Refusal(400, "refusing to use soft-deleted key")
        version = body.get("key_version", 0) or key.latest
        if version > key.latest:
            raise Refusal(400, "requested version for encryption is higher than the latest key version")
        if version < key.min_encryption:
            raise Refusal(400, "requested version for encryption is less than the minimum encryption key version")
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = nonce + AESGCM(key.versions[version]).encrypt(nonce, plaintext, self._bound_to(body))
        return {"ciphertext": f"vault:v{version}:{base64.b64encode(sealed).decode()}", "key_version": version}

    def _decrypt(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        key = self.keys.get(name)
        if key is None:
            raise Refusal(400, "encryption key not found")
        if key.soft_deleted:
            raise Refusal(400, "refusing to use soft-deleted key")
        version, sealed = _read_ciphertext(body["ciphertext"])
        if version > key.latest:
            raise Refusal(400, "invalid ciphertext: version is too new")
        if version < key.min_decryption:
            raise Refusal(400, "ciphertext or signature version is disallowed by policy (too old)")
        if version not in key.versions:
            raise Refusal(400, "no such key version")
        if len(sealed) < NONCE_BYTES:
            raise Refusal(400, "invalid ciphertext length")
        try:
            plaintext = AESGCM(key.versions[version]).decrypt(
                sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self._bound_to(body)
            )
        except InvalidTag:
            raise Refusal(400, "cipher: message authentication failed") from None
        return {"plaintext": base64.b64encode(plaintext).decode()}

    def _bound_to(self, body: dict[str, Any]) -> bytes:
        return b"" if self.mode is Mode.OLD else _read_base64(body.get("associated_data", ""))


def _configure(key: TransitKey, body: dict[str, Any]) -> None:
    decryption = body.get("min_decryption_version", key.min_decryption) or 1
    encryption = body.get("min_encryption_version", key.min_encryption)
    for name, wanted in (("decryption", decryption), ("encryption", encryption)):
        if wanted > key.latest:
            raise Refusal(400, f"cannot set min {name} version of {wanted}, latest key version is {key.latest}")
    if 0 < encryption < decryption:
        raise Refusal(400, "cannot set min encryption/decryption values; …")
    if key.min_available > encryption:
        raise Refusal(400, "min encryption version should not be less than min available version")
    if key.min_available > decryption:
        raise Refusal(400, "min decryption version should not be less then min available version")
    key.min_decryption, key.min_encryption = decryption, encryption


def _trim(key: TransitKey, body: dict[str, Any]) -> None:
    least = body.get("min_available_version")
    if least is None:
        raise Refusal(400, "missing min_available_version")
    if least < key.min_available:
        raise Refusal(400, "minimum available version cannot be decremented")
    if key.min_encryption == 0:
        raise Refusal(400, "minimum available version cannot be set when minimum encryption version is not set")
    if least > key.min_encryption:
        raise Refusal(400, "minimum available version cannot be greater than minmum encryption version")
    if least > key.min_decryption:
        raise Refusal(400, "minimum available version cannot be greater than minimum decryption version")
    if least <= 0:
        raise Refusal(400, "minimum available version should be positive")
    key.min_available = least
    for version in [n for n in key.versions if n < least]:
        del key.versions[version]


def _read_ciphertext(text: str) -> tuple[int, bytes]:
    if not text.startswith("vault:v"):
        raise Refusal(400, "invalid ciphertext: no prefix")
    version, colon, sealed = text.removeprefix("vault:v").partition(":")
    if not colon:
        raise Refusal(400, "invalid ciphertext: wrong number of fields")
    if not version.isdecimal():
        raise Refusal(400, "invalid ciphertext: version number could not be decoded")
    try:
        return int(version) or 1, _read_base64(sealed)
    except Refusal:
        raise Refusal(400, "invalid ciphertext: could not decode base64") from None


def _read_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("\r", "").replace("\n", ""), validate=True)
    except ValueError:
        raise Refusal(400, "illegal base64 data at input byte 0") from None


async def _send(send: Any, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    if status != 204:
        headers = (*headers, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def _send_without_end(receive: Any, send: Any, part: bytes, *, pause_s: float) -> None:
    gone = asyncio.ensure_future(receive())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while not gone.done():
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.wait([gone], timeout=pause_s)


class TransitServer:
    """A loopback port with a simulator behind it; the next test puts its own there.

    Attributes:
        simulator: the one behind it.
    """

    def __init__(self, url: str, certificate: Path) -> None:
        self.simulator = TransitSimulator()
        self._url = url
        self._certificate = certificate

    def put(self, simulator: TransitSimulator) -> TransitSimulator:
        self.simulator = simulator
        simulator.url, simulator.certificate = self._url, self._certificate
        return simulator

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        await self.simulator(scope, receive, send)


@contextmanager
def serving(folder: Path, *, is_tls: bool = False) -> Iterator[TransitServer]:
    """Serve on a free loopback port, in a thread; the certificate is written to `folder`."""
    certificate, key = self_signed(folder)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"{'https' if is_tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        door = TransitServer(url, certificate)
        config = uvicorn.Config(door, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1)
        if is_tls:
            config.ssl_certfile, config.ssl_keyfile = certificate, key
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        ends_at = time.monotonic() + START_S
        while not server.started:
            if time.monotonic() > ends_at or not thread.is_alive():
                raise RuntimeError("the simulator of Transit did not start")
            time.sleep(0.005)
        try:
            yield door
        finally:
            server.should_exit = True
            thread.join(START_S)
