"""The frame around a prediction door: identity, errors in the door's dialect, counts, records.

Rules: the caller is known before the handler runs; whatever the handler raises becomes the door's
own error body; what is not ours becomes a fixed sentence and a log line; no stack trace leaves.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from maas_gateway.audit.log import AuditLog
from maas_gateway.auth.authenticator import Authenticator
from maas_gateway.errors import GatewayError
from maas_gateway.principal import Principal
from maas_gateway.telemetry.metrics import Metrics
from maas_gateway.web.authentication import authenticate
from maas_gateway.web.exchange import ClientGone, Exchange
from maas_gateway.web.problems import UNEXPECTED, headers_of
from maas_gateway.web.refusals import refusal


@dataclass(frozen=True, slots=True)
class PredictionLimits:
    """How much and how long one prediction may be.

    Attributes:
        max_body_bytes: largest body read.
        deadline_s: seconds after which it is given up.
    """

    max_body_bytes: int
    deadline_s: float


class Dialect(Protocol):
    """How a door says what went wrong."""

    def status(self, error: GatewayError) -> int:
        """Return the HTTP status that this protocol gives the error."""
        ...

    def write(self, detail: str, request_id: str) -> bytes:
        """Return the error body."""
        ...


Handler = Callable[[Exchange, Principal], Awaitable[None]]
OpenHandler = Callable[[Exchange], Awaitable[None]]


class Door:
    """What the prediction doors share.

    Args:
        name: for the metrics.
        dialect: how it says what went wrong.
        authenticator: decides who calls.
        audit: where refusals are recorded.
        metrics: where requests are counted.
    """

    def __init__(
        self, name: str, dialect: Dialect, authenticator: Authenticator, *, audit: AuditLog, metrics: Metrics
    ) -> None:
        self._name = name
        self._dialect = dialect
        self._authenticator = authenticator
        self._audit = audit
        self._metrics = metrics
        self._log = structlog.get_logger()

    async def serve(self, exchange: Exchange, handler: Handler) -> None:
        """Answer a request whose caller must be known."""
        principal: Principal | None = None
        try:
            principal = await authenticate(self._authenticator, exchange.headers, takes_basic=True)
            await handler(exchange, principal)
        except ClientGone:
            return
        except GatewayError as error:
            await self._refuse(exchange, error, principal)
        except Exception:  # noqa: BLE001  the outermost frame of a door
            await self._fail(exchange)
        self._metrics.request(self._name, exchange.status, time.perf_counter() - exchange.began_s)

    async def serve_anyone(self, exchange: Exchange, handler: OpenHandler) -> None:
        """Answer a request that needs no credential."""
        try:
            await handler(exchange)
        except GatewayError as error:
            await self._refuse(exchange, error, None)
        except Exception:  # noqa: BLE001  the outermost frame of a door
            await self._fail(exchange)
        self._metrics.request(self._name, exchange.status, time.perf_counter() - exchange.began_s)

    async def _refuse(self, exchange: Exchange, error: GatewayError, principal: Principal | None) -> None:
        body = self._dialect.write(error.detail, exchange.request_id)
        await exchange.answer(self._dialect.status(error), body, headers_of(error))
        record = refusal(error, principal, f"{exchange.method} {exchange.path}" if principal else self._name)
        if record is not None:
            self._audit.write_soon(*record)

    async def _fail(self, exchange: Exchange) -> None:
        self._log.exception("request_failed", request_id=exchange.request_id, door=self._name)
        if not exchange.status:
            await exchange.answer(500, self._dialect.write(UNEXPECTED, exchange.request_id))
