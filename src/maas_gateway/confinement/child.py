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
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import maas_gateway
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
from maas_gateway.confinement.frames import VERSION, FrameKind, FrameRejected, pack_json
from maas_gateway.confinement.limits import NOWHERE, Limits

_BOOT: Final = "import sys; sys.path[:0] = sys.argv[1:]; from maas_gateway.confinement.run import main; main()"
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
    paths = [str(path) for path in search_paths] + [str(Path(maas_gateway.__file__).parents[1])]
    header = {"version": VERSION, "module": module, "arguments": arguments or {}, "limits": limits.to_json()}
    process = await _start(paths, n_threads)
    first_frame = pack_json(FrameKind.HEADER, header)
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
    command = [sys.executable, "-I", "-B", "-X", "utf8", "-X", "faulthandler", "-c", _BOOT, *paths]
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        env=_environment(n_threads),
        cwd="/",
        close_fds=True,
        start_new_session=True,
    )


def _environment(n_threads: int) -> dict[str, str]:
    """Return the whole environment of a child: nothing of ours is in it."""
    return {
        "HOME": NOWHERE,
        "TMPDIR": NOWHERE,
        "KERAS_HOME": NOWHERE,
        "KERAS_BACKEND": "tensorflow",
        "LC_ALL": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "TF_NUM_INTRAOP_THREADS": str(n_threads),
        "TF_NUM_INTEROP_THREADS": str(n_threads),
        "OMP_NUM_THREADS": str(n_threads),
        "OPENBLAS_NUM_THREADS": str(n_threads),
        # glibc reserves 64 MiB of address space per arena, which RLIMIT_AS counts.
        "MALLOC_ARENA_MAX": "2",
    }


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
