"""What is kept of callers is bounded, and nothing old outlives a change."""

import asyncio

import pytest

from maas_gateway.memory import Memory

pytestmark = pytest.mark.anyio


async def _answer(value: str | None) -> str | None:
    await asyncio.sleep(0)
    return value


async def test_what_was_found_is_not_asked_again() -> None:
    memory: Memory[str, str | None] = Memory(2)
    assert await memory.find("a", lambda: _answer("1")) == "1"
    assert await memory.find("a", lambda: _answer("2")) == "1"
    assert memory.get("a") == "1"


async def test_what_was_being_found_out_when_all_was_forgotten_is_not_kept() -> None:
    memory: Memory[str, str | None] = Memory(2)
    finding = asyncio.create_task(memory.find("a", lambda: _answer("1")))
    await asyncio.sleep(0)
    memory.forget()
    assert await finding == "1"
    assert memory.get("a") is None


async def test_none_is_not_kept() -> None:
    memory: Memory[str, str | None] = Memory(2)
    assert await memory.find("a", lambda: _answer(None)) is None
    assert await memory.find("a", lambda: _answer("1")) == "1"


async def test_oldest_goes_when_it_is_full() -> None:
    memory: Memory[str, str | None] = Memory(2)
    for key in "abc":
        await memory.find(key, lambda: _answer("x"))
    assert [memory.get(key) for key in "abc"] == [None, "x", "x"]


async def test_one_answer_can_be_dropped() -> None:
    memory: Memory[str, str | None] = Memory(2)
    await memory.find("a", lambda: _answer("1"))
    memory.drop("a")
    memory.drop("never kept")
    assert memory.get("a") is None
