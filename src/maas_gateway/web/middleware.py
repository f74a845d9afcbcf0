"""The frame around every route that FastAPI answers: request id, security headers, counts, draining.

Rules: every answer carries `X-Request-Id` and the security headers; where a request is answered
before its body was read, the rest is dropped, up to 1 MiB and 1 s, so that a client which is still
sending sees the answer; pages may load what this gateway serves and nothing else; nothing is kept by
caches unless its route says so; a fault is logged here, by type and place, and goes no further.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from maas_gateway.telemetry.metrics import Metrics
from maas_gateway.web.exchange import Message, Receive, Scope, Send, length_of, request_id_of

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_DRAIN_BYTES: Final = 1 << 20
_DRAIN_S: Final = 1.0
_POLICY: Final = b"; ".join(
    [
        b"default-src 'self'",
        b"style-src 'self' 'unsafe-inline'",  # Swagger UI sets style attributes
        b"img-src 'self' data:",
        b"object-src 'none'",
        b"base-uri 'none'",
        b"frame-ancestors 'none'",
    ]
)
_HEADERS: Final = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", _POLICY),
    (b"cache-control", b"no-store"),
]


class Frame:
    """ASGI middleware around the framework.

    Args:
        app: what answers.
        metrics: where requests are counted.
    """

    def __init__(self, app: App, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._log = structlog.get_logger()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        framed = _Framed(scope, receive, send)
        scope.setdefault("state", {})["request_id"] = framed.request_id
        try:
            await self._app(scope, framed.receive, framed.send)
        except Exception:  # noqa: BLE001  the outermost frame of a door; the framework has answered 500 already
            self._log.exception("request_failed", request_id=framed.request_id, door="management")
        self._metrics.request("management", framed.status, time.perf_counter() - framed.began_s)


class _Framed:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        self.request_id = request_id_of(scope["headers"])
        self.status = 0
        self.began_s = time.perf_counter()
        self._receive = receive
        self._send = send
        declared = headers.get(b"content-length", b"0")
        length = length_of(declared)
        self._is_body_left = declared != b"0" or b"transfer-encoding" in headers
        self._may_be_long = length is None or length > _DRAIN_BYTES or b"transfer-encoding" in headers

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_body_left = False
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            closes = [(b"connection", b"close")] if self._is_body_left and self._may_be_long else []
            own = [(b"x-request-id", self.request_id.encode()), *closes]
            given = {name for name, _ in message["headers"]}
            defaults = [header for header in _HEADERS if header[0] not in given]
            message = {**message, "headers": [*message["headers"], *own, *defaults]}
        elif self._is_body_left and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._drain()
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    async def _drain(self) -> None:
        dropped = 0
        try:
            async with asyncio.timeout(_DRAIN_S):
                while self._is_body_left and dropped < _DRAIN_BYTES:
                    dropped += len((await self.receive()).get("body", b""))
        except TimeoutError:
            return
