"""A root-key holder that is the Transit engine of Vault or OpenBao.

Rules:
- one Transit key holds every root key: each is one version of it, and is wrapped with by its number;
- Transit counts its versions itself, so a root key cannot be made under a name of ours: making one
  again after a kill leaves a version that nothing uses, which is harmless;
- Transit destroys versions from the oldest up to a number and never the newest; the ring destroys its
  versions oldest first, so what goes with one that is destroyed is destroyed or unused already. The
  Transit key therefore belongs to one deployment alone;
- what is stored is Transit's own text `vault:v<version>:<base64>` in its one spelling, so that an
  operator can open it with the tools of Vault too; another version than the reference's, or another
  spelling, is refused unasked;
- an engine that ignores associated data (Vault before 1.13) is refused when a key is made;
- the token is read anew for each request, so that an agent may replace it; redirects are not
  followed, no proxy and no credential is taken from the environment, an answer's length is bounded;
- no exception holds the token, a key or an answer: what the HTTP library raises is dropped.

The token's policy needs `read` and `update` on `<mount>/keys/<key>`, and `update` on
`<mount>/keys/<key>/rotate`, `…/config` and `…/trim`, `<mount>/encrypt/<key>` and `<mount>/decrypt/<key>`.

Protects against a stolen database, backup or disk of this machine. Does not protect against whoever
has the token, runs code here, or administers that Vault.

Source: OpenBao documentation, "Transit secrets engine (API)", sections Create key, Read key, Update
key configuration, Rotate key, Encrypt data, Decrypt data, Trim key; the sentences and status codes of
refusals are its Transit backend's.
"""

import asyncio
import base64
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import orjson

from maas_gateway.crypto.aead import REJECTED
from maas_gateway.crypto.key_material import KEY_BYTES, KeyMaterial
from maas_gateway.errors import CiphertextRejected, Conflict, KeyHolderUnavailable, Misconfigured
from maas_gateway.keyring.breaker import RETRY_S, answered_within
from maas_gateway.keyring.holder import Reference

MAX_ANSWER_BYTES: Final = 1 << 20
"""The longest answer that is read; real ones have some hundred bytes, and about 20 for each version."""
MAX_WRAPPED_BYTES: Final = 512
"""What the key store keeps of a wrapped key; Transit's text has about 90."""

_KEY, _VERSION = "key", "version"
_TYPE: Final = "aes256-gcm96"
_TYPES: Final = frozenset({_TYPE, "chacha20-poly1305", "xchacha20-poly1305"})
_OK, _NO_CONTENT, _BAD_REQUEST, _NOT_FOUND = 200, 204, 400, 404
_NONSENSE: Final = "the Transit holder did not answer as Transit does"
_REFUSALS: Final = {
    307: "the Transit holder sends elsewhere and is not followed: name the server that answers",
    403: "the Transit holder does not accept the token, or its policy does not allow this",
    429: "the Transit holder has too much to do",
    503: "the Transit holder is sealed",
}
_TOKEN = re.compile(r"[!-~]{1,4096}", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,126}[A-Za-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_WRAPPED = re.compile(rb"vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]+={0,2})", re.ASCII)
_NOT_OURS = ("message authentication failed", "invalid ciphertext")
_NOT_THERE = "version is too new"
"""What Transit calls an invalid ciphertext too, though it says that it has not got that version of the key."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the server said, with status 200, 204, 400 or 404."""

    status: int
    content: Mapping[str, object]
    errors: tuple[str, ...]

    def number(self, name: str) -> int:
        number = self.content.get(name, 0)
        if not isinstance(number, int) or isinstance(number, bool):
            raise _nonsense()
        return number

    def text(self, name: str) -> str:
        text = self.content.get(name)
        return text if isinstance(text, str) else ""


class TransitHolder:
    """Root keys that are versions of one Transit key.

    Args:
        url: the server's address, such as `https://vault.internal:8200`.
        key: the Transit key's name; made when it is not there.
        token: returns the token of the moment; called in a thread, raises OSError or ValueError when there is none.
        deadline_s: how long a call of this holder may take, all its requests together.
        mount: where the engine is mounted.
        ca_file: certificates that the server's is checked against; none means the system's.
        namespace: the namespace, where there are any.

    Raises:
        Misconfigured: `ca_file` is not readable, or holds no certificate.
    """

    kind: Final = "transit"

    def __init__(
        self,
        *,
        url: str,
        key: str,
        token: Callable[[], str],
        deadline_s: float,
        mount: str = "transit",
        ca_file: Path | None = None,
        namespace: str | None = None,
    ) -> None:
        self._root = f"{url.rstrip('/')}/v1/{mount.strip('/')}"
        self._key = key
        self._token = token
        self._deadline_s = deadline_s
        # Agents of Vault can ask for the second header, so that no page in a browser speaks to them.
        self._headers = {"Accept-Encoding": "identity", "X-Vault-Request": "true"}
        if namespace is not None:
            self._headers["X-Vault-Namespace"] = namespace
        self._client = httpx.AsyncClient(
            verify=_tls(ca_file), timeout=deadline_s, trust_env=False, follow_redirects=False
        )

    async def create(self, name: str) -> Reference:  # noqa: ARG002  Transit counts, it does not name
        """Make the Transit key, or its next version, and return what names that.

        Raises:
            KeyHolderUnavailable: the server does not answer, refuses, or ignores associated data.
            Conflict: a key of that name is there which cannot wrap.
        """
        async with answered_within(self._deadline_s):
            known = await self._read(self._key)
            if known is None:
                made = await self._do(f"keys/{self._key}", {"type": _TYPE})
            else:
                _check_wraps(known)
                made = await self._do(f"keys/{self._key}/rotate", {})
            if made.status == _NO_CONTENT:  # an older server
                made = await self._read(self._key) or made
            latest = _latest(made)
            await self._check_binds(latest)
            return {_KEY: self._key, _VERSION: str(latest)}

    async def wrap(self, reference: Reference, key: KeyMaterial, associated_data: bytes) -> bytes:
        """Wrap under that version of the Transit key.

        Raises:
            CiphertextRejected: the reference is none of this holder's.
            KeyHolderUnavailable: the server does not answer, or has not got that version.
        """
        name, version = _named(reference)
        async with answered_within(self._deadline_s):
            return await self._wrap(name, version, key, associated_data)

    async def unwrap(self, reference: Reference, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        """Unwrap with that version of the Transit key.

        Raises:
            CiphertextRejected: it was altered or moved, another version wrapped it, or the reference is none of this
                holder's.
            KeyHolderUnavailable: the server does not answer, or does not let that version open.
        """
        name, version = _named(reference)
        async with answered_within(self._deadline_s):
            return await self._unwrap(name, version, wrapped, associated_data)

    async def destroy(self, reference: Reference) -> None:
        """Destroy that version of the Transit key, and with it every older one.

        Raises:
            Conflict: it is the newest; Transit always keeps one.
            KeyHolderUnavailable: the server does not answer, or refuses.
        """
        name, version = _named(reference)
        async with answered_within(self._deadline_s):
            known = await self._read(name)
            if known is None or not known.number("min_available_version") <= version <= _latest(known):
                return
            if version == _latest(known):
                raise Conflict("the newest version of a Transit key cannot be destroyed: rotate first")
            least = version + 1
            limits = ("min_decryption_version", "min_encryption_version")
            await self._do(f"keys/{name}/config", {limit: max(known.number(limit), least) for limit in limits})
            await self._do(f"keys/{name}/trim", {"min_available_version": least})

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _wrap(self, name: str, version: int, key: KeyMaterial, associated_data: bytes) -> bytes:
        question = {
            "plaintext": _base64(key.expose()),
            "associated_data": _base64(associated_data),
            "key_version": version,
            # Encrypting under a key that is not there makes it, where the policy allows that. This field counts then
            # only, and is refused without a derivation context: a lost key is noticed and not silently replaced.
            "convergent_encryption": True,
        }
        wrapped = (await self._do(f"encrypt/{name}", question)).text("ciphertext").encode()
        if _version_in(wrapped) != version:
            raise _nonsense()
        return wrapped

    async def _unwrap(self, name: str, version: int, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        if _version_in(wrapped) != version:
            raise CiphertextRejected(REJECTED)
        question = {"ciphertext": wrapped.decode("ascii"), "associated_data": _base64(associated_data)}
        answer = await self._ask("POST", f"decrypt/{name}", question)
        if answer.status == _BAD_REQUEST and _says_not_ours(answer.errors):
            raise CiphertextRejected(REJECTED)
        if answer.status != _OK:
            raise _unavailable("the Transit holder has not got that version of the root key, or does not let it open")
        secret = _from_base64(answer.text("plaintext"))
        if not secret:
            raise _nonsense()
        if len(secret) != KEY_BYTES:
            raise CiphertextRejected(REJECTED)
        return KeyMaterial.from_bytes(secret)

    async def _check_binds(self, version: int) -> None:
        wrapped = await self._wrap(self._key, version, KeyMaterial.generate(), b"mgw1 transit check")
        try:
            await self._unwrap(self._key, version, wrapped, b"mgw1 transit check of another")
        except CiphertextRejected:
            return
        raise KeyHolderUnavailable("this Transit engine ignores associated data: take Vault 1.13 or newer, or OpenBao")

    async def _read(self, name: str) -> _Answer | None:
        answer = await self._ask("GET", f"keys/{name}")
        # A key that is not there is answered with an empty list of errors; a mount that is not there, with one error.
        if answer.status == _NOT_FOUND and not answer.errors:
            return None
        if answer.status != _OK:
            raise _unavailable("the Transit holder has no such engine, or refuses")
        _latest(answer)
        return answer

    async def _do(self, path: str, question: Mapping[str, object]) -> _Answer:
        answer = await self._ask("POST", path, question)
        if answer.status not in {_OK, _NO_CONTENT}:
            raise _unavailable("the Transit holder refuses")
        return answer

    async def _ask(self, method: str, path: str, question: Mapping[str, object] | None = None) -> _Answer:
        headers = {**self._headers, "X-Vault-Token": await self._read_token()}
        status, content, has_failed = 0, b"", False
        try:
            async with self._client.stream(method, f"{self._root}/{path}", json=question, headers=headers) as response:
                status, content = response.status_code, await _bounded(response)
        except httpx.HTTPError:
            has_failed = True
        # Raised out here, with nothing chained: what the library raises holds the request, and so the token and a key.
        if has_failed:
            raise _unavailable("the Transit holder does not answer")
        answer = _parse(status, content)
        if answer is None:
            raise _unavailable(_REFUSALS.get(status, _NONSENSE))
        return answer

    async def _read_token(self) -> str:
        token = ""
        try:
            token = (await asyncio.to_thread(self._token)).strip()
        except OSError as cause:
            raise _unavailable("the token of the Transit holder cannot be read") from cause
        except ValueError:
            pass  # its text could quote the token
        # What is no header would be quoted by the library that refuses it.
        if not _TOKEN.fullmatch(token):
            raise _unavailable("the token of the Transit holder is empty or malformed")
        return token


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as cause:
        raise Misconfigured(f"the certificates of the Transit holder in {ca_file} cannot be read") from cause


async def _bounded(response: httpx.Response) -> bytes:
    content = bytearray()
    async with aclosing(response.aiter_raw()) as chunks:  # type: ignore[type-var]  # it is declared as less than it is
        async for chunk in chunks:
            content += chunk
            if len(content) > MAX_ANSWER_BYTES:
                return b""
    return bytes(content)


def _parse(status: int, content: bytes) -> _Answer | None:
    if status == _NO_CONTENT:
        return _Answer(status, {}, ())
    said = _json_object(content) if status in {_OK, _BAD_REQUEST, _NOT_FOUND} else {}
    data, errors = said.get("data"), said.get("errors")
    if status == _OK and isinstance(data, dict):
        return _Answer(status, data, ())
    if status != _OK and isinstance(errors, list):
        return _Answer(status, {}, tuple(str(error) for error in errors))
    return None


def _json_object(content: bytes) -> Mapping[str, object]:
    try:
        said = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _latest(known: _Answer) -> int:
    latest = known.number("latest_version")
    if latest < 1:
        raise _nonsense()
    return latest


def _check_wraps(known: _Answer) -> None:
    if known.text("type") not in _TYPES or known.content.get("derived"):
        raise Conflict(f"there is a Transit key of that name which cannot wrap: make it of type {_TYPE}, not derived")


def _named(reference: Reference) -> tuple[str, int]:
    name, version = reference.get(_KEY, ""), reference.get(_VERSION, "")
    if not _NAME.fullmatch(name) or not _NUMBER.fullmatch(version):
        raise CiphertextRejected(REJECTED)
    return name, int(version)


def _version_in(wrapped: bytes) -> int | None:
    """Return the version that wrapped it, none if this is not Transit's text in the one spelling it has."""
    found = _WRAPPED.fullmatch(wrapped)
    if found is None or len(wrapped) > MAX_WRAPPED_BYTES:
        return None
    sealed = _from_base64(found[2].decode("ascii"))
    # Servers skip line breaks in base64 and the unused bits at its end.
    if sealed is None or base64.b64encode(sealed) != found[2]:
        return None
    return int(found[1])


def _says_not_ours(errors: tuple[str, ...]) -> bool:
    return any(sign in error and _NOT_THERE not in error for error in errors for sign in _NOT_OURS)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except ValueError:
        return None


def _nonsense() -> KeyHolderUnavailable:
    return _unavailable(_NONSENSE)


def _unavailable(detail: str) -> KeyHolderUnavailable:
    return KeyHolderUnavailable(detail, retry_after_s=RETRY_S)
