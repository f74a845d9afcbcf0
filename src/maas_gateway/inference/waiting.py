"""Requests that wait for their turn, and whose turn it is.

Rules:

* whose turn it is `fairness` says; a tenant with a long line delays another by at most one batch;
* a tenant's requests that may share a batch stand in one line, first come first served; its lines
  take turns too;
* in a line a request with a priority goes before those with a later one or none;
* a batch is the head of a line and those behind it whose rows still fit;
* when all places are taken, the newest of the tenant with most requests waiting has to go, unless
  the newcomer's tenant has as many: one tenant cannot keep the others out.

Source: B. Suter et al., "Buffer management schemes for supporting TCP in gigabit routers with
per-flow queueing", IEEE JSAC 17(6), 1999: longest queue drop.
"""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from maas_gateway.clock import Deadline
from maas_gateway.identifiers import TenantId
from maas_gateway.inference.batch import Arrays
from maas_gateway.inference.compatibility import BatchKey, Form
from maas_gateway.tensors.inference import InferenceRequest

Charge: TypeAlias = Callable[[int, float], None]


@dataclass(slots=True, eq=False)  # not frozen: made for each request, in a third of the time
class Waiting:
    """One request in line or in the running batch; equal only to itself, not to be changed.

    Attributes:
        request: what is asked.
        key: whom it may share a batch with.
        deadline: when its answer is of no use any more.
        future: gets all outputs, or the error; done also when the caller has gone.
        charge: told of an answer's rows and of its part of the engine's seconds, before the caller has it.
        came_s: when it came, on the monotonic clock.
    """

    request: InferenceRequest
    key: BatchKey
    deadline: Deadline
    future: asyncio.Future[Arrays]
    charge: Charge | None = None
    came_s: float = 0.0

    def fail(self, error: Exception) -> None:
        """Give the caller an error, unless it has an answer or has gone."""
        if not self.future.done():
            self.future.set_exception(error)


class Queue:
    """The requests that wait for one model."""

    def __init__(self, max_length: int, tag: Callable[[TenantId], float] | None = None) -> None:
        """Start empty.

        Args:
            max_length: how many requests may wait, at least 1.
            tag: who of those that wait has the least is next; without it, or where two have the same, tenants take
                turns.
        """
        self._max_length = max_length
        self._tag = tag
        self._tenants: OrderedDict[TenantId, _Lines] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Waiting]:
        """Go over all who wait; the queue must not change meanwhile."""
        for lines in self._tenants.values():
            for line in lines.by_form.values():
                yield from line

    def put(self, waiting: Waiting) -> Waiting | None:
        """Let a request stand in line.

        Returns:
            The one that has no place: the newcomer, or another that had to leave; None if all have.
        """
        tenant = waiting.key.tenant
        refused = self._make_room(tenant) if self._length >= self._max_length else None
        if self._length >= self._max_length:
            return waiting
        lines = self._tenants.get(tenant)
        if lines is None:
            lines = self._tenants[tenant] = _Lines()
        lines.put(waiting)
        self._length += 1
        return refused

    def take(self, max_rows: int) -> list[Waiting]:
        """Take the next batch out of its line.

        Args:
            max_rows: rows in a batch; the first request is taken even if it has more.

        Returns:
            Requests with one `BatchKey`, none of them done; empty if nobody waits.
        """
        while self._tenants:
            tenant = self._next()
            lines = self._tenants.pop(tenant)
            batch, n_left = lines.take(max_rows)
            self._length -= n_left
            if lines.by_form:
                self._tenants[tenant] = lines
            if batch:
                return batch
        return []

    def remove(self, waiting: Waiting) -> None:
        """Let a request leave its line, if it still stands there."""
        tenant = waiting.key.tenant
        lines = self._tenants.get(tenant)
        if lines is not None and lines.remove(waiting):
            self._length -= 1
            if not lines.by_form:
                del self._tenants[tenant]

    def _next(self) -> TenantId:
        if self._tag is None or len(self._tenants) == 1:
            return next(iter(self._tenants))
        return min(self._tenants, key=self._tag)

    def _make_room(self, newcomer: TenantId) -> Waiting | None:
        own = self._tenants.get(newcomer)
        longest = max(self._tenants.values(), key=_Lines.__len__)
        if len(longest) <= (len(own) if own is not None else 0) + 1:
            return None
        newest = longest.newest()
        self.remove(newest)
        return newest


class _Lines:
    """One tenant's lines, by the form that may share a batch; the first has the next turn."""

    __slots__ = ("_length", "by_form")

    def __init__(self) -> None:
        self.by_form: OrderedDict[Form, deque[Waiting]] = OrderedDict()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def put(self, waiting: Waiting) -> None:
        line = self.by_form.get(waiting.key.form)
        if line is None:
            line = self.by_form[waiting.key.form] = deque()
        if waiting.request.priority:
            rank = _rank(waiting)
            line.insert(sum(1 for each in line if _rank(each) <= rank), waiting)
        else:
            line.append(waiting)
        self._length += 1

    def take(self, max_rows: int) -> tuple[list[Waiting], int]:
        """Return a batch and how many have left: those done already leave with it."""
        form, line = self.by_form.popitem(last=False)
        batch: list[Waiting] = []
        n_left = n_rows = 0
        while line:
            head = line[0]
            if not head.future.done():
                n_rows += head.request.n_rows
                if batch and n_rows > max_rows:
                    break
                batch.append(head)
            line.popleft()
            n_left += 1
        if line:
            self.by_form[form] = line
        self._length -= n_left
        return batch, n_left

    def remove(self, waiting: Waiting) -> bool:
        line = self.by_form.get(waiting.key.form)
        if line is None or waiting not in line:
            return False
        line.remove(waiting)
        self._length -= 1
        if not line:
            del self.by_form[waiting.key.form]
        return True

    def newest(self) -> Waiting:
        """Return the last of the longest line."""
        return max(self.by_form.values(), key=len)[-1]


def _rank(waiting: Waiting) -> float:
    return waiting.request.priority or math.inf
