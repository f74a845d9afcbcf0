"""A confined child: what it is given, what it may do, and how each of its failures is told."""

import asyncio
import ctypes
import os
import socket
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import uvloop

from maas_gateway.confinement.child import run_child
from maas_gateway.confinement.conversation import ChildAnswer, ChildEvent, ChildGone, _first_cause
from maas_gateway.confinement.failure import ChildFailed, FailureKind
from maas_gateway.confinement.limits import Limits

pytestmark = pytest.mark.thorough

CHILDREN = Path(__file__).parent / "children"
SMALL = Limits(memory_bytes=1 << 29, cpu_s=20)


def run(act: str, *, request: Any = (), deadline_s: float = 20.0, limits: Limits = SMALL, **more: Any) -> ChildAnswer:
    loop = more.pop("loop", asyncio)
    arguments = {"act": act, **more.pop("arguments", {})}
    return loop.run(  # type: ignore[no-any-return]
        run_child(
            "odd_child",
            request=request,
            limits=limits,
            deadline_s=deadline_s,
            arguments=arguments,
            search_paths=[CHILDREN],
            **more,
        )
    )


def fails(act: str, **more: Any) -> ChildFailed:
    with pytest.raises(ChildFailed) as caught:
        run(act, **more)
    return caught.value


def test_child_answers_what_it_was_asked_and_prints_do_not_corrupt_it() -> None:
    events: list[ChildEvent] = []
    body = os.urandom(3_000_001)
    answer = run("echo", request=[body[:10], b"", body[10:]], on_progress=events.append)
    assert answer.header == {"n_bytes": len(body)}
    assert answer.payload == body[::-1]
    assert [event.fields for event in events] == [{"step": 0}, {"step": 1}, {"step": 2}]
    assert {"memory", "cpu", "file-size", "open-files", "core"} <= set(answer.in_force)


def test_child_reads_an_asynchronous_request() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"ab", b"c"):
            await asyncio.sleep(0)
            yield piece

    assert run("echo", request=pieces()).payload == b"cba"


def test_sink_takes_the_payload_as_it_arrives_and_nothing_is_kept() -> None:
    taken: list[bytes] = []

    async def take(piece: bytes) -> None:
        taken.append(piece)

    body = os.urandom(3_000_001)
    answer = run("reflect", request=[body], sink=take)
    assert (answer.header, answer.payload) == ({}, b"")
    assert b"".join(taken) == body
    assert max(len(piece) for piece in taken) <= 1 << 20


def test_an_error_of_the_sink_reaches_the_caller_as_it_is_and_ends_the_child() -> None:
    async def take(_: bytes) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        run("reflect", request=[bytes(3_000_000)], sink=take)


def test_child_may_answer_before_it_has_read_everything() -> None:
    assert run("answer-without-reading", request=[bytes(20_000_000)]).header == {"refused": "too long"}


def test_an_error_of_the_request_reaches_the_caller_as_it_is() -> None:
    def pieces() -> Iterable[bytes]:
        yield b"ab"
        raise ConnectionResetError("the store went away")

    with pytest.raises(ConnectionResetError, match="the store went away"):
        run("echo", request=pieces())


@pytest.mark.parametrize(
    ("act", "kind", "more"),
    [
        pytest.param("crash", FailureKind.CRASHED, {}, id="a segmentation fault is a crash"),
        pytest.param("raise", FailureKind.CRASHED, {}, id="an exception is a crash"),
        pytest.param("leave", FailureKind.PROTOCOL, {}, id="leaving without an answer breaks the protocol"),
        pytest.param("half", FailureKind.PROTOCOL, {}, id="half an answer breaks the protocol"),
        pytest.param("eat", FailureKind.OUT_OF_MEMORY, {}, id="Python's allocations are bounded"),
        pytest.param("eat-natively", FailureKind.OUT_OF_MEMORY, {}, id="a failed allocation in C++ is told apart"),
        pytest.param("garbage", FailureKind.PROTOCOL, {}, id="bytes that are no frame break the protocol"),
        pytest.param("broken-json", FailureKind.PROTOCOL, {}, id="a header that is no object breaks the protocol"),
        pytest.param("out-of-turn", FailureKind.PROTOCOL, {}, id="a frame out of turn breaks the protocol"),
        pytest.param("chatter", FailureKind.PROTOCOL, {}, id="progress without end breaks the protocol"),
        pytest.param(
            "answer-much",
            FailureKind.PROTOCOL,
            {"max_answer_bytes": 4_000_000},
            id="an answer larger than allowed breaks the protocol",
        ),
        pytest.param(
            "spin",
            FailureKind.TIMED_OUT,
            {"limits": Limits(memory_bytes=1 << 29, cpu_s=1)},
            id="processor time is bounded",
        ),
    ],
)
def test_a_child_that_fails_is_told_by_kind(act: str, kind: FailureKind, more: dict[str, Any]) -> None:
    failure = fails(act, **more)
    assert failure.kind is kind
    assert "secret" not in failure.detail
    assert "/" not in failure.detail


def test_what_a_child_printed_is_kept_for_the_log_only() -> None:
    failure = fails("crash")
    assert "secret words on stderr" in failure.stderr_tail
    assert len(failure.stderr_tail) <= 4096


def test_a_child_that_hangs_is_killed_with_what_it_started() -> None:
    events: list[ChildEvent] = []
    began = time.monotonic()
    failure = fails("hang", deadline_s=2.5, on_progress=events.append)
    assert failure.kind is FailureKind.TIMED_OUT
    assert time.monotonic() - began < 7
    assert _have_ended(events[0].fields["pid"], events[0].fields["helper"])


def test_a_caller_that_gives_up_leaves_no_child_behind() -> None:
    events: list[ChildEvent] = []

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.5):
                await run_child(
                    "odd_child",
                    limits=SMALL,
                    deadline_s=30,
                    arguments={"act": "hang"},
                    search_paths=[CHILDREN],
                    on_progress=events.append,
                )

    asyncio.run(give_up())
    assert _have_ended(events[0].fields["pid"], events[0].fields["helper"])


@pytest.mark.parametrize("loop", [asyncio, uvloop])
def test_child_sees_no_secret_of_the_environment_and_inherits_no_descriptor(
    loop: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAAS_SECRET", "swordfish")
    monkeypatch.setenv("PYTHONPATH", "/tmp")
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    os.set_inheritable(writing, True)
    try:
        seen = run("look-around", loop=loop).header
    finally:
        os.close(reading)
        os.close(writing)
    assert not [name for name in seen["environment"] if name.startswith(("MAAS", "PYTHON", "PATH"))]  # type: ignore[attr-defined]
    # 0 to 2, the two pipes moved away from 0 and 1, and the listing's own.
    assert seen["descriptors"] == [0, 1, 2, 3, 4, 5]
    assert seen["cwd"] == "/"
    assert seen["homes"] == ["/dev/null/nowhere", "/dev/null/nowhere"]
    assert seen["is_session_leader"] is True
    assert seen["is_dumpable"] == 0


def test_child_can_write_nothing_read_no_secret_and_reach_nobody(tmp_path: Path) -> None:
    secret = tmp_path / "root.keyset"
    secret.write_text("swordfish")
    secret.chmod(0o600)
    places = [str(tmp_path), "/tmp", "/dev/shm", "/", str(CHILDREN)]
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = {"secret": str(secret), "places": ":".join(places), "port": server.getsockname()[1]}
        answer = run("misbehave", arguments=arguments)
    assert set(answer.header["written"].values()) <= {"PermissionError", "OSError"}  # type: ignore[attr-defined]
    assert answer.header["memfd"] == "OSError"
    assert not [
        place for place in places if (Path(place) / "canary").exists() and (Path(place) / "canary").stat().st_size
    ]
    if _kernel_has_landlock():
        assert "files" in answer.in_force
        assert answer.header["secret"] == "PermissionError"
        assert answer.header["program"] == "PermissionError"
    if {"files", "network"} & set(answer.in_force):
        assert answer.header["connect"] != "done"


def test_the_requests_own_error_is_told_before_what_followed_from_it() -> None:
    error = OSError("the store went away")
    assert _first_cause(ExceptionGroup("", [ChildGone(), error])) is error
    assert _first_cause(ExceptionGroup("", [error, ChildGone()])) is error


def _kernel_has_landlock() -> bool:
    """Ask for the version of its interface (landlock_create_ruleset with nothing but the version flag)."""
    return int(ctypes.CDLL(None).syscall(444, None, ctypes.c_size_t(0), 1)) > 0


def _have_ended(*pids: Any) -> bool:
    """Wait a moment for killed processes to be gone; a zombie has ended too."""
    for _ in range(50):
        if not [pid for pid in pids if _state(pid) not in {"", "Z"}]:
            return True
        time.sleep(0.05)
    return False


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
