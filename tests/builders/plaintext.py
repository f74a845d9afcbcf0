"""Looking for what must lie in no file: pieces of a model, and keys in every usual spelling."""

import base64
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

PIECE_BYTES = 32
_PAGE_BYTES = 4_096 - PIECE_BYTES
_BLOCK_BYTES = 8 << 20
_WITHOUT_FILES = {
    "proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "debugfs", "tracefs", "securityfs", "pstore", "bpf",
    "configfs", "fusectl", "binfmt_misc", "nsfs", "rpc_pipefs", "efivarfs", "autofs",
}  # fmt: skip


def pieces_of(content: bytes) -> list[bytes]:
    """Return short pieces of a model's bytes that occur nowhere else by chance: one of every 4 KiB, as a page holds.

    Args:
        content: weights, an archive or a plan.
    """
    found = [content[at : at + PIECE_BYTES] for at in range(0, len(content) - PIECE_BYTES + 1, _PAGE_BYTES)]
    return [piece for piece in found if len(set(piece)) > PIECE_BYTES // 2]


def spellings_of(key: bytes) -> list[bytes]:
    """Return a key as it is, in hexadecimal, and in Base64 of either alphabet."""
    return [key, key.hex().encode(), base64.b64encode(key).rstrip(b"="), base64.urlsafe_b64encode(key).rstrip(b"=")]


class Search:
    """Looks for needles in files.

    Args:
        needles: by what they are; each at least 32 bytes, any number of a kind.
    """

    def __init__(self, needles: Mapping[str, Iterable[bytes]]) -> None:
        self._needles = {kind: list(forms) for kind, forms in needles.items()}
        self._longest = max(len(needle) for forms in self._needles.values() for needle in forms)

    def in_file(self, path: str | Path) -> set[str]:
        """Return what kinds of needles a file holds; nothing if it is gone or not to be read."""
        found: set[str] = set()
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123  also an open file below /proc
                rest = b""
                while block := file.read(_BLOCK_BYTES):
                    found |= self.in_bytes(rest + block)
                    rest = block[-self._longest :]
        except OSError:
            return found
        return found

    def in_bytes(self, content: bytes) -> set[str]:
        """Return what kinds of needles these bytes hold."""
        return {kind for kind, forms in self._needles.items() if any(needle in content for needle in forms)}

    def in_files(self, paths: Iterable[str | Path]) -> dict[str, set[str]]:
        """Return the files that hold any, and what."""
        return {str(path): kinds for path in paths if (kinds := self.in_file(path))}


def writable_since(stamp: Path) -> list[Path]:
    """Return every file of this machine that this user can write and that was changed since `stamp` was.

    The time of a change is the kernel's (ctime): whoever writes cannot set it back.
    """
    command = ["find", *_roots(), "-xdev", "-type", "f", "-newercm", str(stamp), "-writable", "-print0"]
    listed = subprocess.run(
        command, capture_output=True, check=False, timeout=240
    )  # what vanishes meanwhile is an error
    return [Path(os.fsdecode(name)) for name in listed.stdout.split(b"\0") if name]


def open_files_of(pids: Iterable[int]) -> Iterator[tuple[str, str]]:
    """Return path and target of what processes have open, nameless files and memory included; root may ask for others'."""
    for pid in pids:
        try:
            links = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue
        for link in links:
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith("/") and not target.startswith("/dev/"):
                yield str(link), target


def _roots() -> list[str]:
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options = line.split()[:4]
        if kind not in _WITHOUT_FILES and "rw" in options.split(","):
            found.append(place.encode().decode("unicode_escape"))
    return list(dict.fromkeys(found))
