"""A confined child that stays: started once, called again and again, ended when it misbehaves.

Rules:
- it is what `run_child` starts (same program, limits, environment, session), and answers calls after its first answer;
- calls block: a thread that waits for the next one anyway has the shortest way to the child and back. One call at a time;
- every call has a bound in time, which any thread may bring forward (`hurry`), and its answer one in size;
- who breaks a bound or the protocol, speaks out of turn or ends is killed with its whole session: a child fails once,
  and every later call fails as that one did;
- it ends with the thread that started it, which the kernel watches (PR_SET_PDEATHSIG), so with this process too.

Measured on the reference machine (2 cores), medians: 141 µs for a call with 120 bytes and back, of which two bare pipes
take 65; 2.5 ms with 1 MiB; 57 ms from the start to the first answer of a module that imports nothing.
"""

import os
import select
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from maas_gateway.confinement.failure import ChildFailed, FailureKind, explain, reported
from maas_gateway.confinement.frames import (
    PREFIX,
    FrameKind,
    FrameRejected,
    pack,
    pack_json,
    split,
    unpack_json,
    unpack_prefix,
)
from maas_gateway.confinement.limits import Limits
from maas_gateway.confinement.program import first, places, start

_KEPT_STDERR_BYTES: Final = 4096
_READ_BYTES: Final = 1 << 18
_MOST_AT_ONCE: Final = 64  # buffers that one system call writes
_SMALL_BYTES: Final = 1 << 14
_LAST_WORDS_S: Final = 2.0  # how long a child that closed its pipe may take to end by itself
_GONE_WITHIN_S: Final = 5.0  # how long the kernel may take to clear a killed one away

Piece = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Reply:
    """What a child answered, bounded in size and otherwise unchecked.

    Attributes:
        header: a JSON object.
        payload: bytes, perhaps none; the caller's own.
    """

    header: Mapping[str, object]
    payload: bytearray


class ResidentChild:
    """One confined child; used by one thread at a time, hurried and closed by any.

    Attributes:
        pid: its process.
        ended_fd: a descriptor that becomes readable when it has ended; -1 once it is closed.
        in_force: the limits that it reported as applied, after its first answer.
        failure: how it failed; None as long as it has not.
    """

    def __init__(
        self,
        module: str,
        *,
        limits: Limits,
        arguments: Mapping[str, object],
        n_threads: int = 1,
        search_paths: Iterable[Path] = (),
    ) -> None:
        """Start it. The calling thread has to outlive it: the kernel kills the child when that thread ends.

        Args:
            module: dotted name of a module with a function `serve(channel: Channel) -> None`.
            limits: what the child binds itself by before it imports the module.
            arguments: a JSON object for the module, at most 1 MiB.
            n_threads: how many threads an engine may compute with.
            search_paths: directories to import from, before the installed ones.

        Raises:
            OSError: no process can be started.
        """
        self._first = first(module, arguments, limits)
        self._process = start(places(search_paths), n_threads)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.pid = self._process.pid
        self.ended_fd = os.pidfd_open(self.pid)
        self.in_force: tuple[str, ...] = ()
        self.failure: ChildFailed | None = None
        self._stdin = self._process.stdin.fileno()
        self._stdout = self._process.stdout.fileno()
        self._stderr = self._process.stderr.fileno()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        for descriptor in (self._stdout, self._stderr, self._wake):
            self._poll.register(descriptor, select.POLLIN)
        for descriptor in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(descriptor, False)
        self._inbox = bytearray()
        self._stderr_tail = bytearray()
        self._until_s: float | None = None
        self._is_closed = False
        self._is_used = threading.Lock()
        self._guard = threading.Lock()  # of what `hurry` and `close` touch from other threads

    def begin(self, request: Iterable[Piece], *, within_s: float, max_answer_bytes: int = 1 << 16) -> Reply:
        """Send the request that it was started for, and wait for its first answer; called once, before any call.

        Raises:
            ChildFailed: it crashed, took too long, ran out of memory, or broke the protocol.
        """
        return self._converse(self._first, request, within_s=within_s, max_answer_bytes=max_answer_bytes)

    def call(
        self, header: Mapping[str, object], payload: Iterable[Piece], *, within_s: float, max_answer_bytes: int
    ) -> Reply:
        """Send a call and wait for its answer.

        Args:
            header: a JSON object, at most 1 MiB.
            payload: bytes, in pieces of any size.
            within_s: seconds from now until the child is killed; see `hurry`.
            max_answer_bytes: bound on the answer's payload.

        Raises:
            ChildFailed: it crashed, took too long, ran out of memory, or broke the protocol; or it had before.
            FrameRejected: the header is too large; nothing was sent.
        """
        opening = pack_json(FrameKind.CALL, header)
        return self._converse(opening, payload, within_s=within_s, max_answer_bytes=max_answer_bytes)

    def reject(self, detail: str) -> ChildFailed:
        """Kill it for an answer that is none; return the failure that it has from now on.

        Args:
            detail: one sentence of ours about it, with nothing in it that the child sent.
        """
        failure = ChildFailed(FailureKind.PROTOCOL, detail, stderr_tail=self._tail())
        self._fail(failure)
        return failure

    @property
    def has_ended(self) -> bool:
        """Whether it has failed, ended, or is closed; asks the kernel."""
        with self._guard:
            if self.failure is not None or self._is_closed:
                return True
            return _is_readable(self.ended_fd, 0)

    def hurry(self, within_s: float) -> None:
        """Have the call that runs now, if one does, end within so many seconds or be killed; from any thread."""
        with self._guard:
            if self._until_s is not None and not self._is_closed:
                self._until_s = min(self._until_s, time.monotonic() + within_s)
                os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Kill it with all that it started, and clear it away; a running call fails. From any thread, twice is fine."""
        with self._guard:
            self._kill()
        with self._is_used, self._guard:
            if self._is_closed:
                return
            self._is_closed = True
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                assert stream is not None
                with suppress(OSError):
                    stream.close()
            self._process.wait(_GONE_WITHIN_S)
            os.close(self._wake)
            os.close(self.ended_fd)
            self.ended_fd = -1

    def _converse(self, opening: bytes, payload: Iterable[Piece], *, within_s: float, max_answer_bytes: int) -> Reply:
        if not self._is_used.acquire(blocking=False):
            raise RuntimeError("a child answers one call at a time")
        try:
            self._require_whole()
            return self._exchanged(opening, payload, within_s=within_s, max_answer_bytes=max_answer_bytes)
        finally:
            self._is_used.release()

    def _exchanged(self, opening: bytes, payload: Iterable[Piece], *, within_s: float, max_answer_bytes: int) -> Reply:
        with self._guard:
            self._until_s = time.monotonic() + within_s
        try:
            self._check_silent()
            self._send(opening, payload)
            return self._receive(max_answer_bytes)
        except ChildFailed as failure:
            self._fail(failure)
            raise
        except FrameRejected as rejected:
            raise self.reject(str(rejected)) from None
        except _Gone:
            raise self._explained() from None
        except BaseException:  # the request's own error: half of it is sent, so nothing more can be
            self._fail(ChildFailed(FailureKind.CRASHED, "the child was ended in the middle of a request"))
            raise
        finally:
            with self._guard:
                self._until_s = None

    def _require_whole(self) -> None:
        if self.failure is not None:
            raise ChildFailed(self.failure.kind, self.failure.detail, stderr_tail=self.failure.stderr_tail)
        if self._is_closed:
            raise ChildFailed(FailureKind.CRASHED, "the child was ended")

    def _check_silent(self) -> None:
        """Refuse a child that has said something since its last answer: it would be taken for the next one."""
        if self._inbox:
            raise FrameRejected("the child sent a frame out of turn")
        for descriptor, _ in self._poll.poll(0):
            self._take_in(descriptor)
        if self._inbox:
            raise FrameRejected("the child sent a frame out of turn")

    def _send(self, opening: bytes, payload: Iterable[Piece]) -> None:
        """Send the frames, small ones together, and hear meanwhile what the child prints and says."""
        waiting: list[memoryview] = [memoryview(opening)]
        n_bytes = len(opening)
        for piece in _framed(payload):
            waiting.append(memoryview(piece))
            n_bytes += len(piece)
            if n_bytes > _SMALL_BYTES or len(waiting) == _MOST_AT_ONCE:
                self._write(waiting)
                waiting, n_bytes = [], 0
        waiting.append(memoryview(pack(FrameKind.END)))
        self._write(waiting)

    def _write(self, waiting: list[memoryview]) -> None:
        while waiting:
            try:
                n_written = os.writev(self._stdin, waiting)
            except BlockingIOError:
                self._wait(for_writing=True)
                continue
            except BrokenPipeError:
                raise _Gone from None
            while waiting and n_written >= len(waiting[0]):
                n_written -= len(waiting.pop(0))
            if n_written:
                waiting[0] = waiting[0][n_written:]

    def _receive(self, max_answer_bytes: int) -> Reply:
        kind, header = self._frame()
        if not self.in_force and kind is FrameKind.STARTED:
            self.in_force = _names(unpack_json(header))
            kind, header = self._frame()
        if kind is FrameKind.FAILED:
            raise reported(unpack_json(header), self._tail())
        if kind is not FrameKind.ANSWER:
            raise FrameRejected("the child sent a frame out of turn")
        payload = bytearray()
        while True:
            kind, piece = self._frame()
            if kind is FrameKind.END and not piece and not self._inbox:
                return Reply(unpack_json(header), payload)
            if kind is not FrameKind.DATA or not piece:
                raise FrameRejected("the child sent a frame out of turn")
            if len(payload) + len(piece) > max_answer_bytes:
                raise FrameRejected("the child's answer is larger than allowed")
            payload += piece

    def _frame(self) -> tuple[FrameKind, bytes]:
        inbox = self._inbox
        while len(inbox) < PREFIX.size:
            self._wait()
        kind, length = unpack_prefix(bytes(inbox[: PREFIX.size]))
        end = PREFIX.size + length
        while len(inbox) < end:
            self._wait()
        payload = bytes(inbox[PREFIX.size : end])
        del inbox[:end]
        return kind, payload

    def _wait(self, *, for_writing: bool = False) -> None:
        """Wait until something has come, or can be sent.

        Raises:
            ChildFailed: time ran out.
            _Gone: there is nobody any more to hear from.
        """
        with self._guard:
            left_s = (self._until_s or 0.0) - time.monotonic()
        if left_s <= 0:
            raise ChildFailed(FailureKind.TIMED_OUT, "the child did not answer in time", stderr_tail=self._tail())
        if for_writing:
            self._poll.register(self._stdin, select.POLLOUT)
        try:
            ready = self._poll.poll(left_s * 1e3 + 1)
        finally:
            if for_writing:
                self._poll.unregister(self._stdin)
        for descriptor, _ in ready:
            self._take_in(descriptor)

    def _take_in(self, descriptor: int) -> None:
        if descriptor == self._stdin:
            return
        if descriptor == self._wake:
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            return
        try:
            piece = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return
        if descriptor == self._stdout:
            if not piece:
                raise _Gone
            self._inbox += piece
        elif piece:
            self._stderr_tail += piece
            del self._stderr_tail[:-_KEPT_STDERR_BYTES]
        else:
            self._poll.unregister(descriptor)

    def _explained(self) -> ChildFailed:
        """Let a child that closed its pipe end by itself, so that its status tells why."""
        has_ended = _is_readable(self.ended_fd, _LAST_WORDS_S)
        with suppress(OSError):
            while piece := os.read(self._stderr, _READ_BYTES):
                self._stderr_tail += piece
        del self._stderr_tail[:-_KEPT_STDERR_BYTES]
        with self._guard:
            self._kill()  # what it has started; its own status stays what it was
            failure = explain(self._process.poll() if has_ended else None, self._tail())
        self._fail(failure)
        return failure

    def _fail(self, failure: ChildFailed) -> None:
        """Keep how it failed, kill it, and wait until it is gone: whoever looks then finds that it has ended."""
        failure.has_started = bool(self.in_force)
        with self._guard:
            self.failure = failure
            self._kill()
            ended_fd = self.ended_fd
        _is_readable(ended_fd, _GONE_WITHIN_S)

    def _kill(self) -> None:
        """Kill the child and whatever it started in its session; called with the guard held, so before it is cleared away."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def _tail(self) -> str:
        return self._stderr_tail.decode(errors="replace")


class _Gone(Exception):
    """The child closed its pipe in the middle of the conversation."""


def _is_readable(descriptor: int, within_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(within_s * 1e3))


def _framed(payload: Iterable[Piece]) -> Iterator[Piece]:
    for chunk in payload:
        for piece in split(chunk):
            yield PREFIX.pack(FrameKind.DATA, len(piece))
            yield piece


def _names(fields: Mapping[str, object]) -> tuple[str, ...]:
    names = fields.get("in_force")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise FrameRejected("the child does not say which limits are in force")
    return tuple(names)
