"""Sealing and opening stream: neither takes memory in proportion to the model, beyond the model itself."""

import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import functools, os, resource, sys, uuid
from pathlib import Path
from maas_gateway.crypto.envelope import ArtifactHeader, ArtifactOpener, ArtifactSealer, DataKey
from maas_gateway.registry.directory import DirectoryBlobs
from maas_gateway.registry.memory import AnonymousMemory, MemoryFile

SIZE, ROOM = 192 << 20, 64 << 20
block = os.urandom(1 << 20)
header = ArtifactHeader(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), version=1, role="litert")
key, name = DataKey.generate(), str(header.artifact_id)
blobs = DirectoryBlobs(Path(sys.argv[1]))

def data_bytes():
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmData")).split()[1]) << 10

def allow(n_bytes):
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes() + n_bytes, resource.RLIM_INFINITY))

def seal():
    sealer = ArtifactSealer(key, header)
    yield sealer.prefix()
    for _ in range(0, SIZE, len(block)):
        yield sealer.update(block)
    yield sealer.finish()

allow(ROOM)
blobs.write(name, seal())
with blobs.open(name) as source:
    opener = ArtifactOpener(key, header, header.context(), source)
    if sys.argv[2] == "a memory file":
        allow(ROOM)
        memory = MemoryFile(opener.size_bytes).fill(functools.partial(opener.open_each, n_threads=2))
        last = os.pread(memory.descriptor, len(block), SIZE - len(block))
    else:
        allow(ROOM + SIZE)
        memory = AnonymousMemory(opener.size_bytes).fill(functools.partial(opener.open_into, n_threads=2))
        last = bytes(memory.content[-len(block):])
    assert last == block
allow(ROOM)  # memory that is closed to writing is no data any more
try:
    bytearray(SIZE)
except MemoryError:
    print("bounded")
"""


@pytest.mark.parametrize("kind", ["a memory file", "anonymous memory"])
def test_an_artifact_is_sealed_and_opened_within_64_mib_beyond_the_model(kind: str, tmp_path: Path) -> None:
    """The kernel refuses the process more; that it would is what the last allocation shows."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path / "blobs"), kind],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "bounded\n"), done.stderr
