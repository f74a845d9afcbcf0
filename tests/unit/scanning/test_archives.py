"""The ZIP container: what Keras and `zipfile` write passes, every second reading is refused."""

import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_gateway.scanning.archives import MemberLimit, read_member, read_members
from maas_gateway.scanning.scanner import Refusal, SourceFile
from unit.scanning.keras_files import InMemory, valid_members, zipped

_MIB = 1024 * 1024
_LIMITS = {
    "config.json": MemberLimit(8 * _MIB, 200.0),
    "metadata.json": MemberLimit(65536, 20.0),
    "model.weights.h5": MemberLimit(16 * _MIB, 20.0),
}


def _read(raw: bytes) -> dict[str, bytes]:
    source = InMemory(raw)
    return {name: read_member(source, member, _LIMITS[name]) for name, member in read_members(source, _LIMITS).items()}


def _with(*extra: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    return zipped([*valid_members(), *extra])


def _linked(name: str, mode: int) -> bytes:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return zipped([(info if item[0] == name else item[0], item[1]) for item in valid_members()])


def _patched(raw: bytes, magic: bytes, at: int, value: bytes) -> bytes:
    """Overwrite bytes of the last header that begins with `magic`."""
    start = raw.rindex(magic) + at
    return raw[:start] + value + raw[start + len(value) :]


def _both(raw: bytes, local_at: int, central_at: int, value: bytes) -> bytes:
    return _patched(_patched(raw, b"PK\x01\x02", central_at, value), b"PK\x03\x04", local_at, value)


def _deflated(data: bytes) -> bytes:
    return zipped(
        [(name, data if name == "model.weights.h5" else old) for name, old in valid_members()], zipfile.ZIP_DEFLATED
    )


def _lying(declared: int) -> bytes:
    """Weights of 400 bytes, deflated, that declare another size in both headers."""
    raw = _deflated(bytes(range(200)) * 2)
    return _both(raw, 22, 24, struct.pack("<I", declared))


def _hidden() -> bytes:
    """Weights whose packed bytes go on after their deflate stream has ended; all sizes and offsets fit."""
    data = zlib.compressobj(wbits=-15)
    packed = data.compress(b"weights") + data.flush() + b"hidden"
    raw = zipped([*valid_members()[:2], ("model.weights.h5", packed)])
    raw = _both(raw, 8, 10, b"\x08\x00")
    raw = _both(raw, 14, 16, struct.pack("<I", zlib.crc32(b"weights")))
    return _both(raw, 22, 24, struct.pack("<I", len(b"weights")))


def _gap() -> bytes:
    """Two bytes between the members and the directory, which is moved accordingly."""
    raw = zipped(valid_members())
    start = raw.index(b"PK\x01\x02")
    moved = raw[:start] + b"PK" + raw[start:]
    return _patched(moved, b"PK\x05\x06", 16, struct.pack("<I", start + 2))


def _streamed() -> bytes:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as target:
        for name, data in valid_members():
            target.writestr(name, data)
    return pipe.getvalue()


def _zip64() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for name, data in valid_members():
            with target.open(name, "w", force_zip64=True) as member:
                member.write(data)
    return file.getvalue()


_VALID = zipped(valid_members())
_HOSTILE = [
    ("an empty file", b"", "not-an-archive"),
    ("bytes before the archive", b"#!/bin/sh\n" + _VALID, "directory-misplaced"),
    ("bytes after the archive", _VALID + b"x", "no-end-record"),
    ("a comment", _patched(_VALID, b"PK\x05\x06", 20, b"\x01\x00") + b"x", "no-end-record"),
    ("two archives in a row", _VALID + _VALID, "directory-misplaced"),
    ("a cut file", _VALID[:-1], "no-end-record"),
    ("bytes between members and directory", _gap(), "unclaimed-bytes"),
    ("config.json twice", _with(("config.json", b"{}")), "duplicate-member"),
    ("a fourth member", _with(("assets/vocabulary.txt", b"a")), "unexpected-member"),
    ("weights as npz beside", _with(("model.weights.npz", b"a")), "unexpected-member"),
    ("a member less", zipped(valid_members()[:2]), "missing-member"),
    ("no member at all", zipped([]), "missing-member"),
    ("a member that climbs", _with(("../../x", b"a")), "member-name"),
    ("a member that climbs inside", _with(("assets/../x", b"a")), "member-name"),
    ("an absolute member", _with(("/etc/x", b"a")), "member-name"),
    ("a member with a backslash", _with(("..\\x", b"a")), "member-name"),
    ("a member with a drive", _with(("C:x", b"a")), "member-name"),
    ("a folder", _with(("assets/", b"")), "member-name"),
    ("a name that is not NFC", _with(("cafe\u0301.json", b"a")), "member-name"),
    ("a name with NUL", _both(_VALID, 30, 46, b"model\0weights.h5"), "member-name"),
    ("a name that is not UTF-8", _both(_VALID, 30, 46, b"\xff"), "member-name"),
    ("a symbolic link as config.json", _linked("config.json", 0o120777), "not-a-file"),
    ("a device as weights", _linked("model.weights.h5", 0o020666), "not-a-file"),
    ("a folder by its attribute", _patched(_VALID, b"PK\x01\x02", 38, b"\x10"), "not-a-file"),
    ("an encrypted member", _both(_VALID, 6, 8, b"\x01\x00"), "encrypted-member"),
    ("a data descriptor", _streamed(), "data-descriptor"),
    ("an unknown flag", _both(_VALID, 6, 8, b"\x00\x01"), "member-flags"),
    ("method BZIP2", zipped(valid_members(), zipfile.ZIP_BZIP2), "member-method"),
    ("method LZMA", zipped(valid_members(), zipfile.ZIP_LZMA), "member-method"),
    ("ZIP64 sizes", _zip64(), "header-mismatch"),
    ("ZIP64 in the end record", _patched(_VALID, b"PK\x05\x06", 16, b"\xff" * 4), "zip64"),
    ("a split archive", _patched(_VALID, b"PK\x05\x06", 4, b"\x01\x00"), "split-archive"),
    ("another count of entries", _patched(_VALID, b"PK\x05\x06", 8, b"\x02\x00\x02\x00"), "directory-misplaced"),
    ("a local name that differs", _patched(_VALID, b"PK\x03\x04", 30, b"modem"), "header-mismatch"),
    ("a local size that differs", _patched(_VALID, b"PK\x03\x04", 22, b"\x01"), "header-mismatch"),
    ("a local method that differs", _patched(_VALID, b"PK\x03\x04", 8, b"\x08"), "header-mismatch"),
    ("a local CRC that differs", _patched(_VALID, b"PK\x03\x04", 14, b"\x01\x02\x03\x04"), "header-mismatch"),
    ("a local flag that differs", _patched(_VALID, b"PK\x03\x04", 6, b"\x00\x08"), "header-mismatch"),
    ("two entries for one place", _patched(_VALID, b"PK\x01\x02", 42, bytes(4)), "unclaimed-bytes"),
    ("a wrong CRC in both headers", _both(_VALID, 14, 16, b"\x01\x02\x03\x04"), "crc-mismatch"),
    ("a stored member of two sizes", _both(_VALID, 22, 24, b"\x01\x00\x00\x00"), "size-mismatch"),
    ("a config of 200 MB", zipped([("config.json", b" " * 200_000_000)], zipfile.ZIP_DEFLATED), "member-too-large"),
    ("weights that unpack a thousandfold", _deflated(bytes(8 * _MIB)), "member-ratio"),
    ("weights larger than they declare", _lying(100), "member-too-large"),
    ("weights smaller than they declare", _lying(500), "size-mismatch"),
    ("bytes behind a deflate stream", _hidden(), "deflate-broken"),
    ("a broken deflate stream", _both(_VALID, 8, 10, b"\x08\x00"), "deflate-broken"),
]


@pytest.mark.parametrize(("raw", "rule"), [row[1:] for row in _HOSTILE], ids=[row[0] for row in _HOSTILE])
def test_read_members_refuses(raw: bytes, rule: str) -> None:
    with pytest.raises(Refusal) as caught:
        _read(raw)
    assert caught.value.finding.rule == rule
    assert caught.value.finding.where


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_read_members_returns_what_was_packed(method: int) -> None:
    assert _read(zipped(valid_members(), method)) == dict(valid_members())


def test_read_member_returns_all_of_a_large_deflated_member() -> None:
    noise = b"".join(zlib.crc32(index.to_bytes(4, "big")).to_bytes(4, "big") * 3 for index in range(400_000))
    assert _read(_deflated(noise))["model.weights.h5"] == noise


def _agree(raw: bytes) -> bool:
    """Whether we refuse, or `zipfile` reads the same three members."""
    try:
        ours = _read(raw)
    except Refusal:
        return True
    with zipfile.ZipFile(SourceFile(InMemory(raw))) as theirs:
        return ours == {name: theirs.read(name) for name in theirs.namelist()}


_COMPACT = zipped(valid_members(), zipfile.ZIP_DEFLATED)


@given(st.integers(0, len(_COMPACT) - 1), st.integers(1, 255))
def test_read_members_never_reads_another_archive_than_zipfile_when_a_byte_is_changed(at: int, flip: int) -> None:
    raw = bytearray(_COMPACT)
    raw[at] ^= flip
    assert _agree(bytes(raw))


@given(st.integers(0, len(_COMPACT)), st.binary(max_size=8), st.integers(0, 8))
def test_read_members_never_reads_another_archive_than_zipfile_when_bytes_are_put_in(
    at: int, put: bytes, cut: int
) -> None:
    assert _agree(_COMPACT[:at] + put + _COMPACT[at + cut :])


@pytest.mark.parametrize(
    "use",
    [
        lambda file: file.seek(-1),
        lambda file: file.seek(0, 7),
        lambda file: file.seek(-9, io.SEEK_END),
    ],
)
def test_source_file_refuses_to_seek_outside(use: Callable[[SourceFile], int]) -> None:
    with pytest.raises(ValueError, match=r"start|whence"):
        use(SourceFile(InMemory(b"abc")))


def test_source_file_reads_like_a_file() -> None:
    file = SourceFile(InMemory(b"abcdef"))
    assert file.readable()
    assert file.seekable()
    assert (file.read(2), file.tell(), file.read(), file.read(1)) == (b"ab", 2, b"cdef", b"")
    assert file.seek(-2, io.SEEK_END) == 4
    assert file.readall() == b"ef"
    assert file.seek(1) == 1
    assert file.seek(1, io.SEEK_CUR) == 2
    into = bytearray(8)
    assert file.readinto(into) == 4
    assert into == b"cdef" + bytes(4)
    assert file.seek(100) == 100
    assert file.read() == b""
