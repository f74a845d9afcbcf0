"""Scan or check files in a process that watches itself: what is touched, how long it takes, how much memory.

Run as `python scan_hostile.py scan|check <folder>` under a limit of 1 GiB of address space: `scan` asks the static
scanner of `.keras` files, `check` what the confined child does before it imports Keras. Prints one JSON object.
"""

import io
import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_GIB = 1 << 30
_WATCHED = (
    "open",
    "socket.",
    "os.",
    "subprocess.",
    "shutil.",
    "tempfile.",
    "urllib.",
    "ctypes.",
    "marshal.",
    "pickle.",
)
_FRAMEWORKS = ("keras", "tensorflow", "onnx", "torch", "numpy")


@dataclass
class _Watch:
    is_on = False

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_on and event.startswith(_WATCHED):
            self.events.append(f"{event} {arguments!r}"[:200])


@dataclass(frozen=True)
class _Bytes:
    content: bytes

    @property
    def size_bytes(self) -> int:
        return len(self.content)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        return self.content[offset : offset + n_bytes]


def _scan(raw: bytes) -> list[dict[str, str]]:
    from maas_gateway.scanning.keras_archive import KerasScanner

    return [finding.to_json() for finding in KerasScanner().scan(_Bytes(raw)).findings]


def _check(raw: bytes) -> list[dict[str, str]]:
    from maas_gateway.inference.conversion.refusal import NotConvertible
    from maas_gateway.inference.conversion.weights import check_archive

    try:
        check_archive(io.BytesIO(raw))
    except NotConvertible as refusal:
        return [{"message": str(refusal)}]
    return []


def main(act: str, folder: Path) -> None:
    """Look at every file of a folder, each watched."""
    watch = _Watch()
    sys.addaudithook(watch)
    look = {"scan": _scan, "check": _check}[act]
    look(b"")  # imports what it needs
    "".encode("cp437")  # and so does zipfile, for names that are not UTF-8
    if act == "check":
        import h5py  # noqa: F401

    resource.setrlimit(resource.RLIMIT_AS, (_GIB, _GIB))
    seen = {}
    for path in sorted(folder.iterdir()):
        raw = path.read_bytes()
        watch.events.clear()
        began, watch.is_on = time.monotonic(), True
        findings = look(raw)
        took_s, watch.is_on = time.monotonic() - began, False
        seen[path.name] = {"findings": findings, "took_s": took_s, "events": list(watch.events)}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    loaded = [name for name in _FRAMEWORKS if name in sys.modules]
    print(json.dumps({"files": seen, "peak_bytes": peak, "loaded": loaded}))  # noqa: T201  this is its answer


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
