"""The gRPC door: its methods by name, its port, its bounds; opened and closed by the application.

Rules: sizes, streams and calls are bounded before a method sees them; a client that is silent for long, or pings too
often, is let go. Before it closes, health says so; then no new call is taken, and running ones are answered.

Source: gRPC, "gRPC over HTTP2", for what is answered to what is no call.
"""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from maas_gateway.background import background
from maas_gateway.errors import Misconfigured
from maas_gateway.http2.patience import Bounds
from maas_gateway.http2.port import listening
from maas_gateway.http2.stream import Stream
from maas_gateway.protocols.open_inference.grpc.calls import Calls, Handler
from maas_gateway.protocols.open_inference.grpc.exchange import CallExchange
from maas_gateway.protocols.open_inference.grpc.health import SERVICE as HEALTH
from maas_gateway.protocols.open_inference.grpc.health import Health
from maas_gateway.protocols.open_inference.grpc.methods import Methods
from maas_gateway.protocols.open_inference.grpc.reflection import SERVICES as REFLECTIONS
from maas_gateway.protocols.open_inference.grpc.reflection import Reflection
from maas_gateway.protocols.open_inference.grpc.statuses import Status
from maas_gateway.protocols.open_inference.grpc.stream import METHOD as STREAM
from maas_gateway.protocols.open_inference.grpc.stream import InferStreams
from maas_gateway.web.readiness import Readiness

SERVICE: Final = "inference.GRPCInferenceService"

_MAX_METADATA_BYTES: Final = 16_384


@dataclass(frozen=True, slots=True)
class GRPCBounds:
    """What one gRPC door takes at most.

    Attributes:
        max_message_bytes: of a message, inflated.
        max_calls: calls that run at once, streams included.
        max_streams: of those, streams.
        max_calls_a_connection: calls at once on one connection; a client holds further ones back.
        max_under_way: requests of one stream that are under way at once.
        idle_s: seconds after which a stream ends on which nothing comes, and a connection without calls.
        ping_every_s: seconds of silence after which a client is asked whether it is there; it has 20 to answer.
        least_ping_s: least seconds between a client's own pings.
        drain_s: seconds that running calls have to end when the door closes.
    """

    max_message_bytes: int
    max_calls: int
    max_streams: int
    max_calls_a_connection: int
    max_under_way: int
    idle_s: float
    ping_every_s: float
    least_ping_s: float
    drain_s: float = 20.0


@asynccontextmanager
async def serving(
    calls: Calls,
    methods: Methods,
    bounds: GRPCBounds,
    *,
    host: str,
    port: int,
    readiness: Readiness,
    tls: ssl.SSLContext | None = None,
    is_port_shared: bool = False,
) -> AsyncIterator[int]:
    """Serve gRPC until the block is left, or until the doors close.

    Args:
        calls: the frame that all calls share.
        methods: what answers them.
        bounds: what is taken at most.
        host: address to listen on.
        port: 0 means any.
        readiness: tells when new calls are not welcome any more, and when the doors close.
        tls: makes TLS of connections; None for none.
        is_port_shared: whether other processes serve the same port too.

    Yields:
        The port.

    Raises:
        Misconfigured: the port cannot be listened on.
    """
    streams = InferStreams(calls, methods, max_under_way=bounds.max_under_way, idle_s=bounds.idle_s)
    serve = _Serve(_handlers(calls, methods, readiness, streams), bounds)
    door = listening(serve, _of_connection(bounds), host=host, port=port, tls=tls, is_shared=is_port_shared)
    async with AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(door)
        except OSError as cause:
            raise Misconfigured(f"gRPC cannot listen on {host}:{port}; choose another with grpc.port") from cause

        async def end() -> None:
            await readiness.closing()
            streams.stop()
            await opened.end(bounds.drain_s)

        tasks = await stack.enter_async_context(background())
        tasks.spawn(end())
        try:
            yield opened.number
        finally:
            readiness.close()
            await end()


class _Serve:
    """Answers streams by the method that they call, so many at once."""

    def __init__(self, handlers: Mapping[str, Handler], bounds: GRPCBounds) -> None:
        self._handlers = handlers
        self._max_message_bytes = bounds.max_message_bytes
        self._max_calls = bounds.max_calls
        self._n_calls = 0

    async def __call__(self, stream: Stream) -> None:
        exchange = CallExchange(stream, self._max_message_bytes)
        fault = exchange.fault
        if fault is not None:
            exchange.refuse_http(fault)
            return
        handler = self._handlers.get(exchange.path)
        if handler is None:
            exchange.end(Status.UNIMPLEMENTED, "there is no such method here", ())
        elif self._n_calls >= self._max_calls:
            exchange.end(Status.RESOURCE_EXHAUSTED, "too many calls run at once", ())
        else:
            self._n_calls += 1
            try:
                await handler(exchange)
            finally:
                self._n_calls -= 1


def _of_connection(bounds: GRPCBounds) -> Bounds:
    return Bounds(
        max_streams=bounds.max_calls_a_connection,
        max_header_bytes=_MAX_METADATA_BYTES,
        idle_s=bounds.idle_s,
        ping_every_s=bounds.ping_every_s,
        least_ping_s=bounds.least_ping_s,
    )


def _handlers(calls: Calls, methods: Methods, readiness: Readiness, streams: InferStreams) -> dict[str, Handler]:
    health = Health(calls, (SERVICE, HEALTH), readiness)
    answers = {
        "ServerMetadata": methods.server_metadata,
        "ModelReady": methods.model_ready,
        "ModelMetadata": methods.model_metadata,
        "ModelInfer": methods.infer,
        "ModelConfig": methods.model_configuration,
        "ModelStatistics": methods.model_statistics,
        "RepositoryIndex": methods.repository_index,
        "RepositoryModelLoad": methods.repository_load,
        "RepositoryModelUnload": methods.repository_unload,
    }
    found = {f"/{SERVICE}/{name}": calls.answering(name, answer) for name, answer in answers.items()}
    found[f"/{SERVICE}/{STREAM}"] = calls.streaming(STREAM, streams)
    found[f"/{SERVICE}/ServerLive"] = calls.answering_anyone("ServerLive", health.live)
    found[f"/{SERVICE}/ServerReady"] = calls.answering_anyone("ServerReady", health.ready)
    found[f"/{HEALTH}/Check"] = calls.answering_anyone("Check", health.check)
    found[f"/{HEALTH}/Watch"] = calls.streaming_to_anyone("Watch", health.watch)
    reflection = Reflection((SERVICE, HEALTH, REFLECTIONS[0]))
    for service in REFLECTIONS:
        method = "ServerReflectionInfo"
        found[f"/{service}/{method}"] = calls.streaming(method, reflection)
    return found
