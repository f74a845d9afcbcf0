"""uvicorn as this gateway runs it: the application's own TLS, an end in order, one process or several.

Rules: on SIGTERM readiness is false first, for `drain_s`, while everything is answered; then the ports close, and what is
under way has `FINISH_S` to end. A second SIGTERM changes nothing; SIGINT, a person's at a terminal, does not wait. The
process that supervises several workers lets go of the port with them, or new connections would wait there for nobody.
"""

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from types import FrameType
from typing import Any, Final

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.lifespan.on import LifespanOn
from uvicorn.supervisors import Multiprocess

from maas_gateway.app import GatewayApp, create_app
from maas_gateway.cli.transport import JoiningProtocol
from maas_gateway.settings import Settings
from maas_gateway.web.readiness import Readiness

FINISH_S: Final = 20
"""Seconds that requests under way have once the ports are closed."""


class WorkerConfig(uvicorn.Config):
    """uvicorn's configuration of a worker.

    Args:
        settings: the gateway's.
        application: what it serves; None makes it in the worker, of the configuration that the environment names.
    """

    def __init__(self, settings: Settings, application: GatewayApp | None = None) -> None:
        http = settings.http
        super().__init__(
            application or "maas_gateway.app:create_app",
            host=http.host,
            port=http.port,
            workers=http.workers,
            loop="uvloop",
            http=JoiningProtocol,
            ws="none",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=bool(http.trusted_proxies),
            forwarded_allow_ips=list(http.trusted_proxies),
            timeout_keep_alive=http.keep_alive_s,
            timeout_graceful_shutdown=FINISH_S,
        )
        self.drain_s = http.drain_s

    def load(self) -> None:
        """Make what the worker runs with."""
        super().load()
        self.lifespan_class = DrainingLifespan

    def load_app(self) -> GatewayApp:
        """Return the application, having taken its TLS for the port."""
        self.application = self.app if isinstance(self.app, GatewayApp) else create_app()
        self.ssl = None if self.application.tls is None else self.application.tls.context
        return self.application


class DrainingLifespan(LifespanOn):
    """Once the worker has started, has its end begin with readiness, and full collections pass over what is there."""

    config: WorkerConfig

    async def startup(self) -> None:
        """Start the application."""
        await super().startup()
        if not self.should_exit:
            # What is here now stays: without this a full collection walks all of it (0.17 s, twice in 12,800 predictions).
            gc.collect()
            gc.freeze()
            drain_on_signals(self.config.application.readiness, self.config.drain_s)


class Supervisor(Multiprocess):
    """uvicorn's process that starts workers and ends them."""

    def terminate_all(self) -> None:
        """End every worker, and let go of the port that they listen on."""
        super().terminate_all()
        for listener in self.sockets:
            listener.close()


def drain_on_signals(readiness: Readiness, drain_s: float) -> None:
    """Put the end in order before what the signals do already; from the main thread, in the running loop.

    Args:
        readiness: what is told first.
        drain_s: seconds from there until the ports close.
    """
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int) -> None:
        readiness.close()
        handler = handlers[signal.Signals(number)]
        assert callable(handler)
        handler(number, None)

    def leave(number: int) -> None:
        if readiness.is_ready:
            readiness.leave()
            loop.call_later(drain_s, stop, number)

    def hear(number: int, _frame: FrameType | None) -> Any:
        return loop.call_soon_threadsafe(leave if number == signal.SIGTERM else stop, number)

    for number in handlers:
        signal.signal(number, hear)


def run_workers(config: WorkerConfig) -> None:
    """Serve until told to stop; leave with 3 if it cannot start."""
    if config.workers > 1:
        listener: socket.socket = config.bind_socket()
        Supervisor(config, sockets=[listener]).run()
        return
    server = uvicorn.Server(config)
    with contextlib.suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)
