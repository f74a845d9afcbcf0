import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_gateway.clock import Deadline
from maas_gateway.identifiers import TenantId
from maas_gateway.inference.compatibility import key_of
from maas_gateway.inference.waiting import Queue, Waiting
from maas_gateway.tensors.inference import InferenceRequest
from maas_gateway.tensors.tensor import Tensor

TENANTS = [TenantId(UUID(int=number)) for number in range(1, 5)]


@pytest.fixture(scope="module", autouse=True)
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Futures want a loop; nothing runs on it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


def waiting(tenant: int = 0, n_rows: int = 1, width: int = 2, priority: int = 0) -> Waiting:
    request = InferenceRequest((Tensor.of("x", np.zeros((n_rows, width), np.float32)),), n_rows, priority=priority)
    return Waiting(request, key_of(request, TENANTS[tenant]), Deadline.after(60), asyncio.Future())


def filled(*members: Waiting, max_length: int = 100) -> Queue:
    queue = Queue(max_length)
    for member in members:
        assert queue.put(member) is None
    return queue


def test_batch_is_the_head_and_those_behind_it_that_fit() -> None:
    members = [waiting(n_rows=count) for count in (2, 1, 3, 1)]
    queue = filled(*members)
    assert queue.take(4) == members[:2]
    assert queue.take(4) == members[2:]
    assert queue.take(4) == []
    assert len(queue) == 0


def test_request_larger_than_a_batch_is_taken_alone() -> None:
    members = [waiting(n_rows=1), waiting(n_rows=50), waiting(n_rows=1)]
    queue = filled(*members)
    assert [queue.take(4) for _ in range(3)] == [[member] for member in members]


def test_requests_with_a_priority_go_first_and_those_of_one_priority_in_their_order() -> None:
    members = [waiting(priority=priority) for priority in (0, 3, 1, 3, 0, 2**64 - 1, 1)]
    queue = filled(*members)
    assert queue.take(100) == [members[at] for at in (2, 6, 1, 3, 5, 0, 4)]


def test_priority_is_none_over_another_tenant() -> None:
    others = [waiting(0), waiting(0)]
    queue = filled(*others, waiting(1, priority=1))
    assert queue.take(1) == others[:1]


def test_tenants_take_turns_whatever_the_length_of_their_lines() -> None:
    flood = [waiting(0) for _ in range(50)]
    late = waiting(1)
    queue = filled(*flood, late)
    assert queue.take(4) == flood[:4]
    assert queue.take(4) == [late]
    assert queue.take(4) == flood[4:8]


def test_tenant_with_many_forms_gets_no_more_turns_than_one_with_one() -> None:
    many = [waiting(0, width=width) for width in range(1, 6)]
    one = [waiting(1) for _ in range(3)]
    queue = filled(*many, *one)
    assert [queue.take(1)[0].key.tenant for _ in range(6)] == [TENANTS[0], TENANTS[1]] * 3


def test_full_queue_refuses_the_newcomer_of_the_tenant_that_fills_it() -> None:
    queue = filled(waiting(0), waiting(0), waiting(1), max_length=3)
    newcomer = waiting(0)
    assert queue.put(newcomer) is newcomer
    assert len(queue) == 3


def test_full_queue_makes_room_for_another_tenant_until_both_have_as_many() -> None:
    mine = [waiting(0) for _ in range(4)]
    queue = filled(*mine, max_length=4)
    theirs = [waiting(1), waiting(1), waiting(1)]
    assert queue.put(theirs[0]) is mine[3]
    assert queue.put(theirs[1]) is mine[2]
    assert queue.put(theirs[2]) is theirs[2]
    assert set(queue) == {*mine[:2], *theirs[:2]}


def test_full_queue_does_not_swap_one_tenants_excess_for_anothers() -> None:
    queue = filled(*[waiting(0) for _ in range(3)], waiting(1), waiting(1), max_length=5)
    newcomer = waiting(1)
    assert queue.put(newcomer) is newcomer


def test_request_that_is_done_is_not_taken() -> None:
    members = [waiting() for _ in range(4)]
    queue = filled(*members)
    members[0].future.cancel()
    members[2].future.cancel()
    assert queue.take(10) == [members[1], members[3]]
    assert len(queue) == 0
    queue = filled(gone := waiting(), other := waiting(1))
    gone.future.cancel()
    assert queue.take(10) == [other]


def test_remove_is_harmless_for_one_that_has_left() -> None:
    member, other = waiting(), waiting()
    queue = filled(member, other)
    queue.remove(member)
    queue.remove(member)
    assert list(queue) == [other]
    assert len(queue) == 1
    queue.remove(other)
    queue.remove(other)
    assert queue.take(1) == []


@given(st.data())
def test_queue_loses_none_doubles_none_mixes_none_and_keeps_each_lines_order(data: st.DataObject) -> None:
    queue = Queue(data.draw(st.integers(1, 12)))
    chance = random.Random(data.draw(st.integers()))
    inside: list[Waiting] = []
    max_rows = data.draw(st.integers(1, 6))
    for _ in range(data.draw(st.integers(1, 80))):
        act = chance.random()
        if act < 0.6:
            member = waiting(chance.randrange(3), chance.randrange(1, 4), chance.randrange(1, 3))
            inside.append(member)
            refused = queue.put(member)
            if refused is not None:
                inside.remove(refused)
        elif act < 0.75 and inside:
            queue.remove(inside.pop(chance.randrange(len(inside))))
        else:
            batch = queue.take(max_rows)
            assert bool(batch) == bool(inside)
            if batch:
                assert len({member.key for member in batch}) == 1
                assert len(batch) == 1 or sum(member.request.n_rows for member in batch) <= max_rows
                same_line = [member for member in inside if member.key == batch[0].key]
                assert batch == same_line[: len(batch)]
                inside = [member for member in inside if member not in batch]
        assert len(queue) == len(inside)
        assert Counter(queue) == Counter(inside)
