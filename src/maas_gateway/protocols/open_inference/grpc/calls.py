"""The frame around a call: identity, errors as statuses, counts, records; what `web.door` is to HTTP.

Rules: the caller is known before its message is taken, and the message is read within the call's deadline; whatever a
method raises becomes a status with a sentence and the request's id; what is not ours becomes a fixed sentence and a log
line. A caller that goes away cancels what is done for it. Calls without a caller and streams each have a bound of their
own, so that neither takes the places of others.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import structlog

from maas_gateway.audit.log import AuditLog
from maas_gateway.auth.authenticator import Authenticator
from maas_gateway.clock import Deadline
from maas_gateway.errors import DeadlineExceeded, GatewayError, MalformedBody, Overloaded
from maas_gateway.http2.headers import Headers
from maas_gateway.http2.stream import PeerGone
from maas_gateway.principal import Principal
from maas_gateway.protocols.open_inference.grpc.exchange import CallExchange
from maas_gateway.protocols.open_inference.grpc.statuses import (
    REQUEST_ID,
    Status,
    code_of,
    detail_of,
    trailers_of,
)
from maas_gateway.telemetry.metrics import Metrics
from maas_gateway.web.authentication import authenticate
from maas_gateway.web.exchange import request_id_of
from maas_gateway.web.problems import UNEXPECTED
from maas_gateway.web.refusals import refusal

DOOR: Final = "grpc"
"""For the metrics."""
MAX_OPEN: Final = 256
"""Calls without a caller that run at once."""

_MAX_ABOUT: Final = 160


@dataclass(slots=True)
class Call:
    """A call being answered.

    Attributes:
        method: its name.
        headers: its metadata, as HTTP headers are.
        request_id: the caller's own if it is sound, else a new one.
        deadline: when an answer is of no use any more.
        n_body_bytes: size of its message, 0 until that is read.
        about: the model that it names, for the record of a refusal.
        principal: who calls, once that is known.
        began_s: when it came, on the clock of `time.perf_counter`.
    """

    method: str
    headers: Headers
    request_id: str
    deadline: Deadline
    n_body_bytes: int = 0
    about: str = ""
    principal: Principal | None = None
    began_s: float = field(default_factory=time.perf_counter)


Answer = Callable[[Call, Principal, bytes], Awaitable[bytes]]
OpenAnswer = Callable[[Call, CallExchange], Awaitable[bytes]]
StreamAnswer = Callable[[Call, Principal, CallExchange], Awaitable[None]]
OpenStream = Callable[[Call, CallExchange], Awaitable[None]]
Handler = Callable[[CallExchange], Awaitable[None]]


class Calls:
    """What the methods of this port share.

    Args:
        authenticator: decides who calls.
        audit: where refusals are recorded.
        metrics: where calls are counted.
        deadline_s: seconds after which any call but a stream is given up.
        max_streams: streams that are open at once.
    """

    def __init__(
        self, authenticator: Authenticator, *, audit: AuditLog, metrics: Metrics, deadline_s: float, max_streams: int
    ) -> None:
        self._authenticator = authenticator
        self._audit = audit
        self._metrics = metrics
        self._deadline_s = deadline_s
        self._max_streams = max_streams
        self._n_streams = 0
        self._n_open = 0
        self._log = structlog.get_logger()

    def answering(self, method: str, answer: Answer) -> Handler:
        """Return the handler of a method whose caller must be known."""

        async def work(call: Call, exchange: CallExchange) -> None:
            principal = await self.caller(call)
            answered = await answer(call, principal, await self.message(call, exchange))
            await exchange.answer(answered, ((REQUEST_ID, call.request_id),))

        return self._framed(method, work)

    def answering_anyone(self, method: str, answer: OpenAnswer) -> Handler:
        """Return the handler of a method that needs no credential."""

        async def work(call: Call, exchange: CallExchange) -> None:
            with self._as_open():
                await exchange.answer(await answer(call, exchange), ((REQUEST_ID, call.request_id),))

        return self._framed(method, work)

    def streaming(self, method: str, stream: StreamAnswer) -> Handler:
        """Return the handler of a stream whose caller must be known."""

        async def work(call: Call, exchange: CallExchange) -> None:
            principal = await self.caller(call)
            with self._as_stream():
                await stream(call, principal, exchange)
            exchange.end(Status.OK, "", ((REQUEST_ID, call.request_id),))

        return self._framed(method, work)

    def streaming_to_anyone(self, method: str, stream: OpenStream) -> Handler:
        """Return the handler of a stream that needs no credential."""

        async def work(call: Call, exchange: CallExchange) -> None:
            with self._as_open():
                await stream(call, exchange)
            exchange.end(Status.OK, "", ((REQUEST_ID, call.request_id),))

        return self._framed(method, work)

    def begin(self, method: str, exchange: CallExchange) -> Call:
        """Return a call that has just come, or one more of its stream."""
        headers = exchange.metadata
        return Call(method, headers, request_id_of(headers), Deadline.after(self._deadline_s))

    async def caller(self, call: Call) -> Principal:
        """Return who calls.

        Raises:
            Unauthenticated: no credential, or none that counts.
        """
        principal = await authenticate(self._authenticator, call.headers, takes_basic=True)
        call.principal = principal
        return principal

    async def message(self, call: Call, exchange: CallExchange) -> bytes:
        """Read the one message of a call.

        Raises:
            MalformedBody: the call ended without one.
            PayloadTooLarge: it is longer than is taken.
            DeadlineExceeded: it did not arrive in time.
        """
        message = exchange.read_now()  # the usual one is there already, and costs no timer
        if message is None:
            try:
                async with asyncio.timeout(max(0.0, call.deadline.left_s())):
                    message = await exchange.read()
            except TimeoutError:
                raise DeadlineExceeded("the message did not arrive in time") from None
        if message is None:
            raise MalformedBody("the call ended without a message")
        call.n_body_bytes = len(message)
        return message

    def refused(self, call: Call, error: GatewayError) -> None:
        """Count and record what was refused."""
        principal = call.principal
        self._metrics.request(DOOR, code_of(error), time.perf_counter() - call.began_s)
        what = f"{DOOR} {call.method} {call.about[:_MAX_ABOUT]}".rstrip() if principal else DOOR
        record = refusal(error, principal, what)
        if record is not None:
            self._audit.write_soon(*record)

    def answered(self, call: Call) -> None:
        """Count what was answered."""
        self._metrics.request(DOOR, Status.OK, time.perf_counter() - call.began_s)

    def failed(self, call: Call) -> None:
        """Count and log what is not ours; called where it was caught."""
        self._log.exception("request_failed", request_id=call.request_id, door=DOOR)
        self._metrics.request(DOOR, Status.INTERNAL, time.perf_counter() - call.began_s)

    def _framed(self, method: str, work: Callable[[Call, CallExchange], Awaitable[None]]) -> Handler:
        async def run(exchange: CallExchange) -> None:
            call = self.begin(method, exchange)
            try:
                left_s = exchange.left_s()
                if left_s is not None:
                    call.deadline = call.deadline.sooner(left_s)
                await work(call, exchange)
            except GatewayError as error:
                self.refused(call, error)
                exchange.end(code_of(error), detail_of(error), trailers_of(error, call.request_id))
            except (asyncio.CancelledError, PeerGone):
                self._metrics.request(DOOR, Status.CANCELLED, time.perf_counter() - call.began_s)
                raise
            except Exception:  # noqa: BLE001  the outermost frame of a door
                self.failed(call)
                exchange.end(Status.INTERNAL, UNEXPECTED, ((REQUEST_ID, call.request_id),))
            else:
                self.answered(call)

        return run

    @contextmanager
    def _as_stream(self) -> Iterator[None]:
        if self._n_streams >= self._max_streams:
            raise Overloaded("too many streams are open", retry_after_s=1)
        self._n_streams += 1
        try:
            yield
        finally:
            self._n_streams -= 1

    @contextmanager
    def _as_open(self) -> Iterator[None]:
        if self._n_open >= MAX_OPEN:
            raise Overloaded("too many calls without a credential run", retry_after_s=1)
        self._n_open += 1
        try:
            yield
        finally:
            self._n_open -= 1
