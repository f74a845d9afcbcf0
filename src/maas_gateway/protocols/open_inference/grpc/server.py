"""The gRPC door: its methods by name, its port, its bounds; opened and closed by the application.

Rules: sizes, streams and calls are bounded before anything of ours sees them; a client that is silent for long, or
pings too often, is let go. Before it closes, health says so; then no new call is taken, and running ones are answered.

Source: gRPC, "Keepalive User Guide for gRPC Core"; `grpc_types.h` for the names of arguments.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import grpc

from maas_gateway.background import background
from maas_gateway.errors import Misconfigured
from maas_gateway.protocols.open_inference.grpc.calls import Calls
from maas_gateway.protocols.open_inference.grpc.health import SERVICE as HEALTH
from maas_gateway.protocols.open_inference.grpc.health import Health
from maas_gateway.protocols.open_inference.grpc.methods import Methods
from maas_gateway.protocols.open_inference.grpc.reflection import SERVICES as REFLECTIONS
from maas_gateway.protocols.open_inference.grpc.reflection import Reflection
from maas_gateway.protocols.open_inference.grpc.stream import METHOD as STREAM
from maas_gateway.protocols.open_inference.grpc.stream import InferStreams
from maas_gateway.web.readiness import Readiness

SERVICE: Final = "inference.GRPCInferenceService"

_MS_PER_S: Final = 1_000
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
    address: str,
    readiness: Readiness,
    credentials: grpc.ServerCredentials | None = None,
    is_port_shared: bool = False,
) -> AsyncIterator[int]:
    """Serve gRPC until the block is left, or until the doors close.

    Args:
        calls: the frame that all calls share.
        methods: what answers them.
        bounds: what is taken at most.
        address: `host:port`; port 0 means any.
        readiness: tells when new calls are not welcome any more, and when the doors close.
        credentials: of TLS; None for none.
        is_port_shared: whether other processes serve the same port too.

    Yields:
        The port.

    Raises:
        Misconfigured: the port cannot be listened on.
    """
    health = Health(calls, (SERVICE, HEALTH), readiness)
    streams = InferStreams(calls, methods, max_under_way=bounds.max_under_way, idle_s=bounds.idle_s)
    handlers = _handlers(calls, methods, health, streams)
    server = grpc.aio.server(
        handlers=(_ByName(handlers),),
        options=_options(bounds, is_port_shared=is_port_shared),
        maximum_concurrent_rpcs=bounds.max_calls,
    )
    port = _listened(server, address, credentials)
    await server.start()

    async def end() -> None:
        await readiness.closing()
        streams.stop()
        await server.stop(bounds.drain_s)

    async with background() as tasks:
        tasks.spawn(end())
        try:
            yield port
        finally:
            readiness.close()
            await end()


def _listened(server: Any, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as cause:
        raise Misconfigured(f"gRPC cannot listen on {address}; choose another with grpc.port") from cause


class _ByName(grpc.GenericRpcHandler):  # type: ignore[misc]  # the library has no types
    def __init__(self, handlers: Mapping[str, Any]) -> None:
        self._handlers = handlers

    def service(self, handler_call_details: Any) -> Any:
        return self._handlers.get(handler_call_details.method)


def _handlers(calls: Calls, methods: Methods, health: Health, streams: InferStreams) -> dict[str, Any]:
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


def _options(bounds: GRPCBounds, *, is_port_shared: bool) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", int(is_port_shared)),
        ("grpc.max_receive_message_length", bounds.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", _MAX_METADATA_BYTES),
        ("grpc.max_concurrent_streams", bounds.max_calls_a_connection),
        ("grpc.max_connection_idle_ms", round(bounds.idle_s * _MS_PER_S)),
        ("grpc.keepalive_time_ms", round(bounds.ping_every_s * _MS_PER_S)),
        ("grpc.http2.min_ping_interval_without_data_ms", round(bounds.least_ping_s * _MS_PER_S)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", round(bounds.least_ping_s * _MS_PER_S)),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
