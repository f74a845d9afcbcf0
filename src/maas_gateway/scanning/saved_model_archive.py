"""A SavedModel in one file: a ZIP or TAR archive of its folder, and which files may be in there.

Rules:
    * `saved_model.pb`, `variables/variables.index` and all of `variables/variables.data-00000-of-0000N`, perhaps
      `fingerprint.pb` and Keras's `keras_metadata.pb`, which nobody reads. All of them at the top, or all below one folder.
    * `variables/`, `assets/` and `assets.extra/` may be there as folders; no file may be in the latter two: an asset is
      read by its path when the graph runs.
    * The container's rules are those of `archives` and `tars`. `saved_model.pb` may be of 1 GiB where it is not
      compressed, and is then looked at where it lies; of 64 MiB where it is.

What is yielded counts only once the end of the archive is reached.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from maas_gateway.scanning.archives import Allowance, MemberLimit, read_members, stream_member
from maas_gateway.scanning.scanner import Refusal, Source, clip
from maas_gateway.scanning.tars import GZIP_MAGIC, TAR_MAGIC, TAR_MAGIC_AT, walk_tar

GRAPH: Final = "saved_model.pb"
INDEX: Final = "variables/variables.index"
IGNORED: Final = frozenset(("fingerprint.pb", "keras_metadata.pb"))
"""Files that may be there and that nobody reads."""

_MIB: Final = 1024 * 1024
_HEAD_BYTES: Final = 512
_ZIP_MAGIC: Final = b"PK"
_SHARD: Final = re.compile(r"variables/variables\.data-(?P<index>[0-9]{5})-of-(?P<count>[0-9]{5})")
_PATH: Final = re.compile(
    r"(?P<top>[^/]+/)??(?P<path>saved_model\.pb|fingerprint\.pb|keras_metadata\.pb|variables/variables\.(?:index|data-[0-9]{5}-of-[0-9]{5}))"
)
_FOLDER: Final = re.compile(r"(?P<top>[^/]+/)??(?P<path>variables|assets|assets\.extra)?/?")
_ALLOWED_IN_ZIP: Final = Allowance(folders=True, times=True, descriptors=True)
_MAX_PACKED_GRAPH_BYTES: Final = 64 * _MIB
_MAX_GRAPH_BYTES: Final = 1024 * _MIB
_MAX_SHARDS: Final = 64
_MAX_RATIO: Final = 50.0
_SMALL: Final = MemberLimit(max_bytes=8 * _MIB, max_ratio=200.0)


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a SavedModel.

    Attributes:
        name: its path in the SavedModel's folder.
        size_bytes: unpacked.
        offset: where its bytes lie in the upload; None where they are compressed.
        pieces: its bytes in order; to be read before the next part is asked for.
        is_checked_by_reading: whether a fault of the container would show in its bytes only.
    """

    name: str
    size_bytes: int
    offset: int | None
    pieces: Iterator[bytes]
    is_checked_by_reading: bool


def is_archive(source: Source) -> bool:
    """Return whether the file looks like an archive of a kind that is accepted here."""
    head = source.read_at(0, _HEAD_BYTES)
    return head.startswith((_ZIP_MAGIC, GZIP_MAGIC)) or head[TAR_MAGIC_AT] == TAR_MAGIC


def walk_saved_model(source: Source, *, max_bytes: int) -> Iterator[Part]:
    """Yield the files of a SavedModel in the archive's order.

    Args:
        source: the upload.
        max_bytes: of all files together.

    Raises:
        Refusal: the archive breaks a rule of this module.
    """
    if not is_archive(source):
        raise Refusal(
            "not-an-archive", "byte 0", "this is neither a ZIP archive nor a TAR archive, plain or with gzip."
        )
    layout = _Layout(max_bytes)
    is_zip = source.read_at(0, len(_ZIP_MAGIC)) == _ZIP_MAGIC
    for part in _unzip(source, layout) if is_zip else _untar(source, layout, max_bytes):
        layout.count(part)
        yield part
    layout.check_complete()


class _Layout:
    """Which names have been seen, and whether they make a SavedModel."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._left_bytes = max_bytes
        self._tops: set[str] = set()
        self._folders: dict[str, str] = {}
        self._names: set[str] = set()

    def limit_of(self, name: str) -> MemberLimit:
        """Return how large a member may be.

        Raises:
            Refusal: a SavedModel has no such file.
        """
        if name.endswith("/"):
            return self._folder(name)
        match = _PATH.fullmatch(name)
        if match is None:
            raise Refusal("unexpected-member", clip(name), _objection(name))
        self._tops.add(match["top"] or "")
        if len(self._tops) > 1:
            raise Refusal("member-place", clip(name), "the files of a SavedModel must stand in one folder.")
        if match["path"] == GRAPH:
            return MemberLimit(max_bytes=_MAX_GRAPH_BYTES, max_ratio=200.0)
        if _SHARD.fullmatch(match["path"]):
            return MemberLimit(max_bytes=self._max_bytes, max_ratio=_MAX_RATIO)
        return _SMALL

    def bare(self, name: str) -> str:
        """Return a member's path in the SavedModel's folder."""
        match = _PATH.fullmatch(name)
        assert match is not None
        return match["path"]

    def count(self, part: Part) -> None:
        """Take a file into account.

        Raises:
            Refusal: all of them together are too large, or this one is too large to be unpacked in memory.
        """
        self._names.add(part.name)
        self._left_bytes -= part.size_bytes
        if self._left_bytes < 0:
            raise Refusal("too-large", clip(part.name), f"the files are of more than {self._max_bytes} bytes together.")
        if part.name == GRAPH and part.offset is None and part.size_bytes > _MAX_PACKED_GRAPH_BYTES:
            raise Refusal(
                "member-too-large",
                GRAPH,
                f"compressed it may be of {_MAX_PACKED_GRAPH_BYTES} bytes: pack the folder without compression.",
            )

    def check_complete(self) -> None:
        """Refuse what is no whole SavedModel."""
        for missing in sorted({GRAPH, INDEX} - self._names):
            raise Refusal("missing-member", missing, "the archive lacks this file of a SavedModel.")
        for top, name in self._folders.items():
            if top and top not in self._tops:
                raise Refusal("unexpected-member", clip(name), _objection(name))
        shards = [match for name in self._names if (match := _SHARD.fullmatch(name))]
        counts = {int(shard["count"]) for shard in shards}
        indices = sorted(int(shard["index"]) for shard in shards)
        if len(counts) != 1 or indices != list(range(*counts)) or len(indices) > _MAX_SHARDS:
            raise Refusal("missing-member", "variables", "the files of the variables are not complete.")

    def _folder(self, name: str) -> MemberLimit:
        match = _FOLDER.fullmatch(name)
        if match is None:
            raise Refusal("unexpected-member", clip(name), _objection(name))
        self._folders[match["top"] or ""] = name
        return MemberLimit(max_bytes=0, max_ratio=1.0)


def _objection(name: str) -> str:
    if "assets" in name.split("/"):
        return "a model with assets is not accepted, since they are read by path: put the vocabulary into the graph."
    if name.rsplit("/", 1)[-1].startswith("._"):
        return "the archive holds macOS's own files: pack with COPYFILE_DISABLE=1."
    return f"a SavedModel holds {GRAPH}, variables/ and perhaps fingerprint.pb, and nothing else."


def _unzip(source: Source, layout: _Layout) -> Iterator[Part]:
    members = read_members(source, {}, limit_of=layout.limit_of, allows=_ALLOWED_IN_ZIP)
    for name, member in members.items():
        offset = member.data_offset if member.method == 0 else None
        pieces = stream_member(source, member, layout.limit_of(name))
        yield Part(layout.bare(name), member.size_bytes, offset, pieces, is_checked_by_reading=True)


def _untar(source: Source, layout: _Layout, max_bytes: int) -> Iterator[Part]:
    # headers and filling are some more than the files
    for member in walk_tar(source, layout.limit_of, max_bytes=max_bytes + _MIB, max_ratio=_MAX_RATIO):
        yield Part(layout.bare(member.name), member.size_bytes, member.offset, member.pieces, member.offset is None)
