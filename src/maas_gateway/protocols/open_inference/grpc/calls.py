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
from typing import Any, Final, TypeVar

import grpc
import structlog

from maas_gateway.audit.log import AuditLog
from maas_gateway.auth.authenticator import Authenticator
from maas_gateway.clock import Deadline
from maas_gateway.errors import DeadlineExceeded, GatewayError, MalformedBody, Overloaded
from maas_gateway.principal import Principal
from maas_gateway.protocols.open_inference.grpc.statuses import (
    REQUEST_ID,
    code_of,
    detail_of,
    number_of,
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
_OK: Final = number_of(grpc.StatusCode.OK)
_CANCELLED: Final = number_of(grpc.StatusCode.CANCELLED)
_INTERNAL: Final = number_of(grpc.StatusCode.INTERNAL)

T = TypeVar("T")
Context = Any
"""grpc.aio's `ServicerContext`; the library has no types."""
Headers = list[tuple[bytes, bytes]]


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
OpenAnswer = Callable[[Call, Context], Awaitable[bytes]]
Stream = Callable[[Call, Principal, Context], Awaitable[None]]
OpenStream = Callable[[Call, Context], Awaitable[None]]


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

    def answering(self, method: str, answer: Answer) -> Any:
        """Return gRPC's handler of a method whose caller must be known."""

        async def work(call: Call, context: Context) -> bytes:
            principal = await self.caller(call)
            return await answer(call, principal, await self.message(call, context))

        # As a stream of requests, so that the library leaves the message where it is until we ask for it.
        return grpc.stream_unary_rpc_method_handler(self._framed(method, work))

    def answering_anyone(self, method: str, answer: OpenAnswer) -> Any:
        """Return gRPC's handler of a method that needs no credential."""

        async def work(call: Call, context: Context) -> bytes:
            with self._as_open():
                return await answer(call, context)

        return grpc.stream_unary_rpc_method_handler(self._framed(method, work))

    def streaming(self, method: str, stream: Stream) -> Any:
        """Return gRPC's handler of a stream whose caller must be known."""

        async def work(call: Call, context: Context) -> None:
            principal = await self.caller(call)
            with self._as_stream():
                await stream(call, principal, context)

        return grpc.stream_stream_rpc_method_handler(self._framed(method, work))

    def streaming_to_anyone(self, method: str, stream: OpenStream) -> Any:
        """Return gRPC's handler of a stream that needs no credential."""

        async def work(call: Call, context: Context) -> None:
            with self._as_open():
                await stream(call, context)

        return grpc.stream_stream_rpc_method_handler(self._framed(method, work))

    def begin(self, method: str, context: Context) -> Call:
        """Return a call that has just come."""
        headers = [
            (name.encode("latin-1"), value if isinstance(value, bytes) else value.encode("latin-1", "replace"))
            for name, value in context.invocation_metadata()
        ]
        deadline = Deadline.after(self._deadline_s)
        left_s = context.time_remaining()
        return Call(method, headers, request_id_of(headers), deadline if left_s is None else deadline.sooner(left_s))

    async def caller(self, call: Call) -> Principal:
        """Return who calls.

        Raises:
            Unauthenticated: no credential, or none that counts.
        """
        principal = await authenticate(self._authenticator, call.headers, takes_basic=True)
        call.principal = principal
        return principal

    async def message(self, call: Call, context: Context, *, within_s: float | None = None) -> bytes:
        """Read the one message of a call, or the next of a stream.

        Raises:
            MalformedBody: the call ended without one.
            DeadlineExceeded: it did not arrive in time.
        """
        try:
            async with asyncio.timeout(max(0.0, call.deadline.left_s()) if within_s is None else within_s):
                message = await context.read()
        except TimeoutError:
            raise DeadlineExceeded("the message did not arrive in time") from None
        if message is grpc.aio.EOF:
            raise MalformedBody("the call ended without a message")
        call.n_body_bytes = len(message)
        return bytes(message)

    def refused(self, call: Call, error: GatewayError) -> None:
        """Count and record what was refused."""
        principal = call.principal
        self._metrics.request(DOOR, number_of(code_of(error)), time.perf_counter() - call.began_s)
        what = f"{DOOR} {call.method} {call.about[:_MAX_ABOUT]}".rstrip() if principal else DOOR
        record = refusal(error, principal, what)
        if record is not None:
            self._audit.write_soon(*record)

    def answered(self, call: Call) -> None:
        """Count what was answered."""
        self._metrics.request(DOOR, _OK, time.perf_counter() - call.began_s)

    def failed(self, call: Call) -> None:
        """Count and log what is not ours; called where it was caught."""
        self._log.exception("request_failed", request_id=call.request_id, door=DOOR)
        self._metrics.request(DOOR, _INTERNAL, time.perf_counter() - call.began_s)

    def _framed(self, method: str, work: Callable[[Call, Context], Awaitable[T]]) -> Callable[[Any, Context], Any]:
        async def run(_: Any, context: Context) -> T:
            call = self.begin(method, context)
            try:
                done = await work(call, context)
            except GatewayError as error:
                self.refused(call, error)
                await context.abort(code_of(error), detail_of(error), trailers_of(error, call.request_id))
                raise
            except asyncio.CancelledError:
                self._metrics.request(DOOR, _CANCELLED, time.perf_counter() - call.began_s)
                raise
            except Exception:
                self.failed(call)
                await context.abort(grpc.StatusCode.INTERNAL, UNEXPECTED, ((REQUEST_ID, call.request_id),))
                raise
            context.set_trailing_metadata(((REQUEST_ID, call.request_id),))
            self.answered(call)
            return done

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
