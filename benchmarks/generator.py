"""Our own load generator, for machines without wrk; run as a program, prints one line.

One protocol object a connection on uvloop, no HTTP library: an answer is whole when as many bytes
came as its Content-Length says.

    python generator.py PORT CLIENTS SECONDS REQUEST.json
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Final

import uvloop

HOST: Final = "127.0.0.1"
_OK: Final = b"HTTP/1.1 200"
_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"


class Client(asyncio.Protocol):
    """One keep-alive connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes, times_s: list[float]) -> None:
        self._request = request
        self._times_s = times_s
        self._received = b""
        self._asked_at_s = 0.0
        self._transport: asyncio.Transport | None = None
        self.n_failed = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take a part of an answer; ask again once it is whole."""
        self._received += data
        head, found, body = self._received.partition(_END)
        if not found or len(body) < _length_of(head):
            return
        self._times_s.append(time.perf_counter() - self._asked_at_s)
        self.n_failed += not head.startswith(_OK)
        self._received = b""
        self._ask()

    def close(self) -> None:
        """Ask no more."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def connection_lost(self, _: Exception | None) -> None:
        """Count a connection that the server closed."""
        self.n_failed += self._transport is not None

    def _ask(self) -> None:
        self._asked_at_s = time.perf_counter()
        if self._transport is not None:
            self._transport.write(self._request)


def _length_of(head: bytes) -> int:
    lower = head.lower()
    start = lower.index(_LENGTH) + len(_LENGTH)
    return int(lower[start:].split(b"\r\n", 1)[0])


async def main(port: int, n_clients: int, duration_s: float, request: bytes) -> None:
    """Put on the load and print what came of it."""
    times_s: list[float] = []
    began_s = time.perf_counter()
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(request, times_s), HOST, port))[1] for _ in range(n_clients)
    ]
    await asyncio.sleep(duration_s)
    took_s = time.perf_counter() - began_s
    for client in clients:
        client.close()
    times_s.sort()
    found = {
        "n_requests": len(times_s),
        "took_s": took_s,
        "p50_us": times_s[len(times_s) // 2] * 1e6 if times_s else 0,
        "p99_us": times_s[len(times_s) * 99 // 100] * 1e6 if times_s else 0,
        "n_failed": sum(client.n_failed for client in clients),
    }
    print("BENCH " + json.dumps(found))


def encoded(path: str, body: str, bearer: str) -> bytes:
    """Return the request as it goes over the wire."""
    content = body.encode()
    lines = [f"POST {path} HTTP/1.1", f"Host: {HOST}", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(content)}", *([f"Authorization: Bearer {bearer}"] if bearer else [])]
    return "\r\n".join(lines).encode() + _END + content


if __name__ == "__main__":
    _, port_text, clients_text, seconds_text, request_file = sys.argv
    asked = json.loads(Path(request_file).read_text(encoding="utf-8"))
    uvloop.run(main(int(port_text), int(clients_text), float(seconds_text), encoded(**asked)))
