"""A client of the gRPC door, as grpcio makes one, with messages of our own descriptions.

async with running_grpc(tmp_path) as world, calling(world) as ask:
    answer = await ask("ModelInfer", a_request(demo), token=token)
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from builders.gateways import World, running_gateway
from builders.models import DemoModel
from maas_gateway.protocols.open_inference.grpc.messages import message_class, written

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@dataclass
class Caller:
    """Asks over one connection."""

    channel: grpc.aio.Channel

    async def __call__(
        self,
        method: str,
        fields: Mapping[str, Any] | bytes = b"",
        *,
        metadata: Sequence[tuple[str, str]] = (),
        **how: Any,
    ) -> Any:
        """Ask a method of the inference service; return its answer as a message.

        Args:
            method: its name.
            fields: of the request, by their JSON names, or the message as it is sent.
            metadata: what goes with it.
            how: further arguments of the call.
        """
        sent = fields if isinstance(fields, bytes) else written(f"inference.{method}Request", fields)
        answer = await self.channel.unary_unary(f"/{SERVICE}/{method}")(sent, metadata=tuple(metadata), **how)
        return message_class(f"inference.{method}Response").FromString(answer)

    def stream(self, metadata: Sequence[tuple[str, str]]) -> Any:
        """Begin a stream of requests to infer."""
        return self.channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            response_deserializer=message_class("inference.ModelStreamInferResponse").FromString,
        )(metadata=tuple(metadata))


@asynccontextmanager
async def running_grpc(folder: Path, **overrides: Any) -> AsyncIterator[World]:
    """Run a fresh gateway whose gRPC door has a port of its own."""
    grpc_settings = {"is_enabled": True, **overrides.pop("grpc", {})}
    async with running_gateway(
        folder, http={"port": 0, **overrides.pop("http", {})}, grpc=grpc_settings, **overrides
    ) as world:
        yield world


@asynccontextmanager
async def calling(world: World) -> AsyncIterator[Caller]:
    """Yield a caller on a connection of its own."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{world.app.state.grpc_port}", options=UNLIMITED) as channel:
        yield Caller(channel)


def a_request(demo: DemoModel, n_rows: int = 1, model: str = "bc", **more: Any) -> dict[str, Any]:
    """Return a request of rows as typed contents."""
    values = list(demo.seed.example) * n_rows
    tensor = {"name": "measurements", "datatype": "FP32", "shape": [n_rows, 30], "contents": {"fp32_contents": values}}
    return {"model_name": model, "inputs": [tensor], **more}
