"""What parent and child say to each other, seen from the parent: bounded, in turn, both ways at once."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from maas_gateway.confinement.failure import ChildFailed, reported
from maas_gateway.confinement.frames import PREFIX, FrameKind, FrameRejected, pack, split, unpack_json, unpack_prefix

Sink = Callable[[bytes], Awaitable[None]]
"""Takes an answer's payload piece by piece, each of at most 1 MiB, in order."""

_KEPT_STDERR_BYTES: Final = 4096
_MAX_PROGRESS_FRAMES: Final = 10_000


@dataclass(frozen=True, slots=True)
class ChildEvent:
    """One progress message of a child, as it sent it: unchecked."""

    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ChildAnswer:
    """What a child answered, bounded in size and otherwise unchecked.

    Attributes:
        header: a JSON object.
        payload: bytes, perhaps none; none where a sink took them.
        in_force: the limits that the child reports as applied, among them `network` and `files`
            where the kernel allows.
    """

    header: Mapping[str, object]
    payload: bytes
    in_force: tuple[str, ...]


@dataclass(slots=True)
class Heard:
    """What came from the child so far."""

    in_force: tuple[str, ...] = ()
    stderr_tail: bytearray = field(default_factory=bytearray)

    def text(self) -> str:
        """Return the tail of what it printed, for a log."""
        return self.stderr_tail.decode(errors="replace")


class ChildGone(Exception):
    """The child closed its pipe in the middle of the conversation."""


async def converse(
    process: Process,
    heard: Heard,
    header: bytes,
    request: AsyncIterator[bytes] | Iterable[bytes],
    *,
    on_progress: Callable[[ChildEvent], None] | None,
    max_answer_bytes: int,
    sink: Sink | None,
) -> ChildAnswer:
    """Send and receive at once, so that neither side waits for the other's full pipe."""
    try:
        async with asyncio.TaskGroup() as group:
            others = (
                group.create_task(keep_tail(process, heard)),
                group.create_task(_send(process, header, request)),
            )
            answer = await _receive(process, heard, on_progress, max_answer_bytes=max_answer_bytes, sink=sink)
            for task in others:
                task.cancel()  # it has answered: what it did not read it does not need
            return answer
    except BaseExceptionGroup as several:
        raise _first_cause(several) from None


async def _send(process: Process, header: bytes, request: AsyncIterator[bytes] | Iterable[bytes]) -> None:
    """Send the request for as long as the child reads: one that stops says why by how it ends."""
    pipe = process.stdin
    assert pipe is not None
    if not await _write(pipe, header):
        return
    async for chunk in _each(request):
        for piece in split(chunk):
            if not await _write(pipe, pack(FrameKind.DATA, piece)):
                return
    await _write(pipe, pack(FrameKind.END))


async def _write(pipe: asyncio.StreamWriter, frame: bytes) -> bool:
    try:
        pipe.write(frame)
        await pipe.drain()
    except (BrokenPipeError, ConnectionResetError):
        return False
    return True


async def _each(request: AsyncIterator[bytes] | Iterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(request, AsyncIterator):
        async for chunk in request:
            yield chunk
    else:
        for chunk in request:
            yield chunk


async def _receive(
    process: Process,
    heard: Heard,
    on_progress: Callable[[ChildEvent], None] | None,
    *,
    max_answer_bytes: int,
    sink: Sink | None,
) -> ChildAnswer:
    n_progress = 0
    while True:
        kind, payload = await _read_frame(process)
        match kind:
            case FrameKind.STARTED if not heard.in_force:
                heard.in_force = _names(unpack_json(payload))
            case FrameKind.PROGRESS if n_progress < _MAX_PROGRESS_FRAMES:
                n_progress += 1
                event = ChildEvent(unpack_json(payload))
                if on_progress is not None:
                    on_progress(event)
            case FrameKind.FAILED:
                raise reported(unpack_json(payload), heard.text())
            case FrameKind.ANSWER:
                header = unpack_json(payload)
                body = bytearray()
                await _receive_payload(process, max_answer_bytes - len(payload), sink or _keeping(body))
                return ChildAnswer(header, bytes(body), heard.in_force)
            case _:
                raise FrameRejected("the child sent a frame out of turn")


def _keeping(body: bytearray) -> Sink:
    async def keep(piece: bytes) -> None:
        body.extend(piece)

    return keep


async def _receive_payload(process: Process, bytes_left: int, sink: Sink) -> None:
    while True:
        kind, payload = await _read_frame(process)
        if kind is FrameKind.END:
            return
        if kind is not FrameKind.DATA or not payload:
            raise FrameRejected("the child sent a frame out of turn")
        bytes_left -= len(payload)
        if bytes_left < 0:
            raise FrameRejected("the child's answer is larger than allowed")
        await sink(payload)


async def _read_frame(process: Process) -> tuple[FrameKind, bytes]:
    pipe = process.stdout
    assert pipe is not None
    try:
        kind, length = unpack_prefix(await pipe.readexactly(PREFIX.size))
        return kind, await pipe.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionResetError):
        raise ChildGone from None


async def keep_tail(process: Process, heard: Heard) -> None:
    """Read what the child prints, so that it never waits for us, and keep the last few kB."""
    pipe = process.stderr
    assert pipe is not None
    while chunk := await pipe.read(1 << 16):
        heard.stderr_tail += chunk
        del heard.stderr_tail[:-_KEPT_STDERR_BYTES]


def _names(fields: Mapping[str, object]) -> tuple[str, ...]:
    names = fields.get("in_force")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise FrameRejected("the child does not say which limits are in force")
    return tuple(names)


def _first_cause(several: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what went wrong first: the request's own error before what followed from it."""
    return min(several.exceptions, key=lambda error: isinstance(error, (ChildGone, FrameRejected, ChildFailed)))
