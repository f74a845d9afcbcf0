"""A confined child that stays: its calls, its bounds, its ends."""

import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maas_gateway.confinement.failure import ChildFailed, FailureKind
from maas_gateway.confinement.limits import Limits
from maas_gateway.confinement.resident import Reply, ResidentChild

pytestmark = pytest.mark.thorough

CHILDREN = Path(__file__).parent / "children"
SMALL = Limits(memory_bytes=1 << 29, cpu_s=0, niceness=3)
MOST = 1_000_000

Start = Callable[..., ResidentChild]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[ResidentChild] = []

    def begin(**arguments: Any) -> ResidentChild:
        child = ResidentChild("odd_resident", limits=SMALL, arguments=arguments, search_paths=[CHILDREN])
        started.append(child)
        return child

    yield begin
    for child in started:
        child.close()


@pytest.fixture
def child(start: Start) -> ResidentChild:
    begun = start()
    assert begun.begin([b"ab", b"", b"c"], within_s=20).payload == b"abc"
    return begun


def ask(child: ResidentChild, act: str, payload: bytes = b"", *, within_s: float = 20, **more: Any) -> Reply:
    return child.call({"act": act}, [payload], within_s=within_s, max_answer_bytes=more.pop("most", MOST))


def fails(child: ResidentChild, act: str, **more: Any) -> ChildFailed:
    with pytest.raises(ChildFailed) as caught:
        ask(child, act, **more)
    return caught.value


def has_ended(pid: int, within_s: float = 5) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("n_bytes", [0, 1, 16_384, 70_000, 3_000_001])
def test_a_call_is_answered_whatever_its_size(child: ResidentChild, n_bytes: int) -> None:
    body = os.urandom(n_bytes)
    for _ in range(3):
        reply = ask(child, "echo", body, most=n_bytes)
        assert (reply.header, reply.payload) == ({"act": "echo"}, body)


def test_what_it_prints_never_makes_it_wait(child: ResidentChild) -> None:
    for _ in range(3):
        assert ask(child, "shout").header == {}


def test_it_is_bound_and_has_nothing_of_ours(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAAS_SECRET", "swordfish")
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    os.set_inheritable(writing, True)
    try:
        child = start()
        child.begin([], within_s=20)
        seen: dict[str, Any] = dict(ask(child, "look").header)
    finally:
        os.close(reading)
        os.close(writing)
    assert {"memory", "file-size", "open-files", "core"} <= set(child.in_force)
    assert "cpu" not in child.in_force
    assert "swordfish" not in seen["environment"] + seen["command"]
    assert "MAAS" not in seen["environment"]
    assert seen["descriptors"] == [0, 1, 2, 3, 4, 5]
    assert (seen["is_session_leader"], seen["is_dumpable"]) == (True, 0)
    assert seen["niceness"] == os.nice(0) + 3
    limits = seen["limits"]
    assert limits["Max address space"] == str(1 << 29)
    assert (limits["Max file size"], limits["Max core file size"]) == ("0", "0")
    assert limits["Max cpu time"] == _text(resource.getrlimit(resource.RLIMIT_CPU)[0])


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        pytest.param("crash", FailureKind.CRASHED, id="a segmentation fault"),
        pytest.param("leave", FailureKind.PROTOCOL, id="leaving"),
        pytest.param("half", FailureKind.PROTOCOL, id="half an answer"),
        pytest.param("eat", FailureKind.OUT_OF_MEMORY, id="the end of memory"),
        pytest.param("garbage", FailureKind.PROTOCOL, id="bytes that are no frame"),
        pytest.param("data-first", FailureKind.PROTOCOL, id="bytes before a header"),
        pytest.param("started-again", FailureKind.PROTOCOL, id="a second beginning"),
        pytest.param("list", FailureKind.PROTOCOL, id="a header that is no object"),
        pytest.param("empty-data", FailureKind.PROTOCOL, id="a piece of nothing"),
        pytest.param("end-with-bytes", FailureKind.PROTOCOL, id="an end that holds bytes"),
        pytest.param("long-frame", FailureKind.PROTOCOL, id="a frame that is too long"),
        pytest.param("much", FailureKind.PROTOCOL, id="an answer that is too long"),
        pytest.param("chat", FailureKind.PROTOCOL, id="two answers"),
    ],
)
def test_one_that_misbehaves_is_ended_and_says_so_from_then_on(
    child: ResidentChild, act: str, kind: FailureKind
) -> None:
    failure = fails(child, act)
    assert (failure.kind, failure.has_started) == (kind, True)
    assert "secret" not in failure.detail
    assert child.has_ended
    assert has_ended(child.pid)
    again = fails(child, "echo")
    assert (again.kind, again.detail) == (failure.kind, failure.detail)


def test_one_that_speaks_between_calls_is_ended(child: ResidentChild) -> None:
    ask(child, "chat-later")
    poll = select.poll()
    poll.register(child._stdout, select.POLLIN)
    assert poll.poll(5_000)
    assert fails(child, "echo").detail == "the child sent a frame out of turn"


@pytest.mark.parametrize("act", ["spin", "sleep"])
def test_a_call_that_takes_too_long_ends_it(child: ResidentChild, act: str) -> None:
    began = time.monotonic()
    assert fails(child, act, within_s=0.3).kind is FailureKind.TIMED_OUT
    assert time.monotonic() - began < 5
    assert has_ended(child.pid)


def test_a_call_is_hurried_by_another_thread_and_only_that_call(child: ResidentChild) -> None:
    child.hurry(0)
    assert ask(child, "echo", b"x").payload == b"x"
    timer = threading.Timer(0.2, child.hurry, [0.1])
    timer.start()
    began = time.monotonic()
    assert fails(child, "spin", within_s=60).kind is FailureKind.TIMED_OUT
    assert time.monotonic() - began < 10
    timer.join()
    child.hurry(1)


def test_one_that_does_not_read_holds_nobody(start: Start) -> None:
    child = start(hangs=True)
    with pytest.raises(ChildFailed) as caught:
        child.begin([bytes(20_000_000)], within_s=2)
    assert caught.value.kind is FailureKind.TIMED_OUT
    assert has_ended(child.pid)


def test_closing_ends_it_with_what_it_started_also_during_a_call(child: ResidentChild) -> None:
    helper = int(str(ask(child, "helper").header["helper"]))
    caught: list[ChildFailed] = []
    calling = threading.Thread(target=lambda: caught.append(fails(child, "spin")))
    calling.start()
    time.sleep(0.2)
    child.close()
    child.close()
    calling.join(10)
    assert caught
    assert has_ended(child.pid)
    assert has_ended(helper)
    assert fails(child, "echo").kind is caught[0].kind
    child.hurry(1)


def test_one_killed_between_calls_is_known_to_have_ended(child: ResidentChild) -> None:
    os.kill(child.pid, signal.SIGKILL)
    poll = select.poll()
    poll.register(child.ended_fd, select.POLLIN)
    assert poll.poll(5_000)
    assert child.has_ended
    assert fails(child, "echo").kind is FailureKind.OUT_OF_MEMORY  # as the kernel kills who takes too much


def test_an_error_of_the_request_is_the_callers_and_ends_it(child: ResidentChild) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"ab"
        raise ConnectionResetError("the store went away")

    with pytest.raises(ConnectionResetError, match="the store went away"):
        child.call({"act": "echo"}, pieces(), within_s=5, max_answer_bytes=MOST)
    assert child.has_ended


def test_it_ends_with_the_process_that_started_it() -> None:
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from maas_gateway.confinement.limits import Limits\n"
        "from maas_gateway.confinement.resident import ResidentChild\n"
        "child = ResidentChild('odd_resident', limits=Limits(memory_bytes=1 << 29, cpu_s=0), arguments={},\n"
        "    search_paths=[Path(sys.argv[1])])\n"
        "child.begin([], within_s=20)\n"
        "print(child.pid, flush=True)\n"
        "child.call({'act': 'spin'}, [], within_s=60, max_answer_bytes=1)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(CHILDREN)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.2)
        assert not has_ended(pid, 0.1)
        parent.kill()
    assert has_ended(pid)


def _text(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)
