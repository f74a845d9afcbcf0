"""Requests as an ASGI server sends them, message by message, and what was asked for before the answer began."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
Headers = Sequence[tuple[bytes, bytes]]


@dataclass
class RawClient:
    """The server's side of one request: gives out body messages, takes the answer.

    Attributes:
        pieces: body pieces not yet asked for; after the last one comes "that was all".
        is_endless: whether, after the pieces, the client stays silent without having finished.
        n_received: how often a message was asked for.
        n_received_at_start: the same, when the answer's head came.
        status: the answer's.
        headers: the answer's, names in lower case.
        body: the answer's.
        is_whole: whether the answer has ended.
    """

    pieces: list[bytes] = field(default_factory=list)
    is_endless: bool = False
    disconnects: bool = False
    n_received: int = 0
    n_received_at_start: int = 0
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""
    is_whole: bool = False
    on_receive: Callable[[], None] = lambda: None

    async def receive(self) -> Message:
        self.n_received += 1
        self.on_receive()
        if self.pieces:
            piece = self.pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self.pieces) or self._is_unfinished}
        if self.disconnects:
            return {"type": "http.disconnect"}
        await asyncio.sleep(60)
        raise AssertionError("waited for a body that does not come")

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not self.status, "two answers"
            self.status = message["status"]
            self.headers = dict(message["headers"])
            self.n_received_at_start = self.n_received
        else:
            assert self.status, "a body without a head"
            assert not self.is_whole, "a body behind its end"
            self.body += message.get("body", b"")
            self.is_whole = not message.get("more_body", False)

    @property
    def _is_unfinished(self) -> bool:
        return self.is_endless or self.disconnects


def scope(method: str, path: str, headers: Headers = ()) -> Message:
    """Return an HTTP scope as uvicorn makes it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "server": ("127.0.0.1", 8080),
        "client": ("127.0.0.1", 50_000),
        "state": {},
    }


async def ask(app: Any, method: str, path: str, *, headers: Headers = (), client: RawClient | None = None) -> RawClient:
    """Send one request to an ASGI application."""
    asked = client or RawClient([b""])
    await app(scope(method, path, headers), asked.receive, asked.send)
    return asked
