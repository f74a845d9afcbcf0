"""The parent's side: start a confined child, send it a request, read its answer, end it.

Rules:
- the child is a fresh program (exec, never a fork of this process: a fork would inherit the keys),
  with an empty environment, no descriptor but its three pipes, and a session of its own;
- it is killed with its whole session when it has answered, failed, or outlived the deadline;
- everything it sends is bounded and is data, never a sentence for a client: a caller that shows
  `ChildFailed.detail` shows our words.
"""

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from maas_gateway.confinement.conversation import (
    ChildAnswer,
    ChildEvent,
    ChildGone,
    Heard,
    Sink,
    converse,
    keep_tail,
)
from maas_gateway.confinement.failure import ChildFailed, FailureKind, explain, timed_out
from maas_gateway.confinement.frames import FrameRejected
from maas_gateway.confinement.limits import Limits
from maas_gateway.confinement.program import command, environment, first, places

_LAST_WORDS_S: Final = 2.0  # how long a child that closed its pipe may take to end by itself


async def run_child(
    module: str,
    *,
    limits: Limits,
    deadline_s: float,
    request: AsyncIterator[bytes] | Iterable[bytes] = (),
    arguments: Mapping[str, object] | None = None,
    on_progress: Callable[[ChildEvent], None] | None = None,
    max_answer_bytes: int = 1 << 30,
    sink: Sink | None = None,
    n_threads: int = 2,
    search_paths: Iterable[Path] = (),
) -> ChildAnswer:
    """Run `module.serve(channel)` in a confined child and return its answer.

    Args:
        module: dotted name of a module with a function `serve(channel: Channel) -> None`.
        limits: what the child binds itself by before it imports the module.
        deadline_s: seconds from now until the child is killed.
        request: the bytes to send, in pieces of any size; an error it raises ends the child.
        arguments: a JSON object for the module, at most 1 MiB.
        on_progress: called in this event loop for every progress message.
        max_answer_bytes: bound on header and payload together.
        sink: takes the payload as it arrives, instead of the answer; an error it raises ends the child.
        n_threads: how many threads TensorFlow may compute with.
        search_paths: directories to import from, before the installed ones.

    Raises:
        ChildFailed: it crashed, hung, ran out of memory, or broke the protocol.
    """
    heard = Heard()
    process = await _start(places(search_paths), n_threads)
    first_frame = first(module, arguments or {}, limits)
    try:
        async with _within(deadline_s, process, heard):
            return await converse(
                process,
                heard,
                first_frame,
                request,
                on_progress=on_progress,
                max_answer_bytes=max_answer_bytes,
                sink=sink,
            )
    except ChildFailed as failure:
        failure.has_started = bool(heard.in_force)
        raise
    finally:
        await _end(process, heard)


@contextlib.asynccontextmanager
async def _within(deadline_s: float, process: Process, heard: Heard) -> AsyncIterator[None]:
    """Bound a conversation in time, and tell every way in which the child can break it off."""
    timer = asyncio.timeout(deadline_s)
    try:
        async with timer:
            yield
    except ChildGone:
        await _hear_last_words(process, heard)
        raise explain(process.returncode, heard.text()) from None
    except FrameRejected as rejected:
        raise ChildFailed(FailureKind.PROTOCOL, str(rejected), stderr_tail=heard.text()) from None
    except TimeoutError:
        if not timer.expired():
            raise
        raise timed_out(deadline_s, heard.text()) from None


async def _start(paths: list[str], n_threads: int) -> Process:
    return await asyncio.create_subprocess_exec(
        *command(paths),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=environment(n_threads),
        cwd="/",
        close_fds=True,
        start_new_session=True,
    )


def _kill(process: Process) -> None:
    """Kill the child and whatever it started in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


async def _hear_last_words(process: Process, heard: Heard) -> None:
    """Let a child that closed its pipe end by itself, so that its status tells why."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS_S):
            await keep_tail(process, heard)
            await process.wait()


async def _end(process: Process, heard: Heard) -> None:
    """Kill the child, and read its pipes to their end so that none stays open."""
    _kill(process)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LAST_WORDS_S):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            while await process.stdout.read(1 << 16):
                pass
            await keep_tail(process, heard)
            await process.wait()
