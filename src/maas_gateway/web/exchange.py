"""One HTTP request and its answer, on raw ASGI: what the prediction doors are written against.

Rules: a body is read once the caller is known, at most to a bound and to a deadline, inflated at
most to the same bound; where an answer is given before the body was read, the answer goes out at
once and the rest of the body is dropped, up to 1 MiB and 1 s, so that clients which are still
sending see it instead of a reset.

Source: ASGI specification 3.0, HTTP; RFC 9110 sections 8.4 and 10.1.
"""

import asyncio
import re
import secrets
import time
import zlib
from collections.abc import (
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from typing import Any, Final

from maas_gateway.clock import Deadline
from maas_gateway.errors import DeadlineExceeded, MalformedBody, PayloadTooLarge, UnsupportedEncoding

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]
_Placed = tuple[bytes | bytearray, int]
"""A body, and how many bytes stand before it."""

JSON: Final = b"application/json"
SECURITY_HEADERS: Final = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store")]

_ALIGNMENT: Final = 16
"""Of the first byte of a `bytearray`, and enough for every number."""
_DRAIN_BYTES: Final = 1 << 20
_DRAIN_S: Final = 1.0
_ID_CHARACTERS: Final = 16
_IDS_DRAWN: Final = 256
_MAX_LENGTH_DIGITS: Final = 18
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9_.-]{1,64}")


class ClientGone(Exception):
    """The client closed the connection before its request was whole."""


def request_id_of(headers: RawHeaders) -> str:
    """Return the caller's own request id if it is sound, else a new one."""
    return _request_id(dict(headers))


def length_of(header: bytes | None) -> int | None:
    """Return the number that a Content-Length header says, or None where it says none."""
    if header is None or not header.isdigit() or len(header) > _MAX_LENGTH_DIGITS:
        return None
    return int(header)


class Exchange:
    """A request being answered.

    Attributes:
        n_body_bytes: the size of its body as sent: as declared, or 0, until it has been read.
    """

    __slots__ = (
        "_by_name",
        "_is_read",
        "_receive",
        "_send",
        "began_s",
        "headers",
        "method",
        "n_body_bytes",
        "path",
        "request_id",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: list[tuple[bytes, bytes]] = scope["headers"]
        self._by_name = dict(self.headers)
        self.request_id = _request_id(self._by_name)
        self.began_s = time.perf_counter()
        self.status = 0
        self.n_body_bytes = length_of(self._by_name.get(b"content-length")) or 0
        self._receive = receive
        self._send = send
        self._is_read = False

    def header(self, name: bytes) -> bytes | None:
        """Return the last header of that lower-case name."""
        return self._by_name.get(name)

    async def body(self, max_bytes: int, deadline: Deadline) -> bytes:
        """Read the whole body, inflated.

        Raises:
            As `aligned_body`.
        """
        whole, _ = await self._read(max_bytes, deadline, 0)
        return bytes(whole)  # itself, unless it came in pieces

    async def aligned_body(self, max_bytes: int, deadline: Deadline, at: int) -> memoryview:
        """Read the whole body, inflated; what came in pieces lies so that numbers behind its first bytes need no copy.

        Args:
            max_bytes: of the body, as sent and inflated.
            deadline: until when it has to be there.
            at: so many bytes come before the numbers.

        Raises:
            PayloadTooLarge: it is larger than `max_bytes`.
            DeadlineExceeded: it did not arrive in time.
            UnsupportedEncoding: it is encoded otherwise than by gzip or deflate.
            MalformedBody: it is not what its Content-Encoding says.
            ClientGone: the connection closed.
        """
        whole, start = await self._read(max_bytes, deadline, -at % _ALIGNMENT)
        return memoryview(whole).toreadonly()[start:]

    async def _read(self, max_bytes: int, deadline: Deadline, n_before: int) -> _Placed:
        """Return the body, and where in it it begins: behind so many bytes if it came in pieces, else at once."""
        declared = length_of(self.header(b"content-length"))
        if declared is not None and declared > max_bytes:
            raise _too_large(max_bytes)
        encoding = self.header(b"content-encoding")
        if encoding is not None and encoding.lower() not in {b"identity", b"gzip", b"deflate"}:
            raise UnsupportedEncoding("Content-Encoding: gzip, deflate or none")
        reading = _Begun(self._whole(max_bytes, n_before))
        if reading.is_done:
            body, start = reading.result
        else:
            try:
                async with asyncio.timeout(max(0.0, deadline.left_s())):
                    body, start = await reading
            except TimeoutError:
                raise DeadlineExceeded("the body did not arrive in time") from None
        self.n_body_bytes = len(body) - start
        if encoding is None or encoding.lower() == b"identity":
            return body, start
        return _inflated(memoryview(body)[start:], max_bytes), 0

    async def answer(
        self,
        status: int,
        body: bytes,
        extra: RawHeaders = (),
        *,
        content_type: bytes = JSON,
        rest: Sequence[bytes | memoryview] = (),
    ) -> None:
        """Send the answer; drop what is left of the request.

        Args:
            status: of HTTP.
            body: the answer's, or how it begins.
            extra: more headers.
            content_type: of the body.
            rest: how it goes on; pieces are not joined, so that large ones are not copied.
        """
        is_open = not self._is_read and self._has_body()
        headers = [
            (b"content-type", content_type),
            (b"content-length", str(len(body) + sum(map(len, rest))).encode()),
            (b"x-request-id", self.request_id.encode()),
            *SECURITY_HEADERS,
            *extra,
        ]
        if is_open and self._may_be_long():
            headers.append((b"connection", b"close"))
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        *pieces, last = (body, *rest)
        for piece in pieces:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": last, "more_body": is_open})
        if is_open:
            await self._drain()
            await self._send({"type": "http.response.body", "body": b""})

    async def _whole(self, max_bytes: int, n_before: int) -> _Placed:
        pieces = bytearray(n_before)
        while not self._is_read:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            body: bytes = message.get("body", b"")
            self._is_read = not message.get("more_body", False)
            n_bytes = len(pieces) - n_before + len(body)
            if n_bytes > max_bytes:
                raise _too_large(max_bytes)
            if self._is_read and len(body) == n_bytes:
                return body, 0  # the usual body comes in one piece and is not copied
            pieces += body
        return pieces, n_before

    def _has_body(self) -> bool:
        length = self.header(b"content-length")
        return self.header(b"transfer-encoding") is not None or (length is not None and length != b"0")

    def _may_be_long(self) -> bool:
        length = length_of(self.header(b"content-length"))
        return length is None or length > _DRAIN_BYTES

    async def _drain(self) -> None:
        dropped = 0
        try:
            async with asyncio.timeout(_DRAIN_S):
                while dropped < _DRAIN_BYTES:
                    message = await self._receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return
                    dropped += len(message.get("body", b""))
        except TimeoutError:
            return


class _Begun:
    """A reading that has been run up to its first wait: a body that is there already costs no timer.

    Measured: `asyncio.timeout` takes 12 µs under uvloop, a tenth of a prediction's time.

    Attributes:
        is_done: whether it never had to wait, so that its result is known; else it is to be awaited.
        result: what was read, once that is known.
    """

    __slots__ = ("_left", "_wait", "is_done", "result")

    def __init__(self, reading: Coroutine[Any, Any, _Placed]) -> None:
        self._left = reading.__await__()
        self._wait: Any = None
        self.is_done = False
        self.result: _Placed = b"", 0
        try:
            self._wait = next(self._left)
        except StopIteration as end:
            self.is_done, self.result = True, end.value

    def __await__(self) -> Generator[Any, Any, _Placed]:
        """Wait for what the reading waits for, and go on with it."""
        try:
            yield self._wait
        except BaseException:
            self._left.close()
            raise
        return (yield from self._left)


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id")
    return next(_FRESH_IDS) if given is None or not _REQUEST_ID.fullmatch(given) else given.decode("ascii")


def _fresh_ids() -> Iterator[str]:
    """Draw request ids by the page: a call of the system for each would hand the GIL to an engine's thread."""
    while True:
        drawn = secrets.token_hex(_ID_CHARACTERS // 2 * _IDS_DRAWN)
        for start in range(0, len(drawn), _ID_CHARACTERS):
            yield drawn[start : start + _ID_CHARACTERS]


_FRESH_IDS: Final = _fresh_ids()


def _too_large(max_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is larger than the {max_bytes} bytes that are accepted")


def _inflated(body: memoryview, max_bytes: int) -> bytes:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # finds out whether gzip or zlib
    try:
        inflated = inflater.decompress(body, max_bytes + 1)
    except zlib.error as cause:
        raise MalformedBody("the body is not what its Content-Encoding says") from cause
    if len(inflated) > max_bytes:
        raise PayloadTooLarge(f"the inflated body is larger than the {max_bytes} bytes that are accepted")
    if inflater.unused_data:
        raise MalformedBody("something follows the compressed body")
    if not inflater.eof:
        raise MalformedBody("the compressed body is cut short")
    return inflated
