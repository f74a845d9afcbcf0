"""Whether new requests are welcome: what every door's health tells, and what ends them in order.

Rules: first it is told that the gateway leaves, while everything is answered as before, each answer of HTTP asking its
client to come on another connection; then the doors close, and what is under way is answered.

Source: RFC 9112, section 9.6.
"""

import asyncio

from maas_gateway.web.exchange import Message, Send


class Readiness:
    """Where one worker stands between its start and its end."""

    def __init__(self) -> None:
        self._leaving = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        """Whether new requests are welcome."""
        return not self._leaving.is_set()

    def leave(self) -> None:
        """Tell from now on that new requests are not welcome; they are answered still."""
        self._leaving.set()

    def close(self) -> None:
        """Have the doors close now."""
        self._leaving.set()
        self._closing.set()

    async def leaving(self) -> None:
        """Wait until new requests are not welcome any more."""
        await self._leaving.wait()

    async def closing(self) -> None:
        """Wait until the doors close."""
        await self._closing.wait()


def last_of_connection(send: Send) -> Send:
    """Return a way to answer that tells the client to send nothing more on this connection."""

    async def telling(message: Message) -> None:
        if message["type"] == "http.response.start":
            others = [header for header in message["headers"] if header[0] != b"connection"]
            message = {**message, "headers": [*others, (b"connection", b"close")]}
        await send(message)

    return telling
