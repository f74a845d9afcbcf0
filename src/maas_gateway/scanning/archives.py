"""The ZIP container: one reading only, bounded, without a byte that nobody claims.

Rules (security.md 2.3, item 1):
    * The members tile the file: the first local header at offset 0, each next one where the last one's data ends, then
      the central directory, then the end record, then nothing. So no prefix, no suffix, no gap, no comment.
    * No ZIP64, no split archive, no encryption, no data descriptor, no extra field. Keras 3.15.1's own saver writes
      STORED members with flag 0, without extra field and without descriptor, so all its files pass.
    * Methods STORED and DEFLATED; a local header repeats its central entry in every field.
    * The wanted names, each once, and others only where the format names them; regular files only.
    * A format whose archives are packed by people, not by a saver, may allow what `zip -r` and writers to a pipe add
      (`Allowance`): empty folders; the extra fields of times and owners; and a data descriptor, which must repeat
      the directory's CRC and sizes, behind a DEFLATED member, whose data say themselves where they end.
    * Data is inflated in bounded steps; sizes and CRC are checked against what came out, never trusted beforehand.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.9 (data descriptor), 4.3.12 (central directory),
4.3.16 (end record); Info-ZIP's extrafld.txt for fields 0x5455 (times) and 0x7875 (owners). The reader is our own because `zipfile` looks for the end record from behind, takes the last of two equal names and
believes the central directory alone: two readers could see two archives.
"""

import stat
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from maas_gateway.scanning.scanner import Refusal, Source, clip

_LOCAL: Final = struct.Struct("<4s5H3I2H")
_CENTRAL: Final = struct.Struct("<4s6H3I5H2I")
_END: Final = struct.Struct("<4s4H2IH")
_LOCAL_MAGIC: Final = b"PK\x03\x04"
_CENTRAL_MAGIC: Final = b"PK\x01\x02"
_END_MAGIC: Final = b"PK\x05\x06"

_STORED: Final = 0
_DEFLATED: Final = 8
_DESCRIPTOR: Final = struct.Struct("<4s3I")
_DESCRIPTOR_MAGIC: Final = b"PK\x07\x08"
_EXTRA: Final = struct.Struct("<2H")
_EXTRA_SIZES: Final = {0x5455: (5, 9, 13), 0x7875: (0, 11, 15)}
"""Sizes of the extra fields that may be allowed: times (one to three of them), owners (of two or four bytes)."""

_ENCRYPTED_FLAGS: Final = 0x2041  # bits 0, 6 and 13: encrypted, strongly encrypted, masked headers
_DESCRIPTOR_FLAG: Final = 0x0008
_HARMLESS_FLAGS: Final = 0x0806  # bits 1 and 2: how hard the packer tried; bit 11: names are UTF-8
_ZIP64: Final = 0xFFFFFFFF
_ZIP64_COUNT: Final = 0xFFFF
_MAX_CENTRAL_BYTES: Final = 64 * 1024
_STEP_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class MemberLimit:
    """How large a member may be.

    Attributes:
        max_bytes: unpacked.
        max_ratio: unpacked by packed; text packs well, weights do not.
    """

    max_bytes: int
    max_ratio: float


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an archive may hold beside plain members.

    Attributes:
        folders: empty folders; they are looked at and left out.
        times: extra fields with times and owners.
        descriptors: CRC and sizes behind the data of a DEFLATED member.
    """

    folders: bool = False
    times: bool = False
    descriptors: bool = False


NOTHING: Final = Allowance()


@dataclass(frozen=True, slots=True)
class Member:
    """One member whose headers agree.

    Attributes:
        data_offset: where its packed bytes start in the file.
    """

    name: str
    method: int
    crc: int
    packed_bytes: int
    size_bytes: int
    data_offset: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """One entry of the central directory, as written."""

    fields: tuple[int, ...]  # needed version, flags, method, time, date, crc, packed, size: as in the local header
    name: bytes
    header_offset: int
    attributes: int
    extra: bytes
    n_comment_bytes: int
    disk: int

    @property
    def has_descriptor(self) -> bool:
        """Whether CRC and sizes stand behind the data."""
        return bool(self.fields[1] & _DESCRIPTOR_FLAG)


def read_directory(source: Source) -> list[str]:
    """Return the names in the central directory, clipped, for telling formats apart; empty if there is no directory."""
    try:
        return [entry.name[:256].decode("utf-8", "replace") for entry in _entries(source)[0]]
    except Refusal:
        return []


def read_members(
    source: Source,
    limits: Mapping[str, MemberLimit],
    *,
    limit_of: Callable[[str], MemberLimit | None] = lambda _name: None,
    allows: Allowance = NOTHING,
) -> dict[str, Member]:
    """Return the archive's members by name, in the order in which they lie in the file.

    Args:
        source: the upload.
        limits: the names that must be there, all of them, and how large each may be.
        limit_of: returns how large a member of another name may be, None if there may be none; it is asked about a
            folder's name, which ends with `/`, too.
        allows: what may be there beside members.

    Raises:
        Refusal: the container breaks a rule of this module.
    """
    entries, directory_offset = _entries(source)
    members: dict[str, Member] = {}
    position = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name = _name(entry, allows)
        if name in members:
            raise Refusal("duplicate-member", _at(name), "the archive holds this name twice.")
        limit = limits.get(name) or limit_of(name)
        if limit is None:
            raise Refusal(
                "unexpected-member", _at(name), f"the archive may hold {', '.join(sorted(limits))} and nothing else."
            )
        _check_entry(entry, name, allows)
        _check_size(entry, name, limit)
        member = _member(source, entry, name, position)
        position = member.data_offset + member.packed_bytes
        if entry.has_descriptor:
            position += _check_descriptor(source, member)
        members[name] = member
    if position != directory_offset:
        raise Refusal("unclaimed-bytes", f"byte {position}", "there are bytes that belong to no member.")
    for missing in sorted(set(limits) - set(members)):
        raise Refusal("missing-member", _at(missing), "the archive lacks this member.")
    return {name: member for name, member in members.items() if not name.endswith("/")}


def read_member(source: Source, member: Member, limit: MemberLimit) -> bytes:
    """Return a member's bytes, at most `limit.max_bytes` of them.

    Raises:
        Refusal: it cannot be unpacked, is larger than declared or allowed, or its CRC differs.
    """
    return b"".join(stream_member(source, member, limit))


def stream_member(source: Source, member: Member, limit: MemberLimit) -> Iterator[bytes]:
    """Yield a member's bytes in pieces of at most 1 MiB; what was yielded counts only once the end is reached.

    Raises:
        Refusal: it cannot be unpacked, is larger than declared or allowed, or its CRC differs.
    """
    bound = min(member.size_bytes, limit.max_bytes)
    n_bytes, crc = 0, 0
    for piece in _unpacked(source, member):
        n_bytes += len(piece)
        if n_bytes > bound:
            raise Refusal("member-too-large", _at(member.name), f"it unpacks to more than the {bound} bytes allowed.")
        crc = zlib.crc32(piece, crc)
        yield piece
    if n_bytes != member.size_bytes:
        raise Refusal("size-mismatch", _at(member.name), f"it declares {member.size_bytes} bytes and holds {n_bytes}.")
    if crc != member.crc:
        raise Refusal("crc-mismatch", _at(member.name), "its bytes do not fit its CRC.")


def _at(name: str) -> str:
    """Return a member's name as a place; one of ours is shown bare."""
    return name if name.isascii() and name.replace(".", "").isalnum() else clip(name)


def _entries(source: Source) -> tuple[list[_Entry], int]:
    """Return the central directory and its offset."""
    end_offset = source.size_bytes - _END.size
    if end_offset < 0:
        raise Refusal("not-an-archive", "byte 0", "the file is too short to be a ZIP archive.")
    magic, disk, start_disk, here, total, n_bytes, offset, n_comment = _END.unpack(
        source.read_at(end_offset, _END.size)
    )
    if magic != _END_MAGIC or n_comment:
        raise Refusal(
            "no-end-record",
            f"byte {end_offset}",
            "the file does not end with a ZIP end record: it is no ZIP archive, is cut, or bytes follow the archive.",
        )
    if _ZIP64 in (n_bytes, offset) or _ZIP64_COUNT in (here, total):
        raise Refusal("zip64", f"byte {end_offset}", "ZIP64 archives are not accepted.")
    if disk or start_disk or here != total:
        raise Refusal("split-archive", f"byte {end_offset}", "split archives are not accepted.")
    if offset + n_bytes != end_offset or n_bytes > _MAX_CENTRAL_BYTES:
        raise Refusal(
            "directory-misplaced",
            f"byte {end_offset}",
            "the central directory is too large or does not end where the end record begins.",
        )
    raw = source.read_at(offset, n_bytes)
    entries = list(_parse_central(raw, offset))
    if len(entries) != total:
        raise Refusal("directory-misplaced", f"byte {offset}", "the central directory has another number of entries.")
    return entries, offset


def _parse_central(raw: bytes, offset: int) -> Iterator[_Entry]:
    position = 0
    while position < len(raw):
        if len(raw) - position < _CENTRAL.size:
            raise Refusal("directory-broken", f"byte {offset + position}", "the central directory is cut.")
        (magic, _made_by, *shared, n_name, n_extra, n_comment, disk, _internal, attributes, header_offset) = (
            _CENTRAL.unpack_from(raw, position)
        )
        end = position + _CENTRAL.size + n_name + n_extra + n_comment
        if magic != _CENTRAL_MAGIC or end > len(raw):
            raise Refusal("directory-broken", f"byte {offset + position}", "this is no entry of a central directory.")
        name = raw[position + _CENTRAL.size : position + _CENTRAL.size + n_name]
        extra = raw[end - n_comment - n_extra : end - n_comment]
        yield _Entry(tuple(shared), name, header_offset, attributes, extra, n_comment, disk)
        position = end


def _name(entry: _Entry, allows: Allowance) -> str:
    """Return the entry's name if it is one that could not mean another place."""
    try:
        name = entry.name.decode("utf-8")
    except UnicodeDecodeError as cause:
        raise Refusal("member-name", clip(entry.name), "the member's name is not UTF-8.") from cause
    parts = (name.removesuffix("/") if allows.folders else name).split("/")
    is_plain = (
        bool(name)
        and not name.startswith("/")
        and not {"", ".", ".."} & set(parts)
        and not any(character in name for character in "\\:\0")
        and unicodedata.normalize("NFC", name) == name
    )
    if not is_plain:
        raise Refusal("member-name", clip(name), "a member's name must be a plain relative file name.")
    return name


def _check_entry(entry: _Entry, name: str, allows: Allowance) -> None:
    """Refuse what is not allowed and what readers disagree on."""
    _needed, flags, method, *_rest = entry.fields
    known = _HARMLESS_FLAGS | (_DESCRIPTOR_FLAG if allows.descriptors and method == _DEFLATED else 0)
    is_folder = name.endswith("/")
    kinds = (0, stat.S_IFDIR if is_folder else stat.S_IFREG)
    has_extra = bool(entry.extra) and not (allows.times and _is_times(entry.extra))
    rules = (
        (bool(flags & _ENCRYPTED_FLAGS), "encrypted-member", "encrypted members are not accepted."),
        (
            bool(flags & _DESCRIPTOR_FLAG & ~known),
            "data-descriptor",
            "a member with a data descriptor is not accepted: re-save.",
        ),
        (bool(flags & ~known), "member-flags", f"flags {flags:#06x} are not accepted."),
        (method not in (_STORED, _DEFLATED), "member-method", f"method {method} is neither STORED nor DEFLATED."),
        (_ZIP64 in (*entry.fields, entry.header_offset), "zip64", "ZIP64 members are not accepted."),
        (has_extra or bool(entry.n_comment_bytes), "member-extra", "extra fields and comments are refused."),
        (bool(entry.disk), "split-archive", "split archives are not accepted."),
        (
            stat.S_IFMT(entry.attributes >> 16) not in kinds or bool(entry.attributes & 0x10) != is_folder,
            "not-a-file",
            "a member must be a regular file, not a link or a folder.",
        ),
        (is_folder and any(entry.fields[-2:]), "not-a-file", "a folder has no bytes."),
    )
    for is_broken, rule, message in rules:
        if is_broken:
            raise Refusal(rule, _at(name), message)


def _check_size(entry: _Entry, name: str, limit: MemberLimit) -> None:
    method, packed, size = entry.fields[2], entry.fields[6], entry.fields[7]
    if size > limit.max_bytes:
        raise Refusal("member-too-large", _at(name), f"it declares {size} bytes, {limit.max_bytes} are allowed.")
    if method == _STORED and packed != size:
        raise Refusal("size-mismatch", _at(name), "a stored member must declare one size.")
    if size > limit.max_ratio * max(packed, 1):
        raise Refusal("member-ratio", _at(name), f"it unpacks to more than {limit.max_ratio:g} times its size.")


def _member(source: Source, entry: _Entry, name: str, position: int) -> Member:
    """Return the member after comparing its local header, which must stand at `position`."""
    if entry.header_offset != position:
        raise Refusal(
            "unclaimed-bytes",
            f"byte {min(position, entry.header_offset)}",
            f"member {_at(name)} does not start where the one before ends: bytes stand before it, or two overlap.",
        )
    raw = source.read_at(position, _LOCAL.size + len(entry.name))
    if len(raw) < _LOCAL.size + len(entry.name) or raw[:4] != _LOCAL_MAGIC:
        raise Refusal("header-mismatch", _at(name), "its local header is not where the directory says.")
    _magic, *shared, n_name, n_extra = _LOCAL.unpack_from(raw)
    # where sizes follow behind the data, the header before them holds zeros
    expected = (*entry.fields[:-3], 0, 0, 0) if entry.has_descriptor else entry.fields
    extra = source.read_at(position + len(raw), n_extra)
    is_same_extra = bool(n_extra) == bool(entry.extra) and (not extra or _is_times(extra))
    if tuple(shared) != expected or raw[_LOCAL.size :] != entry.name or n_name != len(entry.name) or not is_same_extra:
        raise Refusal("header-mismatch", _at(name), "its local header and its directory entry differ.")
    _needed, _flags, method, _time, _date, crc, packed, size = entry.fields
    return Member(name, method, crc, packed, size, position + len(raw) + n_extra)


def _is_times(extra: bytes) -> bool:
    """Return whether an extra field holds times and owners and nothing else."""
    position = 0
    while len(extra) - position >= _EXTRA.size:
        kind, n_bytes = _EXTRA.unpack_from(extra, position)
        if n_bytes not in _EXTRA_SIZES.get(kind, ()):
            return False
        position += _EXTRA.size + n_bytes
    return position == len(extra)


def _check_descriptor(source: Source, member: Member) -> int:
    """Return the size of the data descriptor behind a member, which must say what the directory says."""
    raw = source.read_at(member.data_offset + member.packed_bytes, _DESCRIPTOR.size)
    if raw != _DESCRIPTOR.pack(_DESCRIPTOR_MAGIC, member.crc, member.packed_bytes, member.size_bytes):
        raise Refusal("header-mismatch", _at(member.name), "what stands behind its data and its entry differ.")
    return _DESCRIPTOR.size


def _unpacked(source: Source, member: Member) -> Iterator[bytes]:
    """Yield the unpacked bytes in bounded pieces, whatever the declared size says."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == _DEFLATED else None
    position, end = member.data_offset, member.data_offset + member.packed_bytes
    while position < end:
        packed = source.read_at(position, min(_STEP_BYTES, end - position))
        if not packed:
            raise Refusal("member-cut", _at(member.name), "the file ends inside it.")
        position += len(packed)
        if inflater is None:
            yield packed
            continue
        yield from _inflate(inflater, packed, member.name)
    if inflater is not None and not inflater.eof:
        raise Refusal("deflate-broken", _at(member.name), "its compressed data is cut.")


def _inflate(inflater: "zlib._Decompress", packed: bytes, name: str) -> Iterator[bytes]:
    while not inflater.eof:
        try:
            piece = inflater.decompress(packed, _STEP_BYTES)
        except zlib.error as cause:
            raise Refusal("deflate-broken", _at(name), "its compressed data is broken.") from cause
        packed = inflater.unconsumed_tail
        if piece:
            yield piece
        if not packed and len(piece) < _STEP_BYTES:
            break
    if packed or inflater.unused_data:
        raise Refusal("deflate-broken", _at(name), "bytes follow the end of its compressed data.")
