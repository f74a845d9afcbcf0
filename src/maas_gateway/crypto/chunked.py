"""Seal and open long streams in segments: Tink's AES256-GCM-HKDF-1MB, byte for byte.

Layout of a sealed stream:

    offset  length     meaning
    0       1          length of this header: 40
    1       32         salt, random
    33      7          nonce prefix, random
    40      ≤ 1048536  first segment: ciphertext ‖ 16-byte tag
    k·2^20  ≤ 1048576  segment k = 1, 2, …: ciphertext ‖ 16-byte tag

Rules: key of the stream = HKDF-SHA-256(key, salt, info = associated data); nonce of segment k =
prefix ‖ k (u32, big-endian) ‖ 1 if it is the last, else 0; every segment but the last is full; the
last is empty only if the whole is. So a segment that is altered, moved, dropped, repeated or taken
from another stream does not open, and a stream that ends early has no last segment.

Source: Tink, "AES-GCM-HKDF streaming AEAD", developers.google.com/tink/streaming-aead. The layout
carries no version byte: it is always a part of a container that does (`envelope`).
"""

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from maas_gateway.crypto.aead import REJECTED, TAG_BYTES
from maas_gateway.crypto.key_material import KEY_BYTES, KeyMaterial
from maas_gateway.errors import CiphertextRejected

SEGMENT_BYTES: Final = 1 << 20
HEADER_BYTES: Final = 40
MAX_SEGMENTS: Final = 2**32 - 1

_SALT_BYTES: Final = 32
_PREFIX_BYTES: Final = 7
_PLAIN_SEGMENT_BYTES: Final = SEGMENT_BYTES - TAG_BYTES
_ZEROS: Final = bytes(SEGMENT_BYTES)
_TURN: Final = 8
"""Segments that a thread opens in a row: two that wrote into one huge page would wait for each other."""


class ByteSource(Protocol):
    """Something of known size that can be read at any place: a file, a blob, bytes."""

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill `buffer` from `offset` on as far as is possible at once; return the number of bytes read, 0 at the end."""
        ...


def sealed_size(plain_bytes: int) -> int:
    """Return how long the sealed stream of `plain_bytes` bytes is.

    Raises:
        ValueError: negative, or more than 2**32 - 1 segments hold.
    """
    n_segments = -(-(plain_bytes + HEADER_BYTES) // _PLAIN_SEGMENT_BYTES)
    if plain_bytes < 0 or n_segments > MAX_SEGMENTS:
        raise ValueError("a stream holds from 0 bytes to 2**32 - 1 segments")
    return plain_bytes + HEADER_BYTES + n_segments * TAG_BYTES


def plain_size(sealed_bytes: int) -> int:
    """Return how many bytes a sealed stream of this length opens to.

    Raises:
        CiphertextRejected: no stream has this length.
    """
    n_segments = _count_segments(sealed_bytes)
    last_bytes = sealed_bytes - (n_segments - 1) * SEGMENT_BYTES
    shortest = TAG_BYTES + (HEADER_BYTES if n_segments == 1 else 1)
    if sealed_bytes < 0 or n_segments > MAX_SEGMENTS or last_bytes < shortest:
        raise CiphertextRejected(REJECTED)
    return sealed_bytes - HEADER_BYTES - n_segments * TAG_BYTES


def fill(source: ByteSource, offset: int, buffer: memoryview) -> None:
    """Fill the whole of `buffer` from `offset` on.

    Raises:
        CiphertextRejected: the source ends before, or answers what no reader can.
    """
    n_filled = 0
    while n_filled < len(buffer):
        n_read = source.read_into(offset + n_filled, buffer[n_filled:])
        if not 0 < n_read <= len(buffer) - n_filled:
            raise CiphertextRejected(REJECTED)
        n_filled += n_read


class StreamSealer:
    """Seals one stream, given in pieces of any size.

    Protects the stream against reading and every change, its length against cutting, and binds it to
    the associated data. Does not hide its length, and is not key-committing (`envelope` is).
    It holds at most one segment of plaintext. For one thread at a time.
    """

    def __init__(self, key: KeyMaterial, associated_data: bytes) -> None:
        salt = secrets.token_bytes(_SALT_BYTES)
        self._prefix = secrets.token_bytes(_PREFIX_BYTES)
        self._aead = _stream_aead(key, salt, associated_data)
        self._header = bytes([HEADER_BYTES]) + salt + self._prefix
        self._pending = bytearray(_PLAIN_SEGMENT_BYTES)
        self._n_pending = 0
        self._index = 0
        self._is_finished = False

    def update(self, data: bytes | bytearray | memoryview) -> bytes:
        """Take more plaintext and return what can be sealed by now: nothing or some whole segments.

        A full segment is held back until more follows, since the last one is sealed differently.

        Raises:
            RuntimeError: the stream is finished.
            ValueError: the stream is longer than 2**32 - 1 segments.
        """
        if self._is_finished:
            raise RuntimeError("the stream is finished")
        rest = memoryview(data)
        sealed = [self._take_header()]
        while self._n_pending + len(rest) > (room := self._room()):
            n_taken = room - self._n_pending
            if self._n_pending:
                self._pending[self._n_pending : room] = rest[:n_taken]
                sealed.append(self._seal(memoryview(self._pending)[:room], is_last=False))
                self._n_pending = 0
            else:
                sealed.append(self._seal(rest[:n_taken], is_last=False))
            rest = rest[n_taken:]
        self._pending[self._n_pending : self._n_pending + len(rest)] = rest
        self._n_pending += len(rest)
        return b"".join(filter(None, sealed))

    def finish(self) -> bytes:
        """Return the last segment, which marks the end; call it once.

        Raises:
            RuntimeError: the stream is finished already.
            ValueError: the stream is longer than 2**32 - 1 segments.
        """
        if self._is_finished:
            raise RuntimeError("the stream is finished")
        self._is_finished = True
        last = self._seal(memoryview(self._pending)[: self._n_pending], is_last=True)
        self._pending = bytearray()
        return self._take_header() + last

    def _room(self) -> int:
        return _PLAIN_SEGMENT_BYTES - (HEADER_BYTES if self._index == 0 else 0)

    def _take_header(self) -> bytes:
        header, self._header = self._header, b""
        return header

    def _seal(self, plaintext: memoryview, *, is_last: bool) -> bytes:
        if self._index >= MAX_SEGMENTS:
            raise ValueError("a stream holds at most 2**32 - 1 segments")
        nonce = _nonce(self._prefix, self._index, is_last=is_last)
        self._index += 1
        return self._aead.encrypt(nonce, plaintext, None)


class StreamOpener:
    """Opens one sealed stream from a source, whole or in parts.

    Every byte that it gives out belongs to a segment that verified. `open_into` gives out all or
    nothing, `open_each` whole segments until something is wrong; `read_at` first verifies the last
    segment, so that a stream that was cut is noticed before any part of it is used (the age
    specification's rule for seeking from the end), but says nothing of segments that were not asked
    for. For one caller at a time, who may have several threads share the segments: decrypting and
    reading hold no lock of the interpreter.
    """

    def __init__(self, key: KeyMaterial, associated_data: bytes, source: ByteSource, *, offset: int = 0) -> None:
        self._source = source
        self._offset = offset
        self._sealed_bytes = source.size_bytes - offset
        self._size_bytes = plain_size(self._sealed_bytes)
        self._n_segments = _count_segments(self._sealed_bytes)
        header = bytearray(HEADER_BYTES)
        fill(source, offset, memoryview(header))
        if header[0] != HEADER_BYTES:
            raise CiphertextRejected(REJECTED)
        self._prefix = bytes(header[1 + _SALT_BYTES :])
        self._aead = _stream_aead(key, bytes(header[1 : 1 + _SALT_BYTES]), associated_data)
        self._lane = _Lane(self._sealed_bytes, self._size_bytes)
        self._cached_index: int | None = None
        self._is_end_verified = False

    @property
    def size_bytes(self) -> int:
        """How many bytes of plaintext there are, computed from the source's size; not yet verified."""
        return self._size_bytes

    def open_into(self, target: memoryview, *, n_threads: int = 1) -> None:
        """Open the whole stream into `target`, of which no other may read before this returns.

        Args:
            target: writable bytes, `size_bytes` long.
            n_threads: how many threads share the work.

        Raises:
            CiphertextRejected: anything is wrong; whatever was written to `target` is zeros again.
            ValueError: the target has another size or form.
        """
        if target.readonly or target.format != "B" or target.shape != (self._size_bytes,):
            raise ValueError("the target must be writable bytes of the stream's size")
        touched: list[memoryview] = []
        is_open = False

        def open_segment(index: int, lane: _Lane) -> None:
            start, end = self._plain_span(index)
            touched.append(target[start:end])
            self._open_segment(index, touched[-1], lane)

        try:
            self._share_out(open_segment, self._lanes(n_threads))
            is_open = True
        finally:
            for piece in () if is_open else touched:
                _wipe(piece)

    def open_each(self, take: Callable[[int, memoryview], None], *, n_threads: int = 1) -> None:
        """Hand out the whole stream, a verified segment at a time; from the start on, if one thread does it.

        Args:
            take: called with an offset and up to 1 MiB of the plaintext from there, which is gone when it
                returns; by each of the threads. What it took is to be thrown away if this raises: the
                stream may have been cut.
            n_threads: how many threads share the work.

        Raises:
            CiphertextRejected: a segment does not verify; nothing of it was handed out.
        """

        def hand_out(index: int, lane: _Lane) -> None:
            start, end = self._plain_span(index)
            piece = lane.plain()[: end - start]
            self._open_segment(index, piece, lane)
            take(start, piece)

        self._cached_index = None
        lanes = self._lanes(n_threads)
        try:
            self._share_out(hand_out, lanes)
        finally:
            for lane in lanes:
                _wipe(lane.plain())

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return up to `n_bytes` bytes from `offset` on: fewer only at the end, as `pread` does.

        Raises:
            CiphertextRejected: a segment that holds them, or the last one, does not verify.
            ValueError: a negative offset or count.
        """
        if offset < 0 or n_bytes < 0:
            raise ValueError("offset and count are not negative")
        if not self._is_end_verified:
            self._segment(self._n_segments - 1)
            self._is_end_verified = True
        stop = min(offset + n_bytes, self._size_bytes)
        parts: list[memoryview | bytes] = []
        while offset < stop:
            index = (offset + HEADER_BYTES) // _PLAIN_SEGMENT_BYTES
            start, end = self._plain_span(index)
            part = self._segment(index)[offset - start : min(stop, end) - start]
            # The cache is one buffer: what stays in it over the next segment is copied out.
            parts.append(part if stop <= end else bytes(part))
            offset = end
        return b"".join(parts)

    def _plain_span(self, index: int) -> tuple[int, int]:
        start = max(0, index * _PLAIN_SEGMENT_BYTES - HEADER_BYTES)
        return start, min((index + 1) * _PLAIN_SEGMENT_BYTES - HEADER_BYTES, self._size_bytes)

    def _segment(self, index: int) -> memoryview:
        start, end = self._plain_span(index)
        piece = self._lane.plain()[: end - start]
        if self._cached_index != index:
            self._cached_index = None
            is_open = False
            try:
                self._open_segment(index, piece, self._lane)
                is_open = True
            finally:
                if not is_open:
                    _wipe(piece)
            self._cached_index = index
        return piece

    def _lanes(self, n_threads: int) -> list["_Lane"]:
        n_more = min(n_threads, -(-self._n_segments // _TURN)) - 1
        return [self._lane, *(_Lane(self._sealed_bytes, self._size_bytes) for _ in range(n_more))]

    def _share_out(self, act: Callable[[int, "_Lane"], None], lanes: list["_Lane"]) -> None:
        """Do `act` for every segment, a thread for each lane, in order if there is one; after a failure begin no more."""
        turns = iter(range(0, self._n_segments, _TURN))
        turn = Lock()
        has_failed = False

        def work(lane: _Lane) -> None:
            nonlocal has_failed
            try:
                while not has_failed:
                    with turn:
                        first = next(turns, None)
                    if first is None:
                        return
                    for index in range(first, min(first + _TURN, self._n_segments)):
                        act(index, lane)
            except BaseException:
                has_failed = True
                raise

        own, *others = lanes
        with ThreadPoolExecutor(len(lanes), thread_name_prefix="opening") as helpers:  # it starts those it needs
            helping = [helpers.submit(work, lane) for lane in others]
            work(own)
            for helped in helping:
                helped.result()

    def _open_segment(self, index: int, target: memoryview, lane: "_Lane") -> None:
        start = index * SEGMENT_BYTES if index else HEADER_BYTES
        ciphertext = lane.sealed()[: len(target) + TAG_BYTES]
        fill(self._source, self._offset + start, ciphertext)
        nonce = _nonce(self._prefix, index, is_last=index == self._n_segments - 1)
        try:
            self._aead.decrypt_into(nonce, ciphertext, None, target)
        except InvalidTag as cause:
            raise CiphertextRejected(REJECTED) from cause


class _Lane:
    """What one thread opens segments with: a buffer for what is sealed, and one for what is open."""

    def __init__(self, sealed_bytes: int, plain_bytes: int) -> None:
        self._sealed_bytes = min(SEGMENT_BYTES, sealed_bytes)
        self._plain_bytes = min(_PLAIN_SEGMENT_BYTES, plain_bytes)
        self._sealed: memoryview | None = None
        self._plain: memoryview | None = None

    def sealed(self) -> memoryview:
        """Return the buffer for a sealed segment, made when it is first wanted."""
        if self._sealed is None:
            self._sealed = memoryview(bytearray(self._sealed_bytes))
        return self._sealed

    def plain(self) -> memoryview:
        """Return the buffer for an open segment, made when it is first wanted."""
        if self._plain is None:
            self._plain = memoryview(bytearray(self._plain_bytes))
        return self._plain


def _count_segments(sealed_bytes: int) -> int:
    return max(1, -(-sealed_bytes // SEGMENT_BYTES))


def _stream_aead(key: KeyMaterial, salt: bytes, associated_data: bytes) -> AESGCM:
    derive = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=associated_data)
    return AESGCM(derive.derive(key.expose()))


def _nonce(prefix: bytes, index: int, *, is_last: bool) -> bytes:
    return prefix + index.to_bytes(4, "big") + bytes([is_last])


def _wipe(target: memoryview) -> None:
    for start in range(0, len(target), SEGMENT_BYTES):
        part = target[start : start + SEGMENT_BYTES]
        part[:] = _ZEROS[: len(part)]
