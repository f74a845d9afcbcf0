"""The TAR container, plain or in one gzip stream: one reading only, bounded, without a byte that nobody claims.

Rules:
    * Headers are POSIX `ustar` or GNU `ustar  `: what GNU tar, bsdtar and Python's `tarfile` write. The ancient form
      without a magic is refused: readers tell it from garbage by its checksum alone.
    * Regular files and folders only. No links, devices, pipes, sparse files, volumes, incremental dumps; so no
      member can lead another one elsewhere.
    * An extended header (`x`) may say when a file was touched and whose it is, for the one member behind it. Python's
      `tarfile` and `shutil.make_archive` write one with `mtime` before every member, `tar --format=pax` one with all
      three times: refusing them would refuse most archives. Whatever changes how the member is read (`path`,
      `linkpath`, `size`, `hdrcharset`, `GNU.sparse.*`), or carries more than it (`SCHILY.xattr.*`), is refused, and
      so are global headers (`g`) and GNU's long names (`L`, `K`): readers disagree on which of two names counts, and the
      names of a model fit into a header.
    * Numbers are octal; the checksum is right; each name occurs once; what fills a block up is zeros.
    * The archive ends with two empty blocks, then at most 64 KiB of zeros, then nothing.
    * gzip: one stream with at most a file name in its header, its length and CRC right, nothing behind it.

Source: POSIX.1-2017, pax, "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar Format";
RFC 1952 (gzip).
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from maas_gateway.scanning.archives import MemberLimit
from maas_gateway.scanning.scanner import Refusal, Source, clip

GZIP_MAGIC: Final = b"\x1f\x8b"
TAR_MAGIC: Final = b"ustar"
TAR_MAGIC_AT: Final = slice(257, 262)

_BLOCK: Final = 512
_HEADER: Final = struct.Struct("<100s8s8s8s12s12s8s1s100s8s32s32s8s8s155s12s")
_MAGICS: Final = (b"ustar\x0000", b"ustar  \x00")
_POSIX: Final = _MAGICS[0]
_CHECKSUM: Final = slice(148, 156)
_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*")
_RECORD: Final = re.compile(rb"([1-9][0-9]{0,3}) ([^=\n]+)=([^\n]*)\n")
_HARMLESS_KEYS: Final = frozenset((b"mtime", b"atime", b"ctime", b"uid", b"gid", b"uname", b"gname"))
_MAX_EXTENDED_BYTES: Final = 2048
_MAX_TAIL_BYTES: Final = 64 * 1024
_MAX_MEMBERS: Final = 256
_STEP_BYTES: Final = 1024 * 1024
_GZIP: Final = struct.Struct("<2sBBIBB")
_DEFLATE: Final = 8
_HAS_NAME: Final = 8
_GZIP_TAIL: Final = struct.Struct("<II")
_MAX_NAME_BYTES: Final = 1024


class _Bytes(Protocol):
    """Bytes in a row."""

    def take(self, n_bytes: int) -> bytes:
        """Return the next bytes, fewer only at the end."""
        ...

    def skip(self, n_bytes: int) -> None:
        """Pass over the next bytes."""
        ...


class _Plain:
    """The bytes of a source, where they lie."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.position = 0

    def take(self, n_bytes: int) -> bytes:
        taken = self._source.read_at(self.position, n_bytes)
        self.position += len(taken)
        return taken

    def skip(self, n_bytes: int) -> None:
        self.position += n_bytes


class _Gunzipped:
    """What a gzip stream unpacks to, of at most `max_bytes`."""

    def __init__(self, source: Source, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._position = _gzip_header_bytes(source)
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._ready = bytearray()
        self._packed = b""
        self._n_bytes = 0
        self._crc = 0

    def take(self, n_bytes: int) -> bytes:
        while len(self._ready) < n_bytes and not self._inflater.eof:
            self._inflate()
        taken = bytes(self._ready[:n_bytes])
        del self._ready[:n_bytes]
        return taken

    def skip(self, n_bytes: int) -> None:
        while n_bytes and (taken := self.take(min(n_bytes, _STEP_BYTES))):
            n_bytes -= len(taken)

    def _inflate(self) -> None:
        if not self._packed:
            self._packed = self._source.read_at(self._position, _STEP_BYTES)
            self._position += len(self._packed)
        try:
            piece = self._inflater.decompress(self._packed, _STEP_BYTES)
        except zlib.error:
            raise Refusal("gzip-broken", f"byte {self._position}", "its compressed data is broken.") from None
        if not piece and not self._packed and not self._inflater.eof:
            raise Refusal("gzip-broken", f"byte {self._position}", "its compressed data is cut.")
        self._packed = self._inflater.unconsumed_tail
        self._n_bytes += len(piece)
        self._crc = zlib.crc32(piece, self._crc)
        self._ready += piece
        if self._n_bytes > self._max_bytes:
            raise Refusal("too-large", "gzip", f"it unpacks to more than the {self._max_bytes} bytes allowed.")
        if self._inflater.eof:
            self._check_end()

    def _check_end(self) -> None:
        end = self._position - len(self._inflater.unused_data)
        if end + _GZIP_TAIL.size != self._source.size_bytes:
            raise Refusal("unclaimed-bytes", f"byte {end}", "bytes follow the end of the gzip stream.")
        if self._source.read_at(end, _GZIP_TAIL.size) != _GZIP_TAIL.pack(self._crc, self._n_bytes & 0xFFFFFFFF):
            raise Refusal("crc-mismatch", "gzip", "its bytes do not fit its CRC or its length.")


@dataclass(frozen=True, slots=True)
class TarMember:
    """One regular file of a TAR archive.

    Attributes:
        offset: where its bytes lie in the source; None where the archive is compressed.
        pieces: its bytes, in order, in pieces of at most 1 MiB; to be read before the next member is asked for, if at all.
    """

    name: str
    size_bytes: int
    offset: int | None
    pieces: Iterator[bytes]


def walk_tar(
    source: Source, limit_of: Callable[[str], MemberLimit], *, max_bytes: int, max_ratio: float
) -> Iterator[TarMember]:
    """Yield the archive's files in their order; what was yielded counts only once the end is reached.

    Args:
        source: the upload, a TAR archive or a gzip stream of one.
        limit_of: how large a file of that name may be; of a folder's name, which ends with `/`, too. It raises `Refusal` for
            a name that may not be there.
        max_bytes: of the whole archive, unpacked.
        max_ratio: unpacked by packed, of a gzip stream as a whole.

    Raises:
        Refusal: the container breaks a rule of this module.
    """
    if source.read_at(0, len(GZIP_MAGIC)) == GZIP_MAGIC:
        bound = min(max_bytes, int(max_ratio * source.size_bytes) + _MAX_TAIL_BYTES)
        yield from _members(_Gunzipped(source, bound), limit_of)
        return
    if source.size_bytes > max_bytes:
        raise Refusal("too-large", "byte 0", f"the archive is larger than the {max_bytes} bytes allowed.")
    plain = _Plain(source)
    yield from _members(plain, limit_of)
    if plain.position != source.size_bytes:
        raise Refusal("member-cut", "the end", "the archive ends inside a member.")


def _members(stream: _Bytes, limit_of: Callable[[str], MemberLimit]) -> Iterator[TarMember]:
    seen: set[str] = set()
    while (header := _next_header(stream, len(seen))) is not None:
        if header.name in seen:
            raise Refusal("duplicate-member", clip(header.name), "the archive holds this name twice.")
        seen.add(header.name)
        limit = limit_of(header.name)
        if header.size_bytes > limit.max_bytes:
            raise Refusal(
                "member-too-large",
                clip(header.name),
                f"it declares {header.size_bytes} bytes, {limit.max_bytes} are allowed.",
            )
        left = [header.size_bytes]
        if not header.name.endswith("/"):
            offset = stream.position if isinstance(stream, _Plain) else None
            yield TarMember(header.name, header.size_bytes, offset, _pieces(stream, left, header.name))
        stream.skip(left[0])
        _check_zeros(stream, -header.size_bytes % _BLOCK, header.name)


def _pieces(stream: _Bytes, left: list[int], name: str) -> Iterator[bytes]:
    """Yield what is left of a member, and count it down."""
    while left[0]:
        piece = stream.take(min(left[0], _STEP_BYTES))
        if not piece:
            raise Refusal("member-cut", clip(name), "the archive ends inside it.")
        left[0] -= len(piece)
        yield piece


@dataclass(frozen=True, slots=True)
class _Header:
    """One header that was understood; a folder's name ends with a slash."""

    name: str
    size_bytes: int
    kind: bytes


def _next_header(stream: _Bytes, n_before: int) -> _Header | None:
    """Return the header of the next member, None at the end of the archive."""
    raw = stream.take(_BLOCK)
    if raw == bytes(_BLOCK):
        _check_tail(stream)
        return None
    if n_before >= _MAX_MEMBERS:
        raise Refusal("too-many-members", f"member {n_before}", f"more than {_MAX_MEMBERS} members are not accepted.")
    header = _parse(raw, n_before)
    if header.kind == b"x":
        _check_extended(stream, header)
        header = _parse(stream.take(_BLOCK), n_before)
        if header.kind == b"x":
            raise Refusal("tar-extension", header.name, "two extended headers in a row are not accepted.")
    return header


def _parse(raw: bytes, n_before: int) -> _Header:
    at = f"member {n_before}"
    if len(raw) < _BLOCK:
        raise Refusal("no-end", at, "the archive is cut, or does not end with two empty blocks.")
    (
        name,
        mode,
        uid,
        gid,
        size,
        mtime,
        checksum,
        kind,
        link,
        magic,
        _user,
        _group,
        major,
        minor,
        prefix,
        pad,
    ) = _HEADER.unpack(raw)
    blanked = raw[: _CHECKSUM.start] + b" " * 8 + raw[_CHECKSUM.stop :]
    if magic not in _MAGICS:
        raise Refusal("tar-header", at, "this is no header of a POSIX or GNU TAR archive.")
    if _octal(checksum, at) != sum(blanked):
        raise Refusal("tar-header", at, "the header's checksum is wrong.")
    for number in (mode, uid, gid, mtime, major, minor):  # at one that it cannot read a reader may stop, or go on
        _octal(number, at)
    kind = b"0" if kind == b"\0" else kind
    at = f"{at}: {clip(name.rstrip(bytes(1)))}"
    if kind not in (b"0", b"5", b"x"):
        raise Refusal("not-a-file", at, f"a member of type {clip(kind)} is not accepted, only files and folders are.")
    if (prefix.strip(b"\0") and magic != _POSIX) or link.strip(b"\0") or pad.strip(b"\0"):
        raise Refusal("tar-header", at, "a link's target, or a field that only GNU tar knows, is not accepted.")
    n_bytes = _octal(size, at)
    text = _plain_name(prefix.split(b"\0")[0], name.split(b"\0")[0], kind) if kind != b"x" else at
    if kind == b"5" and n_bytes:
        raise Refusal("not-a-file", clip(text), "a folder has no bytes.")
    return _Header(text, n_bytes, kind)


def _octal(field: bytes, at: str) -> int:
    match = _OCTAL.fullmatch(field)
    if match is None:
        raise Refusal("tar-header", at, "a number in the header is not octal.")
    return int(match[1] or b"0", 8)


def _plain_name(prefix: bytes, name: bytes, kind: bytes) -> str:
    """Return a member's name without `./` before it, if it is one that could not mean another place."""
    whole = prefix + b"/" + name if prefix else name
    try:
        text = whole.decode("ascii")
    except UnicodeDecodeError:
        raise Refusal("member-name", clip(whole), "the member's name is not ASCII.") from None
    bare = text.removesuffix("/") if kind == b"5" else text
    bare = "" if bare == "." else bare.removeprefix("./")
    is_plain = not set(bare.split("/")) & {"", ".", ".."} and not any(character in bare for character in "\\:")
    if not (is_plain and bare.isprintable()) and not (bare == "" and kind == b"5"):
        raise Refusal("member-name", clip(text), "a member's name must be a plain relative file name.")
    return f"{bare}/" if kind == b"5" else bare


def _check_extended(stream: _Bytes, header: _Header) -> None:
    """Refuse an extended header that says more than times and owners."""
    if header.size_bytes > _MAX_EXTENDED_BYTES:
        raise Refusal("tar-extension", header.name, "an extended header of this size is not accepted.")
    raw, position = stream.take(header.size_bytes), 0
    while position < len(raw):
        record = _RECORD.match(raw, position)
        if record is None or record.end() - position != int(record[1]):
            raise Refusal("tar-extension", header.name, "an extended header is malformed.")
        if record[2] not in _HARMLESS_KEYS:
            raise Refusal(
                "tar-extension",
                header.name,
                f"the extended header {clip(record[2])} is not accepted: pack with `tar --format=gnu` and without extended "
                f"attributes.",
            )
        position = record.end()
    _check_zeros(stream, -header.size_bytes % _BLOCK, header.name)


def _check_zeros(stream: _Bytes, n_bytes: int, at: str) -> None:
    filling = stream.take(n_bytes)
    if len(filling) < n_bytes:
        raise Refusal("member-cut", clip(at), "the archive ends inside it.")
    if filling.strip(b"\0"):
        raise Refusal("unclaimed-bytes", clip(at), "what fills up its last block is not zero.")


def _check_tail(stream: _Bytes) -> None:
    """Refuse an archive that ends otherwise than with empty blocks; the first one has been read."""
    tail = stream.take(_MAX_TAIL_BYTES + 1)
    if len(tail) < _BLOCK:
        raise Refusal("no-end", "the end", "the archive does not end with two empty blocks.")
    if tail.strip(b"\0") or len(tail) > _MAX_TAIL_BYTES:
        raise Refusal("unclaimed-bytes", "the end", "bytes follow the end of the archive.")


def _gzip_header_bytes(source: Source) -> int:
    head = source.read_at(0, _GZIP.size + _MAX_NAME_BYTES)
    if len(head) < _GZIP.size:
        raise Refusal("gzip-header", "byte 0", "the file is too short to be a gzip stream.")
    _magic, method, flags, _time, _level, _system = _GZIP.unpack_from(head)
    end = head.find(b"\0", _GZIP.size) + 1 if flags == _HAS_NAME else _GZIP.size
    if method != _DEFLATE or flags not in (0, _HAS_NAME) or not end:
        raise Refusal("gzip-header", "byte 3", "a gzip header with more than a file name is not accepted.")
    return end
