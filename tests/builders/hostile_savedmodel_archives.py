"""Archives of a valid SavedModel that must not be unpacked, or that two readers would read in two ways."""

import gzip
import io
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, Final

from builders.hostile import Hostile
from builders.tf_models import INDEX, SHARD, files_of, saved_model, tar

_GRAPH: Final = "saved_model.pb"


def _files() -> dict[str, bytes]:
    return files_of(saved_model())


def _listed(*extra: tuple[str | tarfile.TarInfo, bytes]) -> list[tuple[str | tarfile.TarInfo, bytes]]:
    return [*_files().items(), *extra]


def _special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def _instead(name: str, member: tarfile.TarInfo) -> bytes:
    return tar([(member, b"") if entry == name else (entry, content) for entry, content in _files().items()])


def _pax(key: str, value: str) -> bytes:
    """An extended header that says something about saved_model.pb."""
    member = tarfile.TarInfo(_GRAPH)
    member.pax_headers = {key: value}
    files = [(member if name == _GRAPH else name, content) for name, content in _files().items()]
    return tar(files, form=tarfile.PAX_FORMAT)


def _global_pax() -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"}) as archive:
        for name, content in _files().items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


def _sealed(header: bytearray) -> bytes:
    """Return a header with its checksum made right."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _header(**changed: Any) -> bytes:
    """A valid archive whose first header is changed by offset."""
    raw = tar(_files())
    header = bytearray(raw[:512])
    for offset, value in changed.items():
        at = int(offset[1:])
        header[at : at + len(value)] = value
    return _sealed(header) + raw[512:]


def _filled() -> bytes:
    raw = bytearray(tar(_files()))
    size = int(raw[124:136].rstrip(b"\0 "), 8)
    raw[512 + size] = 1
    return bytes(raw)


def _zipped(
    files: Mapping[str, bytes] | list[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_STORED
) -> bytes:
    written = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(written, "w", method) as archive:
        warnings.simplefilter("ignore")  # of a name that is there already
        for name, content in files.items() if isinstance(files, Mapping) else files:
            archive.writestr(name, content)
    return written.getvalue()


def _zip_with(name: str | zipfile.ZipInfo, content: bytes = b"x") -> bytes:
    return _zipped([*_files().items(), (name, content)])


def _zip_link() -> bytes:
    info = zipfile.ZipInfo(INDEX)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return _zipped([(info if name == INDEX else name, content) for name, content in _files().items()])


class _Pipe(io.BytesIO):
    """A file that cannot be sought in, so that sizes follow behind the data."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError


def streamed(method: int) -> bytes:
    """Return a ZIP archive with data descriptors."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        for name, content in _files().items():
            archive.writestr(name, content)
    return pipe.getvalue()


def _lying_descriptor() -> bytes:
    raw = bytearray(streamed(zipfile.ZIP_DEFLATED))
    at = raw.index(b"PK\x07\x08")
    raw[at + 12 : at + 16] = struct.pack("<I", 7)
    return bytes(raw)


def _lying_header() -> bytes:
    """Sizes before the data although they follow behind it: a streaming reader takes these."""
    raw = bytearray(streamed(zipfile.ZIP_DEFLATED))
    raw[18:22] = struct.pack("<I", 3)
    return bytes(raw)


def _zip_extra(kind: int, content: bytes) -> bytes:
    info = zipfile.ZipInfo(_GRAPH)
    info.extra = struct.pack("<HH", kind, len(content)) + content
    return _zipped([(info if name == _GRAPH else name, content) for name, content in _files().items()])


def _gzip_with_field(flag: int, content: bytes) -> bytes:
    raw = bytearray(gzip.compress(tar(_files()), mtime=0))
    raw[3] |= flag
    return bytes(raw[:10]) + content + bytes(raw[10:])


def _renamed(change: Callable[[str], str]) -> bytes:
    return tar({change(name): content for name, content in _files().items()})


def _archive(name: str, about: str, build: Callable[[], bytes], rule: str, where: str) -> Hostile:
    return Hostile(name, about, lambda _scene: build(), rule, where)


def _folder(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (0o040755 << 16) | 0x10
    return info


def _wrong_crc() -> bytes:
    raw = _zipped(_files())
    return raw.replace(b"data-00000-of-00001data", b"data-00000-of-00001date")


_TARS: Final = (
    _archive(
        "climbs.tar",
        "a member above the folder",
        lambda: tar(_listed(("../../marker", b"x"))),
        "member-name",
        "'../../marker'",
    ),
    _archive(
        "climbs-inside.tar",
        "a member that climbs on its way",
        lambda: tar(_listed(("variables/../../marker", b"x"))),
        "member-name",
        "'variables/..",
    ),
    _archive(
        "absolute.tar",
        "a member of the root",
        lambda: tar(_listed(("/tmp/marker", b"x"))),
        "member-name",
        "'/tmp/marker'",
    ),
    _archive(
        "symlink.tar",
        "a file that is a symbolic link",
        lambda: _instead(INDEX, _special(INDEX, tarfile.SYMTYPE, "/etc/passwd")),
        "not-a-file",
        "member 1: b'variables/variables.index'",
    ),
    _archive(
        "symlink-folder.tar",
        "a folder that is a symbolic link",
        lambda: tar([(_special("variables", tarfile.SYMTYPE, "/tmp"), b""), *_files().items()]),
        "not-a-file",
        "member 0: b'variables'",
    ),
    _archive(
        "hardlink.tar",
        "a file that is a hard link",
        lambda: _instead(SHARD, _special(SHARD, tarfile.LNKTYPE, "/etc/passwd")),
        "not-a-file",
        "member 2: b'variables/variables.data",
    ),
    _archive(
        "device.tar",
        "a device",
        lambda: _instead(INDEX, _special(INDEX, tarfile.CHRTYPE)),
        "not-a-file",
        "member 1: b'variables/variables.index'",
    ),
    _archive(
        "block-device.tar",
        "a disk",
        lambda: _instead(INDEX, _special(INDEX, tarfile.BLKTYPE)),
        "not-a-file",
        "member 1",
    ),
    _archive(
        "pipe.tar",
        "a pipe, on which a reader waits for ever",
        lambda: _instead(INDEX, _special(INDEX, tarfile.FIFOTYPE)),
        "not-a-file",
        "member 1",
    ),
    _archive(
        "twice.tar", "a file twice", lambda: tar(_listed((_GRAPH, b"other"))), "duplicate-member", "'saved_model.pb'"
    ),
    _archive(
        "twice-by-another-name.tar",
        "a file twice, once with ./",
        lambda: tar(_listed((f"./{_GRAPH}", b"other"))),
        "duplicate-member",
        "'saved_model.pb'",
    ),
    _archive(
        "two-folders.tar",
        "files in two folders",
        lambda: tar(_listed(("other/saved_model.pb", b"x"))),
        "member-place",
        "'other/saved_model.pb'",
    ),
    _archive(
        "pax-path.tar",
        "an extended header with another name",
        lambda: _pax("path", "../../marker"),
        "tar-extension",
        "member 0",
    ),
    _archive(
        "pax-size.tar", "an extended header with another size", lambda: _pax("size", "10"), "tar-extension", "member 0"
    ),
    _archive(
        "pax-link.tar",
        "an extended header with a link's target",
        lambda: _pax("linkpath", "/etc/passwd"),
        "tar-extension",
        "member 0",
    ),
    _archive(
        "pax-sparse.tar",
        "an extended header of a sparse file",
        lambda: _pax("GNU.sparse.realsize", "99999999999"),
        "tar-extension",
        "member 0",
    ),
    _archive(
        "pax-attributes.tar",
        "an extended header with capabilities",
        lambda: _pax("SCHILY.xattr.security.capability", "x"),
        "tar-extension",
        "member 0",
    ),
    _archive("pax-global.tar", "a header for all that follow", _global_pax, "not-a-file", "member 0"),
    _archive(
        "long-name.tar",
        "GNU's long name",
        lambda: tar(_listed(("variables/" + "x" * 200, b"x"))),
        "not-a-file",
        "member 4: b'././@LongLink'",
    ),
    _archive("sparse.tar", "a sparse file", lambda: _header(_156=b"S"), "not-a-file", "member 0"),
    _archive(
        "big-number.tar",
        "a size in base 256",
        lambda: _header(_124=b"\x80" + bytes(10) + b"\x01"),
        "tar-header",
        "member 0",
    ),
    _archive("checksum.tar", "a wrong checksum", lambda: b"X" + tar(_files())[1:], "tar-header", "member 0"),
    _archive(
        "folder-with-bytes.tar",
        "a folder that has bytes",
        lambda: _header(_156=b"5"),
        "not-a-file",
        "'saved_model.pb/'",
    ),
    _archive("hidden-in-block.tar", "bytes in what fills a block up", _filled, "unclaimed-bytes", "'saved_model.pb'"),
    _archive(
        "hidden-behind.tar", "bytes behind the end", lambda: tar(_files()) + b"x" * 512, "unclaimed-bytes", "the end"
    ),
    _archive(
        "two-archives.tar",
        "an archive behind the end",
        lambda: tar(_files()) + tar(_files()),
        "unclaimed-bytes",
        "the end",
    ),
    _archive("cut.tar", "an archive without an end", lambda: tar(_files())[: 512 * 9], "no-end", "member 3"),
    _archive(
        "asset-file.tar",
        "an asset",
        lambda: tar(_listed(("assets/vocabulary.txt", b"x"))),
        "unexpected-member",
        "'assets/vocabulary.txt'",
    ),
    _archive(
        "library.tar",
        "a library of operators",
        lambda: tar(_listed(("assets.extra/operators.so", b"\x7fELF"))),
        "unexpected-member",
        "'assets.extra/operators.so'",
    ),
    _archive(
        "nested.tar",
        "an archive in the archive",
        lambda: tar(_listed(("model.zip", _zipped(_files())))),
        "unexpected-member",
        "'model.zip'",
    ),
    _archive(
        "text-graph.tar",
        "the graph as text",
        lambda: tar(_listed(("saved_model.pbtxt", b"x"))),
        "unexpected-member",
        "'saved_model.pbtxt'",
    ),
    _archive(
        "foreign-files.tar",
        "macOS's own files",
        lambda: tar(_listed(("._saved_model.pb", b"x"))),
        "unexpected-member",
        "'._saved_model.pb'",
    ),
    _archive(
        "no-index.tar",
        "no index of the variables",
        lambda: tar({name: content for name, content in _files().items() if name != INDEX}),
        "missing-member",
        "variables/variables.index",
    ),
    _archive(
        "half-variables.tar",
        "one of two files of variables",
        lambda: _renamed(lambda name: name.replace("of-00001", "of-00002")),
        "missing-member",
        "variables",
    ),
    _archive(
        "many-members.tar",
        "a thousand folders",
        lambda: tar([(_special(f"d{index}", tarfile.DIRTYPE), b"") for index in range(1000)]),
        "too-many-members",
        "member 256",
    ),
)
_GZIPS: Final = (
    _archive(
        "bomb.tar.gz",
        "200 MB of zeros",
        lambda: gzip.compress(tar({**_files(), SHARD: bytes(200_000_000)}), 9),
        "too-large",
        "gzip",
    ),
    _archive(
        "two-streams.tar.gz",
        "two gzip streams in a row",
        lambda: gzip.compress(tar(_files())) * 2,
        "unclaimed-bytes",
        "byte ",
    ),
    _archive(
        "hidden.tar.gz",
        "bytes behind the gzip stream",
        lambda: gzip.compress(tar(_files())) + b"x",
        "unclaimed-bytes",
        "byte ",
    ),
    _archive(
        "wrong-crc.tar.gz", "a wrong CRC", lambda: gzip.compress(tar(_files()))[:-8] + bytes(8), "crc-mismatch", "gzip"
    ),
    _archive(
        "cut.tar.gz",
        "a gzip stream that ends early",
        lambda: gzip.compress(tar(_files()))[:-40],
        "gzip-broken",
        "byte ",
    ),
    _archive(
        "comment.tar.gz",
        "a comment in the gzip header",
        lambda: _gzip_with_field(16, b"hidden\0"),
        "gzip-header",
        "byte 3",
    ),
    _archive(
        "extra.tar.gz",
        "an extra field in the gzip header",
        lambda: _gzip_with_field(4, b"\x02\0ab"),
        "gzip-header",
        "byte 3",
    ),
    _archive(
        "nested.tar.gz",
        "a gzip stream in a gzip stream",
        lambda: gzip.compress(gzip.compress(tar(_files()))),
        "tar-header",
        "member 0",
    ),
)
_ZIPS: Final = (
    _archive(
        "climbs.zip", "a member above the folder", lambda: _zip_with("../../marker"), "member-name", "'../../marker'"
    ),
    _archive("absolute.zip", "a member of the root", lambda: _zip_with("/tmp/marker"), "member-name", "'/tmp/marker'"),
    _archive("twice.zip", "a file twice", lambda: _zip_with(_GRAPH, b"other"), "duplicate-member", "'saved_model.pb'"),
    _archive("symlink.zip", "a file that is a symbolic link", _zip_link, "not-a-file", "'variables/variables.index'"),
    _archive(
        "assets.zip",
        "an asset",
        lambda: _zip_with("assets/vocabulary.txt"),
        "unexpected-member",
        "'assets/vocabulary.txt'",
    ),
    _archive(
        "nested.zip",
        "an archive in the archive",
        lambda: _zip_with("model.tar", tar(_files())),
        "unexpected-member",
        "'model.tar'",
    ),
    _archive(
        "bomb.zip",
        "200 MB of zeros",
        lambda: _zipped({**_files(), SHARD: bytes(200_000_000)}, zipfile.ZIP_DEFLATED),
        "member-ratio",
        "'variables/variables.data",
    ),
    _archive(
        "folder-with-bytes.zip",
        "a folder that has bytes",
        lambda: _zip_with(_folder("variables/"), b"x"),
        "not-a-file",
        "'variables/'",
    ),
    _archive(
        "lying-descriptor.zip",
        "a descriptor with another size",
        _lying_descriptor,
        "header-mismatch",
        "'saved_model.pb'",
    ),
    _archive(
        "lying-header.zip", "sizes before and behind the data", _lying_header, "header-mismatch", "'saved_model.pb'"
    ),
    _archive(
        "stored-descriptor.zip",
        "a descriptor behind bytes that do not say where they end",
        lambda: streamed(zipfile.ZIP_STORED),
        "data-descriptor",
        "'saved_model.pb'",
    ),
    _archive(
        "unicode-path.zip",
        "an extra field with another name",
        lambda: _zip_extra(0x7075, b"\x01" + bytes(4) + b"../../marker"),
        "member-extra",
        "'saved_model.pb'",
    ),
    _archive(
        "zip64-extra.zip",
        "an extra field with other sizes",
        lambda: _zip_extra(0x0001, bytes(16)),
        "member-extra",
        "'saved_model.pb'",
    ),
    _archive(
        "long-times.zip",
        "bytes hidden behind the times",
        lambda: _zip_extra(0x5455, bytes(40)),
        "member-extra",
        "'saved_model.pb'",
    ),
    _archive("wrong-crc.zip", "a wrong CRC", _wrong_crc, "crc-mismatch", "'variables/variables.data"),
    _archive(
        "prefix.zip",
        "a program before the archive",
        lambda: b"PK#!/bin/sh\n" + _zipped(_files()),
        "directory-misplaced",
        "byte ",
    ),
    _archive("not-an-archive.zip", "no archive at all", lambda: b"#!/bin/sh\n", "not-an-archive", "byte 0"),
)


ARCHIVES: Final = (*_TARS, *_GZIPS, *_ZIPS)
