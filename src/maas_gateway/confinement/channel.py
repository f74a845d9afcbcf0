"""The child's side of the conversation: what a module that runs confined is given."""

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

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


class Channel:
    """The request to read, and the answer to give once.

    A confined module has one function, `serve(channel: Channel) -> None`.
    """

    def __init__(self, incoming: BinaryIO, outgoing: BinaryIO) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self.arguments: Mapping[str, object] = {}

    def read_header(self) -> dict[str, object]:
        """Read the request's first frame.

        Raises:
            FrameRejected: it is another frame, or none.
        """
        kind, payload = self._read()
        if kind is not FrameKind.HEADER:
            raise FrameRejected("the request does not begin with its header")
        return unpack_json(payload)

    def request(self) -> Iterator[bytes]:
        """Yield the request's bytes as they come, to their end.

        Raises:
            FrameRejected: the parent went away before the end.
        """
        while True:
            kind, payload = self._read()
            if kind is FrameKind.END:
                return
            if kind is not FrameKind.DATA:
                raise FrameRejected("a frame in the request is of the wrong kind")
            yield payload

    def calls(self) -> Iterator[tuple[dict[str, object], bytearray]]:
        """Yield the calls that follow the request, each a header and bytes; each is answered before the next is asked for.

        It ends when the parent has gone.

        Raises:
            FrameRejected: the parent went away in the middle of a call.
        """
        while prefix := self._incoming.read(PREFIX.size):
            kind, length = unpack_prefix(prefix.ljust(PREFIX.size, b"\0"))
            if kind is not FrameKind.CALL:
                raise FrameRejected("a call does not begin with its header")
            header = unpack_json(self._exactly(length))
            body = bytearray()
            for piece in self.request():
                body += piece
            yield header, body

    def started(self, in_force: tuple[str, ...]) -> None:
        """Tell the parent which limits are in force."""
        self._write(pack_json(FrameKind.STARTED, {"in_force": in_force, "pid": os.getpid()}))

    def progress(self, **fields: object) -> None:
        """Tell the parent how far the work is."""
        self._write(pack_json(FrameKind.PROGRESS, fields))

    def answer(
        self,
        header: Mapping[str, object],
        payload: bytes | bytearray | memoryview | Iterable[bytes | memoryview] = b"",
    ) -> None:
        """Give the answer: a JSON object and perhaps bytes, whole or in pieces of any size. Called once a request or call."""
        self._outgoing.write(pack_json(FrameKind.ANSWER, header))
        for part in [payload] if isinstance(payload, bytes | bytearray | memoryview) else payload:
            for piece in split(part):
                self._outgoing.write(PREFIX.pack(FrameKind.DATA, len(piece)))
                self._outgoing.write(piece)
        self._write(pack(FrameKind.END))

    def fail(self, kind: str, detail: str) -> None:
        """Tell the parent that there will be no answer, and why."""
        self._write(pack_json(FrameKind.FAILED, {"kind": kind, "detail": detail}))

    def _read(self) -> tuple[FrameKind, bytes]:
        kind, length = unpack_prefix(self._exactly(PREFIX.size))
        return kind, self._exactly(length)

    def _exactly(self, n_bytes: int) -> bytes:
        data = self._incoming.read(n_bytes)
        if len(data) != n_bytes:
            raise FrameRejected("the request ends early")
        return data

    def _write(self, frame: bytes) -> None:
        self._outgoing.write(frame)
        self._outgoing.flush()
