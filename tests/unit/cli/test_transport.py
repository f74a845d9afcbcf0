"""An answer's head and body leave together, and nothing is held back for longer than a tick."""

import asyncio
from typing import Any

import pytest

from maas_gateway.cli.transport import JoiningTransport

pytestmark = pytest.mark.anyio


class _Recorded(asyncio.Transport):
    """A transport that keeps what it is given, call by call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[bytes] = []
        self.is_closed = False

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.calls.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        assert not self.is_closed
        self.calls.append(b"".join(list_of_data))

    def close(self) -> None:
        self.is_closed = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return f"the {name}"


def _joining() -> tuple[JoiningTransport, _Recorded]:
    recorded = _Recorded()
    return JoiningTransport(recorded, asyncio.get_running_loop()), recorded


async def test_head_and_body_leave_in_one_write() -> None:
    joining, recorded = _joining()
    joining.write(b"head")
    joining.write(b"body")
    assert recorded.calls == [b"headbody"]
    await asyncio.sleep(0)
    assert recorded.calls == [b"headbody"]


async def test_piece_without_another_leaves_at_the_end_of_the_tick() -> None:
    joining, recorded = _joining()
    joining.write(b"HTTP/1.1 100 Continue")
    assert recorded.calls == []
    await asyncio.sleep(0)
    assert recorded.calls == [b"HTTP/1.1 100 Continue"]


async def test_pieces_leave_in_order_however_many_there_are() -> None:
    joining, recorded = _joining()
    for piece in b"abcde":
        joining.write(bytes([piece]))
    await asyncio.sleep(0)
    assert b"".join(recorded.calls) == b"abcde"


async def test_close_sends_what_is_held_first() -> None:
    joining, recorded = _joining()
    joining.write(b"head")
    joining.close()
    assert recorded.calls == [b"head"]
    assert recorded.is_closed
    await asyncio.sleep(0)
    assert recorded.calls == [b"head"]


async def test_everything_else_is_the_transports_own() -> None:
    joining, _ = _joining()
    assert joining.get_extra_info("peername") == "the peername"
