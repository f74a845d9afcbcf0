"""`ModelStreamInfer`: many requests over one call, answered in their order.

Rules: so many requests of a stream are under way at once, and no further one is read until the oldest has been answered
and its answer taken; a request that is refused is answered in the stream, with its `id`, and the stream goes on. The
caller's credential is looked at again with every request: once it counts no more, what is under way is answered and the
stream ends. So it does when nothing comes for a while, and when the gateway stops.

Source: NVIDIA Triton, "ModelStreamInfer" and its error_message; gRPC, "Status codes".
"""

import asyncio
from contextlib import suppress
from typing import Final

from maas_gateway.errors import DeadlineExceeded, GatewayError, Unavailable
from maas_gateway.principal import Principal
from maas_gateway.protocols.open_inference.grpc.calls import Call, Calls
from maas_gateway.protocols.open_inference.grpc.codec import (
    InferMessage,
    in_stream,
    refused_in_stream,
    take_apart,
    wants_final,
)
from maas_gateway.protocols.open_inference.grpc.exchange import CallExchange
from maas_gateway.protocols.open_inference.grpc.methods import Methods
from maas_gateway.protocols.open_inference.grpc.statuses import detail_of
from maas_gateway.web.problems import UNEXPECTED

METHOD: Final = "ModelStreamInfer"


class InferStreams:
    """Answers streams.

    Args:
        calls: the frame that all calls share.
        methods: answers each request.
        max_under_way: requests of one stream that are under way at once.
        idle_s: seconds after which a stream ends on which nothing comes.
    """

    def __init__(self, calls: Calls, methods: Methods, *, max_under_way: int, idle_s: float) -> None:
        self._calls = calls
        self._methods = methods
        self._max_under_way = max_under_way
        self._idle_s = idle_s
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End every stream once what is under way is answered."""
        self._stopping.set()

    async def __call__(self, call: Call, principal: Principal, exchange: CallExchange) -> None:
        """Answer one stream."""
        answers: asyncio.Queue[asyncio.Task[bytes] | None] = asyncio.Queue()
        places = asyncio.Semaphore(self._max_under_way)
        ended: GatewayError | None = None
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(_write(exchange, answers, places))
            try:
                while True:
                    await places.acquire()
                    one = await self._next(call, principal, exchange)
                    if one is None:
                        break
                    answers.put_nowait(group.create_task(self._answer(*one)))
            except GatewayError as error:
                ended = error
            answers.put_nowait(None)
            await writing
        if ended is not None:
            raise ended

    async def _next(
        self, stream: Call, principal: Principal, exchange: CallExchange
    ) -> tuple[Call, Principal, bytes] | None:
        """Read a request and who sends it; None at the stream's end.

        Raises:
            Unauthenticated: the credential does not count any more.
            DeadlineExceeded: nothing came for long.
            Unavailable: the gateway stops.
        """
        message = await self._read(exchange)
        if message is None:
            return None
        call = self._calls.begin(METHOD, exchange)
        call.n_body_bytes = len(message)
        bearer = call.principal = await self._calls.caller(stream)
        if bearer.subject != principal.subject:  # pragma: no cover  a token has one subject
            raise Unavailable("the stream's caller is another one now")
        return call, bearer, message

    async def _read(self, exchange: CallExchange) -> bytes | None:
        reading = asyncio.ensure_future(exchange.read())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            done, _ = await asyncio.wait((reading, stopping), timeout=self._idle_s, return_when=asyncio.FIRST_COMPLETED)
            if reading in done:
                return reading.result()
            if stopping in done:
                raise Unavailable("the gateway stops", retry_after_s=1)
            raise DeadlineExceeded(f"nothing came on this stream for {self._idle_s:g} seconds")
        finally:
            for waiting in (reading, stopping):
                waiting.cancel()
                with suppress(asyncio.CancelledError):
                    await waiting

    async def _answer(self, call: Call, principal: Principal, message: bytes) -> bytes:
        """Return the answer to one request, or why there is none; raises nothing."""
        known: InferMessage | None = None
        try:
            known = take_apart(message)
            is_last_told = wants_final(known)
            answer = await self._methods.infer_of(call, principal, known, is_last_told=is_last_told)
        except GatewayError as error:
            self._calls.refused(call, error)
            return refused_in_stream(detail_of(error), known, call.request_id)
        except Exception:  # noqa: BLE001  the outermost frame of a door
            self._calls.failed(call)
            return refused_in_stream(UNEXPECTED, known, call.request_id)
        self._calls.answered(call)
        return in_stream(answer)


async def _write(
    exchange: CallExchange, answers: "asyncio.Queue[asyncio.Task[bytes] | None]", places: asyncio.Semaphore
) -> None:
    while (answer := await answers.get()) is not None:
        await exchange.write(await answer)
        places.release()
