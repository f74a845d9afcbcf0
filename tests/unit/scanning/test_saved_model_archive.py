"""Archives of a SavedModel: what packers write is read as they read it, everything else is refused."""

import gzip
import io
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders.hostile_savedmodel_archives import streamed
from builders.tf_models import files_of, saved_model, tar
from maas_gateway.scanning.saved_model_archive import walk_saved_model
from maas_gateway.scanning.scanner import Refusal
from unit.scanning.keras_files import InMemory

FILES = files_of(saved_model())
Pack = Callable[[Path, Path], None]


def read(raw: bytes) -> dict[str, bytes]:
    source = InMemory(raw)
    found = {}
    for part in walk_saved_model(source, max_bytes=1 << 30):
        found[part.name] = b"".join(part.pieces)
        assert len(found[part.name]) == part.size_bytes
        assert part.offset is None or source.read_at(part.offset, part.size_bytes) == found[part.name]
    return found


def _run(*command: str) -> Pack:
    """A packer of this machine; `OUT` and `FOLDER` stand for its arguments, in the folder above the model's."""

    def pack(folder: Path, out: Path) -> None:
        words = [word.replace("OUT", str(out)).replace("FOLDER", folder.name) for word in command]
        subprocess.run(words, check=True, capture_output=True, cwd=folder.parent)

    return pack


def _tarfile(form: int, mode: str = "w", name: str = "model") -> Pack:
    def pack(folder: Path, out: Path) -> None:
        with tarfile.open(str(out), mode, format=form) as archive:  # type: ignore[call-overload]
            archive.add(folder, arcname=name)

    return pack


def _make_archive(form: str, base: str | None) -> Pack:
    def pack(folder: Path, out: Path) -> None:
        made = shutil.make_archive(str(out), form, folder if base is None else folder.parent, base)
        Path(made).rename(out)

    return pack


def _zipfile(method: int) -> Pack:
    def pack(folder: Path, out: Path) -> None:
        with zipfile.ZipFile(out, "w", method) as archive:
            for path in sorted(folder.rglob("*")):
                archive.write(path, path.relative_to(folder.parent))

    return pack


PACKERS: list[tuple[str, Pack]] = [
    ("tar of the folder", _run("tar", "-cf", "OUT", "FOLDER")),
    ("tar of its content", _run("tar", "-cf", "OUT", "-C", "FOLDER", ".")),
    ("tar with gzip", _run("tar", "-czf", "OUT", "FOLDER")),
    ("tar in the POSIX form", _run("tar", "--format=pax", "-cf", "OUT", "FOLDER")),
    ("tar in the old GNU form", _run("tar", "--format=oldgnu", "-cf", "OUT", "FOLDER")),
    ("zip -r", _run("zip", "-qr", "OUT", "FOLDER")),
    ("zip -r without compression", _run("zip", "-0qr", "OUT", "FOLDER")),
    ("tarfile, POSIX", _tarfile(tarfile.PAX_FORMAT)),
    ("tarfile, GNU", _tarfile(tarfile.GNU_FORMAT)),
    ("tarfile, ustar", _tarfile(tarfile.USTAR_FORMAT)),
    ("tarfile, of .", _tarfile(tarfile.PAX_FORMAT, name=".")),
    ("tarfile with gzip, as a stream", _tarfile(tarfile.PAX_FORMAT, "w|gz")),
    ("make_archive tar", _make_archive("tar", None)),
    ("make_archive gztar", _make_archive("gztar", "model")),
    ("make_archive zip", _make_archive("zip", None)),
    ("make_archive zip of the folder", _make_archive("zip", "model")),
    ("zipfile, stored", _zipfile(zipfile.ZIP_STORED)),
    ("zipfile, deflated", _zipfile(zipfile.ZIP_DEFLATED)),
]


@pytest.mark.parametrize("pack", [row[1] for row in PACKERS], ids=[row[0] for row in PACKERS])
def test_walk_reads_what_packers_write(pack: Pack, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "assets").mkdir()
    out = tmp_path / "model.zip"
    try:
        pack(folder, out)
    except FileNotFoundError:
        pytest.skip("this machine does not have that packer")
    assert read(out.read_bytes()) == FILES


def test_walk_reads_a_zip_archive_that_was_written_to_a_pipe() -> None:
    assert read(streamed(zipfile.ZIP_DEFLATED)) == FILES


@pytest.mark.thorough
def test_walk_refuses_a_large_graph_that_is_compressed_and_takes_it_as_it_is() -> None:
    files = {**FILES, "saved_model.pb": bytes(range(256)) * (1 << 18) + b"x"}
    assert read(tar(files)) == files
    with pytest.raises(Refusal, match="without compression"):
        read(gzip.compress(tar(files), 1))


def test_walk_bounds_all_files_together() -> None:
    with pytest.raises(Refusal) as caught:
        list(walk_saved_model(InMemory(tar(FILES)), max_bytes=len(FILES["saved_model.pb"])))
    assert caught.value.finding.rule == "too-large"


def test_walk_takes_variables_in_several_files() -> None:
    shards = {f"variables/variables.data-0000{index}-of-00003": b"x" for index in range(3)}
    files = {name: content for name, content in FILES.items() if "data" not in name} | shards
    assert read(tar(files)) == files


def _agrees(raw: bytes, theirs: Callable[[bytes], Mapping[str, bytes]]) -> bool:
    """Whether we refuse, or another reader finds the same files."""
    try:
        ours = read(raw)
    except Refusal:
        return True
    return ours == {name.removeprefix("./"): content for name, content in theirs(raw).items()}


def _untarred(raw: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        members = [member for member in archive.getmembers() if not member.isdir()]
        assert all(member.isreg() for member in members)
        return {member.name: file.read() for member in members if (file := archive.extractfile(member))}


_TAR = tar(FILES, form=tarfile.PAX_FORMAT)
_HEADERS = [at for at in range(0, len(_TAR), 512) if _TAR[at + 257 : at + 262] == b"ustar"]


def _resealed(raw: bytearray, at: int) -> bytes:
    raw[at + 148 : at + 156] = b" " * 8
    raw[at + 148 : at + 156] = b"%06o\0 " % sum(raw[at : at + 512])
    return bytes(raw)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(_HEADERS), st.integers(0, 511), st.integers(1, 255))
def test_walk_never_reads_another_archive_than_tarfile_when_a_header_is_changed(at: int, place: int, flip: int) -> None:
    raw = bytearray(_TAR)
    raw[at + place] ^= flip
    assert _agrees(_resealed(raw, at), _untarred)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(_TAR)), st.binary(max_size=8), st.integers(0, 600))
def test_walk_never_reads_another_archive_than_tarfile_when_bytes_are_put_in(at: int, put: bytes, cut: int) -> None:
    assert _agrees(_TAR[:at] + put + _TAR[at + cut :], _untarred)
