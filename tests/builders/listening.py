"""A running gateway behind a real port of this machine, spoken to as `serve` has it spoken to."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from maas_gateway.cli.transport import JoiningProtocol

STARTED_WITHIN_S = 10.0


@asynccontextmanager
async def listening(app: Any, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Serve an application whose lifespan runs already, with TLS if a context is given; return its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(app, http=JoiningProtocol, ws="none", lifespan="off", log_config=None, access_log=False)
        if context is not None:
            config.ssl_context_factory = lambda _config, _default: context
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve([listener]))
        async with asyncio.timeout(STARTED_WITHIN_S):
            while not server.started:  # noqa: ASYNC110  the server has no event for it
                await asyncio.sleep(0.005)
        try:
            yield f"{'http' if context is None else 'https'}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving
