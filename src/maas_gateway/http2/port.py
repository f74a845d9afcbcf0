"""A port of HTTP/2: its connections, looked after once a second, ended in order."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from maas_gateway.background import background, every
from maas_gateway.http2.connection import Connection, Serve
from maas_gateway.http2.patience import Bounds

LOOK_EVERY_S: Final = 1.0

_BACKLOG: Final = 2_048
_HANDSHAKE_S: Final = 10.0
_SHUTDOWN_S: Final = 3.0
"""Seconds that a peer has to say that it closes TLS too; one that never does would hold the end of the port up."""


class Port:
    """A port that is listened on.

    Args:
        server: which listens.
        connections: those that are open.

    Attributes:
        number: of the port.
    """

    def __init__(self, server: asyncio.Server, connections: set[Connection]) -> None:
        self._server = server
        self._connections = connections
        self.number: int = server.sockets[0].getsockname()[1]

    async def end(self, within_s: float) -> None:
        """Take no new connection and no new stream; close once all streams are answered, or the time is up."""
        self._server.close()
        for connection in list(self._connections):
            connection.leave()
        gone = [connection.gone for connection in self._connections]
        if gone:
            await asyncio.wait(gone, timeout=within_s)
        for connection in list(self._connections):
            connection.abort()

    async def look(self) -> None:
        """Look after every connection once."""
        now_s = asyncio.get_running_loop().time()
        for connection in list(self._connections):
            connection.look(now_s)


@asynccontextmanager
async def listening(
    serve: Serve,
    bounds: Bounds,
    *,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    is_shared: bool = False,
) -> AsyncIterator[Port]:
    """Listen until the block is left.

    Args:
        serve: answers a stream.
        bounds: of each connection.
        host: address to listen on.
        port: 0 means any.
        tls: makes TLS of connections; must offer `h2`. None for none.
        is_shared: whether other processes listen on the same port.

    Raises:
        OSError: the port cannot be listened on.
    """
    connections: set[Connection] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(serve, bounds, connections),
        host,
        port,
        ssl=tls,
        backlog=_BACKLOG,
        reuse_port=is_shared or None,
        ssl_handshake_timeout=None if tls is None else _HANDSHAKE_S,
        ssl_shutdown_timeout=None if tls is None else _SHUTDOWN_S,
    )
    opened = Port(server, connections)
    async with background() as tasks:
        tasks.loop("connections", every(LOOK_EVERY_S, opened.look))
        try:
            yield opened
        finally:
            server.close()
            for connection in list(connections):
                connection.abort()
