"""One turn of a model: a batch computed on an executor's thread.

Rules:

* a request with more rows than fit runs alone, in pieces;
* a batch that fails is run again request by request, so that one caller's input that the model
  cannot compute does not fail the others;
* whoever has gone or is late when the turn begins, or before its own second try or next piece, is left out.
"""

import time
from collections.abc import Sequence

from maas_gateway.errors import DeadlineExceeded, GatewayError, NeverBegun
from maas_gateway.inference.batch import Arrays, arrays_of, check_rows, chunks, join, split, stack
from maas_gateway.inference.runtimes.runtime import Runtime
from maas_gateway.inference.waiting import Waiting

Outcome = Arrays | Exception
"""All outputs of one request, or why there are none."""


class Turn:
    """A batch that waits to be computed; called once, on any thread."""

    def __init__(self, runtime: Runtime, batch: Sequence[Waiting], *, max_rows: int, has_rows: bool) -> None:
        """Take a batch.

        Args:
            runtime: not used by anyone else during the call.
            batch: at least one request, all with one key; just one if not `has_rows`.
            max_rows: rows the runtime is given at once, at least 1.
            has_rows: whether the model's rows can be told apart.
        """
        self._runtime = runtime
        self._batch = batch
        self._max_rows = max_rows
        self._has_rows = has_rows

    def __call__(self) -> list[Outcome]:
        """Return what became of each request, in the batch's order; raises nothing of the runtime's."""
        now_s = time.monotonic()
        wanted = [each for each in self._batch if each.deadline.at_s > now_s and not each.future.done()]
        outcomes = dict(zip(wanted, self._together(wanted), strict=True))
        return [outcomes[each] if each in outcomes else late_in_line() for each in self._batch]

    def _together(self, batch: Sequence[Waiting]) -> list[Outcome]:
        if len(batch) > 1:
            requests = [waiting.request for waiting in batch]
            n_rows = [request.n_rows for request in requests]
            try:
                return list(split(self._run(stack(requests), sum(n_rows)), n_rows))
            except Exception:  # noqa: BLE001, S110  whatever it was: the second try tells whose it is
                pass
        return [self._alone(waiting) for waiting in batch]

    def _alone(self, waiting: Waiting) -> Outcome:
        try:
            _check_wanted(waiting)
            inputs = arrays_of(waiting.request)
            n_rows = waiting.request.n_rows
            if not self._has_rows or n_rows <= self._max_rows:
                return self._run(inputs, n_rows)
            parts = []
            for piece in chunks(inputs, self._max_rows):
                _check_wanted(waiting)
                parts.append(self._run(piece, len(piece[0])))
            return join(parts)
        except Exception as error:  # noqa: BLE001  the outermost frame of the work; the caller gets it
            return as_failure(error)

    def _run(self, inputs: Arrays, n_rows: int) -> Arrays:
        outputs = self._runtime.run(inputs)
        if len(outputs) != len(self._runtime.signature.outputs):
            raise ValueError(f"the runtime gave {len(outputs)} outputs")
        if self._has_rows:
            check_rows(outputs, n_rows)
        return outputs


def as_failure(cause: Exception) -> GatewayError:
    """Return an error that may be shown to the caller, with the real one as its cause."""
    if isinstance(cause, GatewayError):
        return cause
    failure = GatewayError("the model failed to compute an answer")
    failure.__cause__ = cause
    return failure


def late() -> DeadlineExceeded:
    """Return the error of a request whose time ran out."""
    return DeadlineExceeded("the deadline of the request passed before the model answered")


def late_in_line() -> NeverBegun:
    """Return the error of a request whose time ran out before its turn."""
    return NeverBegun("the deadline of the request passed before the model began with it")


def _check_wanted(waiting: Waiting) -> None:
    # A future is asked here from another thread than its own: `done` only reads.
    if waiting.future.done() or waiting.deadline.left_s() <= 0:
        raise late()
