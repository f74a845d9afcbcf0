"""gRPC's own health checks: of the gateway, never of a tenant's models; they need no token.

Rules: the whole server and each of its services answer SERVING until the gateway begins to stop; a service that is not
here is NOT_FOUND to who checks and SERVICE_UNKNOWN to who watches.

Source: gRPC, "GRPC Health Checking Protocol".
"""

from collections.abc import Iterable
from typing import Final

from maas_gateway.errors import NotFound
from maas_gateway.protocols.open_inference.grpc.calls import Call, Calls
from maas_gateway.protocols.open_inference.grpc.exchange import CallExchange
from maas_gateway.protocols.open_inference.grpc.messages import parsed, written
from maas_gateway.web.readiness import Readiness

SERVICE: Final = "grpc.health.v1.Health"

_REQUEST: Final = "grpc.health.v1.HealthCheckRequest"
_RESPONSE: Final = "grpc.health.v1.HealthCheckResponse"


class Health:
    """Tells whether the gateway answers.

    Args:
        calls: the frame that all calls share.
        services: names of the services of this port.
        readiness: whether new calls are welcome.
    """

    def __init__(self, calls: Calls, services: Iterable[str], readiness: Readiness) -> None:
        self._calls = calls
        self._services = frozenset(["", *services])
        self._readiness = readiness

    async def check(self, call: Call, exchange: CallExchange) -> bytes:
        """Answer `Check`."""
        asked = parsed(_REQUEST, await self._calls.message(call, exchange))
        if asked.service not in self._services:
            raise NotFound("there is no such service here")
        return self._status()

    async def watch(self, call: Call, exchange: CallExchange) -> None:
        """Answer `Watch`: now, and once more when the gateway begins to stop."""
        asked = parsed(_REQUEST, await self._calls.message(call, exchange))
        if asked.service not in self._services:
            await exchange.write(written(_RESPONSE, {"status": "SERVICE_UNKNOWN"}))
        else:
            await exchange.write(self._status())
        await self._readiness.leaving()
        if asked.service in self._services:
            await exchange.write(self._status())

    async def live(self, _call: Call, _exchange: CallExchange) -> bytes:
        """Answer `ServerLive`."""
        return written("inference.ServerLiveResponse", {"live": True})

    async def ready(self, _call: Call, _exchange: CallExchange) -> bytes:
        """Answer `ServerReady`."""
        return written("inference.ServerReadyResponse", {"ready": self._readiness.is_ready})

    def _status(self) -> bytes:
        return written(_RESPONSE, {"status": "SERVING" if self._readiness.is_ready else "NOT_SERVING"})
