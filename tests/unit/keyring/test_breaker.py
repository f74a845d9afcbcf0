"""The guard around a root-key holder: deadlines, when calls are refused, and when they are tried again."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected, Conflict, GatewayError, KeyHolderUnavailable
from maas_gateway.keyring.breaker import GuardedHolder
from maas_gateway.keyring.holder import Reference, RootKeyHolder
from simulators.clock import ManualClock

pytestmark = pytest.mark.anyio

KEY = KeyMaterial.generate()
DOWN = KeyHolderUnavailable("down", retry_after_s=5)
PAUSE_S = 5.0
DEADLINE_S = 0.05


class ScriptedHolder:
    """A holder that does what it is told to: answers, raises, or hangs until it may go on."""

    kind = "scripted"

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.calls: list[tuple[object, ...]] = []
        self.is_closed = False

    async def create(self, name: str) -> Reference:
        await self._act("create", name)
        return {"name": name}

    async def wrap(self, reference: Reference, key: KeyMaterial, associated_data: bytes) -> bytes:
        await self._act("wrap", reference, key, associated_data)
        return b"wrapped"

    async def unwrap(self, reference: Reference, wrapped: bytes, associated_data: bytes) -> KeyMaterial:
        await self._act("unwrap", reference, wrapped, associated_data)
        return KEY

    async def destroy(self, reference: Reference) -> None:
        await self._act("destroy", reference)

    async def close(self) -> None:
        await self._act("close")
        self.is_closed = True

    async def _act(self, *call: object) -> None:
        self.calls.append(call)
        failure = self.failure
        await self.gate.wait()
        if failure is not None:
            raise failure


class Rig:
    """A guarded holder, its clock and what it guards."""

    def __init__(self, *, deadline_s: float = DEADLINE_S) -> None:
        self.clock = ManualClock()
        self.inner = ScriptedHolder()
        self.holder = GuardedHolder(self.inner, self.clock, deadline_s=deadline_s, pause_s=PAUSE_S)

    async def ask(self) -> KeyMaterial:
        return await self.holder.unwrap({"name": "1"}, b"wrapped", b"bound")

    async def fail(self, n: int = 1, failure: BaseException = DOWN) -> None:
        self.inner.failure = failure
        for _ in range(n):
            with pytest.raises(type(failure)):
                await self.ask()
        self.inner.failure = None

    async def is_refused(self) -> KeyHolderUnavailable | None:
        """Tell whether a call is refused without the holder being asked."""
        n_before = len(self.inner.calls)
        try:
            await self.ask()
        except KeyHolderUnavailable as refusal:
            return refusal if len(self.inner.calls) == n_before else None
        return None


def test_a_guarded_holder_is_a_holder_of_the_same_kind() -> None:
    rig = Rig()
    guarded: RootKeyHolder = rig.holder
    assert guarded.kind == "scripted"


async def test_every_call_goes_through_with_what_it_was_given() -> None:
    rig = Rig()
    assert await rig.holder.create("one") == {"name": "one"}
    assert await rig.holder.wrap({"name": "1"}, KEY, b"bound") == b"wrapped"
    assert await rig.holder.unwrap({"name": "1"}, b"wrapped", b"bound") == KEY
    await rig.holder.destroy({"name": "1"})
    await rig.holder.close()
    assert rig.inner.calls == [
        ("create", "one"),
        ("wrap", {"name": "1"}, KEY, b"bound"),
        ("unwrap", {"name": "1"}, b"wrapped", b"bound"),
        ("destroy", {"name": "1"}),
        ("close",),
    ]


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda holder: holder.create("one"), id="create"),
        pytest.param(lambda holder: holder.wrap({}, KEY, b""), id="wrap"),
        pytest.param(lambda holder: holder.unwrap({}, b"", b""), id="unwrap"),
        pytest.param(lambda holder: holder.destroy({}), id="destroy"),
    ],
)
async def test_a_call_that_takes_too_long_is_given_up(call: Callable[[RootKeyHolder], Awaitable[object]]) -> None:
    rig = Rig()
    rig.inner.gate.clear()
    with pytest.raises(KeyHolderUnavailable, match="in time") as refused:
        await call(rig.holder)
    assert refused.value.retry_after_s == 5


async def test_calls_are_refused_at_once_after_three_in_a_row_went_unanswered() -> None:
    rig = Rig()
    await rig.fail(2)
    assert await rig.is_refused() is None  # and this answer begins the count anew
    await rig.fail(3)
    refusal = await rig.is_refused()
    assert refusal is not None
    assert refusal.retry_after_s == PAUSE_S
    rig.clock.move(2)
    refusal = await rig.is_refused()
    assert refusal is not None
    assert refusal.retry_after_s == PAUSE_S - 2


async def test_calls_that_take_too_long_open_the_breaker_too() -> None:
    rig = Rig()
    rig.inner.gate.clear()
    for _ in range(3):
        with pytest.raises(KeyHolderUnavailable, match="in time"):
            await rig.ask()
    assert await rig.is_refused() is not None


@pytest.mark.parametrize("answer", [CiphertextRejected("altered"), Conflict("only one")], ids=["rejected", "conflict"])
async def test_a_refusal_of_what_was_asked_is_an_answer(answer: GatewayError) -> None:
    rig = Rig()
    await rig.fail(2)
    await rig.fail(9, answer)
    await rig.fail(2)
    assert await rig.is_refused() is None
    await rig.fail(3)
    rig.clock.move(PAUSE_S)
    await rig.fail(1, answer)  # the probe
    assert await rig.is_refused() is None


async def test_a_root_key_that_is_disabled_keeps_no_other_from_opening() -> None:
    rig = Rig()
    await rig.fail(3)
    assert await rig.is_refused() is not None
    assert await rig.holder.unwrap({"name": "2"}, b"wrapped", b"bound") == KEY
    assert await rig.holder.wrap({"name": "2"}, KEY, b"bound") == b"wrapped"
    assert await rig.holder.create("three") == {"name": "three"}
    with pytest.raises(KeyHolderUnavailable, match="lately"):
        await rig.holder.wrap({"name": "1"}, KEY, b"bound")


async def test_an_error_that_is_not_ours_counts_neither_way() -> None:
    rig = Rig()
    await rig.fail(2)
    await rig.fail(1, RuntimeError("a bug"))
    await rig.fail(1)
    assert await rig.is_refused() is not None


async def test_an_answered_probe_closes_the_breaker() -> None:
    rig = Rig()
    await rig.fail(3)
    rig.clock.move(PAUSE_S)
    assert await rig.ask() == KEY
    await rig.fail(2)  # the count began anew
    assert await rig.is_refused() is None


async def test_a_probe_that_is_not_answered_opens_it_again_for_as_long() -> None:
    rig = Rig()
    await rig.fail(3)
    rig.clock.move(PAUSE_S)
    await rig.fail(1)
    refusal = await rig.is_refused()
    assert refusal is not None
    assert refusal.retry_after_s == PAUSE_S
    rig.clock.move(PAUSE_S)
    assert await rig.ask() == KEY


async def test_one_probe_goes_through_and_the_others_are_refused_meanwhile() -> None:
    rig = Rig(deadline_s=5)
    await rig.fail(3)
    rig.clock.move(PAUSE_S)
    rig.inner.gate.clear()
    n_before = len(rig.inner.calls)
    async with asyncio.TaskGroup() as tasks:
        probe = tasks.create_task(rig.ask())
        await asyncio.sleep(0)
        for _ in range(5):
            refusal = await rig.is_refused()
            assert refusal is not None
            assert refusal.retry_after_s is not None
            assert refusal.retry_after_s > 0
        rig.inner.gate.set()
    assert probe.result() == KEY
    assert len(rig.inner.calls) == n_before + 1
    assert await rig.is_refused() is None


@pytest.mark.parametrize("ends", ["cancelled", "in a bug"])
async def test_a_probe_that_says_nothing_makes_room_for_the_next(ends: str) -> None:
    rig = Rig(deadline_s=5)
    await rig.fail(3)
    rig.clock.move(PAUSE_S)
    rig.inner.gate.clear()
    if ends == "cancelled":
        probe = asyncio.create_task(rig.ask())
        await asyncio.sleep(0)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
    else:
        rig.inner.gate.set()
        await rig.fail(1, RuntimeError("a bug"))
    rig.inner.gate.set()
    assert await rig.is_refused() is None


async def test_stragglers_from_before_neither_close_the_breaker_nor_prolong_the_pause() -> None:
    rig = Rig(deadline_s=5)
    rig.inner.gate.clear()
    answered = asyncio.create_task(rig.ask())
    await asyncio.sleep(0)
    rig.inner.failure = DOWN
    unanswered = [asyncio.create_task(rig.ask()) for _ in range(4)]
    await asyncio.sleep(0)
    rig.inner.failure = None
    quick = ScriptedHolder()
    rig.holder._holder = quick
    quick.failure = DOWN
    for _ in range(3):
        with pytest.raises(KeyHolderUnavailable):
            await rig.ask()
    rig.clock.move(PAUSE_S - 1)
    rig.inner.gate.set()
    assert await answered == KEY
    assert all(
        isinstance(end, KeyHolderUnavailable) for end in await asyncio.gather(*unanswered, return_exceptions=True)
    )
    with pytest.raises(KeyHolderUnavailable, match="lately") as refused:
        await rig.ask()
    assert refused.value.retry_after_s == pytest.approx(1)


async def test_closing_reaches_a_holder_whose_breaker_is_open() -> None:
    rig = Rig()
    await rig.fail(3)
    await rig.holder.close()
    assert rig.inner.is_closed


async def test_closing_does_not_wait_for_a_holder_that_hangs() -> None:
    rig = Rig()
    rig.inner.gate.clear()
    await rig.holder.close()
    assert not rig.inner.is_closed
