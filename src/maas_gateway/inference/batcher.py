"""Requests to one model, run together while they wait for each other anyway.

Rules:

* one batch of a model runs at a time; what arrives meanwhile is the next one: nobody waits for
  company, and the busier a model is the larger its batches are;
* an idle model starts at the end of the loop's current tick, so that requests that arrived
  together run together;
* who may share is `compatibility`'s rule, whose turn it is `waiting`'s, what is computed `turn`'s;
* a request whose deadline passes gets `DeadlineExceeded` at once, and is not run if it has not been;
* a caller that goes away leaves its line;
* when the last who waited for the running batch has gone, the runtime is told, if it can do something about it.

No task is needed: an executor's future calls back on the loop, and there the next batch is started.
So there is nothing to own, to cancel or to await but `drain`.

Measured on the reference machine (2 cores) with the seed network (Dense 128, 64, 1; 30 inputs), each
client asking again as soon as it is answered; microseconds a request, of the loop's thread in brackets:

* uvloop: 1 client 96 (55), 32 clients 14 (11.5); asyncio's loop: 140 to 220 (80 to 120), and 17 to 21 (14);
  some 2.5 of each are the client's own. With a runtime that does nothing: 80 (51) and 14 (11.5) on
  uvloop; one client pays for the hop to a thread (`threads`), 32 share it;
* started at once instead of at the end of the tick: batches of 16 for 32 clients, 14.5 in place of 12.6 on
  uvloop's thread, 25 in place of 15 on asyncio's, and nothing won for a single client on uvloop;
* a timer for each request: 3 to 5 more (`deadlines`).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from maas_gateway.clock import Deadline
from maas_gateway.errors import DeadlineExceeded, ModelNotReady, Overloaded, SignatureMismatch
from maas_gateway.identifiers import TenantId
from maas_gateway.inference.batch import Arrays
from maas_gateway.inference.compatibility import check_rows, has_rows, key_of
from maas_gateway.inference.deadlines import DeadlineTimer, is_due
from maas_gateway.inference.executor import Executor
from maas_gateway.inference.fairness import FairTime
from maas_gateway.inference.runtimes.runtime import Runtime
from maas_gateway.inference.statistics import Statistics
from maas_gateway.inference.turn import Outcome, Turn, as_failure, late, late_in_line
from maas_gateway.inference.waiting import Charge, Queue, Waiting
from maas_gateway.tensors.inference import InferenceRequest
from maas_gateway.tensors.tensor import Tensor


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What happened to one batch.

    Attributes:
        n_requests: requests in it.
        n_rows: their rows.
        took_s: from the hand-over to the executor until the event loop has the answers.
        failures: one for each request that has no answer, callers that went away included.
    """

    n_requests: int
    n_rows: int
    took_s: float
    failures: tuple[Exception, ...]


class Batcher:
    """The way to one model; lives on one event loop.

    Protects a tenant against another's rows in its batch, line and turn. Not against a model that
    keeps something between calls (`Runtime` rules that out), nor against what the time an answer
    takes tells about how busy a shared model is.
    """

    def __init__(
        self,
        runtime: Runtime,
        executor: Executor,
        *,
        max_rows: int,
        max_queue: int,
        fair_time: FairTime | None = None,
        observe: Callable[[BatchReport], None] | None = None,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        """Start idle.

        Args:
            runtime: used by this batcher only, one call at a time; the owner closes it after `drain`.
            executor: where it runs.
            max_rows: rows given to the runtime at once, at least 1.
            max_queue: requests that may wait, at least 1; those in the running batch do not count.
            fair_time: says whose turn it is; one for all batchers that share an executor.
            observe: called on the event loop after each batch, for metrics and logs.
            interrupt: called on the event loop once nobody waits any more for the batch that runs; returns at once.
        """
        if max_rows < 1 or max_queue < 1:
            raise ValueError("max_rows and max_queue are at least 1")
        self.counts = Statistics()
        self._runtime = runtime
        self._executor = executor
        self._max_rows = max_rows
        self._observe = observe
        self._interrupt = interrupt
        self._has_rows = has_rows(runtime.signature)
        self._n_inputs = len(runtime.signature.inputs)
        self._outputs = {spec.name: (at, spec) for at, spec in enumerate(runtime.signature.outputs)}
        self._queue = Queue(max_queue, None if fair_time is None else fair_time.tag)
        self._running: Sequence[Waiting] = ()
        self._timer = DeadlineTimer(self._expire)
        self._is_started = False
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._took_s = 0.0
        self._began_s = 0.0

    @property
    def n_queued(self) -> int:
        """Requests that wait, those in the running batch not counted."""
        return len(self._queue)

    async def submit(
        self, request: InferenceRequest, tenant: TenantId, deadline: Deadline, charge: Charge | None = None
    ) -> tuple[Tensor, ...]:
        """Wait for the answer to one request.

        Args:
            request: checked against the model's signature; its arrays are not to change meanwhile.
            tenant: whose request it is; it shares batches with no other's.
            deadline: when the caller gets an error instead, whatever the model does.
            charge: called with its rows and its part of the engine's seconds if it is answered.

        Returns:
            The outputs asked for, in that order, or all in the signature's.

        Raises:
            ModelNotReady: the batcher has been drained or closed.
            Overloaded: the queue is full.
            DeadlineExceeded: time ran out.
            SignatureMismatch: an output that the model does not have, or rows that do not add up.
            InvalidRequest: the model cannot compute this input.
            GatewayError: the runtime failed; its error is the cause.
        """
        self._check(request)
        came_s = time.monotonic()
        if came_s >= deadline.at_s:
            raise late_in_line()
        loop = asyncio.get_running_loop()
        waiting = Waiting(request, key_of(request, tenant), deadline, loop.create_future(), charge, came_s)
        refused = self._queue.put(waiting)
        if refused is not None:
            self._refuse(refused, waiting)
        self._timer.watch(deadline)
        if not self._is_started:
            self._is_started = True
            self._idle.clear()
            loop.call_soon(self._start)
        try:
            outputs = await waiting.future
        except asyncio.CancelledError:
            self._forget(waiting)
            raise
        return self._named(request, outputs)

    async def drain(self) -> None:
        """Wait until nothing waits or runs, then take no more requests.

        New ones are taken until then: who was sent here before the owner swapped models is served.
        Bound the wait with `asyncio.timeout`, then `close`.
        """
        while self._is_started:
            await self._idle.wait()
        self.close()

    def close(self) -> None:
        """Take no more requests and fail those that wait; the running batch is answered."""
        self._is_closed = True
        for waiting in list(self._queue):
            self._queue.remove(waiting)
            waiting.fail(ModelNotReady(_CLOSED))
        if not self._running:
            self._timer.cancel()

    def _check(self, request: InferenceRequest) -> None:
        if self._is_closed:
            raise ModelNotReady(_CLOSED)
        if len(request.inputs) != self._n_inputs:
            raise SignatureMismatch(f"expected {self._n_inputs} inputs and got {len(request.inputs)}")
        if self._has_rows:
            check_rows(request)
        for name in request.outputs:
            if name not in self._outputs:
                known = ", ".join(self._outputs)
                raise SignatureMismatch(f"unknown output '{name}'; the model's outputs are: {known}")

    def _named(self, request: InferenceRequest, outputs: Arrays) -> tuple[Tensor, ...]:
        chosen = [self._outputs[name] for name in request.outputs] if request.outputs else self._outputs.values()
        return tuple([Tensor(spec.name, spec.datatype, outputs[at]) for at, spec in chosen])

    def _start(self) -> None:
        """Hand the next batch to the executor, or come to rest."""
        batch = self._queue.take(self._max_rows if self._has_rows else 1)
        self._running = batch
        if not batch:
            self._is_started = False
            self._idle.set()
            if self._is_closed:
                self._timer.cancel()
            return
        turn = Turn(self._runtime, batch, max_rows=self._max_rows, has_rows=self._has_rows)
        self._began_s = time.monotonic()
        try:
            future = self._executor.submit(turn, batch[0].key.tenant)
        except Exception as error:  # noqa: BLE001  the outermost frame of the lane: every caller must hear of it
            asyncio.get_running_loop().call_soon(self._start)
            self._answer(batch, [error] * len(batch), self._began_s, self._began_s)
        else:
            future.add_done_callback(self._collect)

    def _collect(self, future: asyncio.Future[list[Outcome]]) -> None:
        """Start the next batch, then answer the one that has run: the engine need not wait for that."""
        batch, began_s = self._running, self._began_s
        now_s = time.monotonic()
        self._start()
        error = RuntimeError("the executor gave the batch up") if future.cancelled() else future.exception()
        if error is None:
            self._answer(batch, future.result(), began_s, now_s)
        else:
            cause = error if isinstance(error, Exception) else RuntimeError("the executor's thread ended")
            self._answer(batch, [cause] * len(batch), began_s, now_s)

    def _answer(self, batch: Sequence[Waiting], outcomes: Sequence[Outcome], began_s: float, now_s: float) -> None:
        failures: list[Exception] = []
        took_s, failed_came_s, n_failed_rows = now_s - began_s, 0.0, 0
        n_all = sum([waiting.request.n_rows for waiting in batch])
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                failures.append(outcome)
                failed_came_s += waiting.came_s
                n_failed_rows += waiting.request.n_rows
                self.counts.n_expired += isinstance(outcome, DeadlineExceeded) and not waiting.future.done()
                waiting.fail(as_failure(outcome))
            elif not waiting.future.done():
                waiting.future.set_result(outcome)
                if waiting.charge is not None:
                    n_rows = waiting.request.n_rows
                    waiting.charge(n_rows, took_s * n_rows / n_all if n_all else 0.0)
        self._took_s = 0.8 * self._took_s + 0.2 * took_s if self._took_s else took_s
        counts, n_failed = self.counts, len(failures)
        n = len(batch) - n_failed
        came_s = sum([waiting.came_s for waiting in batch]) - failed_came_s
        counts.n_requests += len(batch)
        counts.count_batch(n_all, took_s)
        counts.failed.add(n_failed, n_failed * now_s - failed_came_s)
        counts.answered.add(n, n * now_s - came_s)
        counts.waited.add(n, n * began_s - came_s)
        counts.ran.add(n, n * took_s)
        counts.rows_answered += n_all - n_failed_rows
        counts.last_at_s = now_s
        if self._observe is not None:
            self._observe(BatchReport(len(batch), n_all, took_s, tuple(failures)))

    def _refuse(self, refused: Waiting, newcomer: Waiting) -> None:
        self.counts.n_overloaded += 1
        n_batches = 1 + len(self._queue) // self._max_rows
        wait_s = min(_LONGEST_RETRY_S, max(_SHORTEST_RETRY_S, n_batches * self._took_s))
        error = Overloaded("too many requests wait for this model", retry_after_s=wait_s)
        if refused is newcomer:
            raise error
        refused.fail(error)

    def _forget(self, waiting: Waiting) -> None:
        """Let a caller go that wants no answer any more."""
        self._queue.remove(waiting)
        if waiting.future.done() and not waiting.future.cancelled():
            waiting.future.exception()  # asked for, else asyncio reports it as never retrieved
        self._interrupt_if_unwanted()

    def _expire(self) -> Deadline | None:
        """Fail whoever is late, in line or in the running batch; return the next deadline."""
        first: Deadline | None = None
        running = frozenset(self._running)
        for waiting in [*self._running, *self._queue]:
            if waiting.future.done():
                continue
            if is_due(waiting.deadline):
                self.counts.n_expired += 1
                self._queue.remove(waiting)
                waiting.fail(late() if waiting in running else late_in_line())
            elif first is None or waiting.deadline.at_s < first.at_s:
                first = waiting.deadline
        self._interrupt_if_unwanted()
        return first

    def _interrupt_if_unwanted(self) -> None:
        if self._interrupt is not None and self._running and all(each.future.done() for each in self._running):
            self._interrupt()


_CLOSED = "this model version is being unloaded"
_SHORTEST_RETRY_S = 1.0
_LONGEST_RETRY_S = 30.0
