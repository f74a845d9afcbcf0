"""Sealing and opening 256 MiB, against the primitive alone, against Fernet, and against a mere copy.

What is opened is a sealed file in the page cache, into a memory file, by the gateway's own parts
(`registry.memory`, `registry.directory`, `crypto.envelope`). The copy puts the same bytes, 1 MiB at a
time, into a fresh memory file through a mapping whose pages were made first; `write(2)` is the quicker
way of copying, since a page that is written whole is neither cleared nor faulted in. Raw AES-GCM and Fernet go from memory to memory.

Times are the thread's processor time: nothing here waits, and what else the machine does counts less.
"""

import contextlib
import mmap
import os
import statistics
import time
import uuid
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from report import Comparison, paired

from maas_gateway.crypto.envelope import ArtifactHeader, ArtifactOpener, ArtifactSealer, DataKey
from maas_gateway.registry.directory import DirectoryBlobs
from maas_gateway.registry.memory import MemoryFile

N_BYTES: Final = 256 << 20
BLOCK_BYTES: Final = 1 << 20
ROUNDS: Final = 5
FERNET_TARGET: Final = 8.0
COPY_TARGET: Final = 0.8

_NONCE: Final = bytes(12)  # one key for each round, thrown away: nothing is kept secret here
_MADV_POPULATE_WRITE: Final = 23


def measure(folder: Path) -> list[Comparison]:
    """Return how fast sealing and opening are."""
    subject = _Subject(folder)
    acts: dict[str, Callable[[], float]] = {
        "seal": subject.seal,
        "encrypt": subject.encrypt,
        "fernet encrypt": subject.fernet_encrypt,
        "open": subject.open,
        "decrypt": subject.decrypt,
        "fernet decrypt": subject.fernet_decrypt,
        "copy": subject.copy,
        "write": subject.write,
    }
    rates: dict[str, list[float]] = defaultdict(list)
    for number in range(ROUNDS + 1):
        for name, act in acts.items():
            mib_per_s = (N_BYTES >> 20) / act()
            if number:  # the first round warms up
                rates[name].append(mib_per_s)

    def line(what: str, ours: str, theirs: str, *, reads: str, target: float | None = None) -> Comparison:
        texts = [f"{statistics.median(rates[name]):,.0f} MiB/s" for name in (ours, theirs)]
        return Comparison(_PART, what, *texts, paired(rates[ours], rates[theirs]), reads, target)

    return [
        line("sealing, against raw AES-256-GCM", "seal", "encrypt", reads="of raw"),
        line("sealing, against Fernet", "seal", "fernet encrypt", reads="of Fernet"),
        line("opening, against raw AES-256-GCM", "open", "decrypt", reads="of raw"),
        line("opening, against Fernet", "open", "fernet decrypt", reads="of Fernet", target=FERNET_TARGET),
        line(
            "opening, against a copy into a mapped memory file",
            "open",
            "copy",
            reads="of a copy",
            target=COPY_TARGET,
        ),
        line("opening, against write(2) into a memory file", "open", "write", reads="of writing"),
    ]


_PART: Final = f"Sealing and opening {N_BYTES >> 20} MiB; opening: a file in the page cache into a memory file"


class _Subject:
    """The bytes, in every form that is needed; each act returns the seconds that it took."""

    def __init__(self, folder: Path) -> None:
        self._plain = os.urandom(BLOCK_BYTES) * (N_BYTES // BLOCK_BYTES)
        self._view = memoryview(self._plain)
        self._header = ArtifactHeader(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), version=1, role="litert")
        self._data_key = DataKey.generate()
        self._name = str(self._header.artifact_id)
        self._blobs = DirectoryBlobs(folder / "blobs")
        sealer = ArtifactSealer(self._data_key, self._header)
        self._blobs.write(self._name, [sealer.prefix(), sealer.update(self._plain), sealer.finish()])
        self._aead = AESGCM(AESGCM.generate_key(bit_length=256))
        self._encrypted = [self._aead.encrypt(_NONCE, block, None) for block in self._blocks()]
        self._fernet = Fernet(Fernet.generate_key())
        self._token = self._fernet.encrypt(self._plain)
        self._buffer = bytearray(BLOCK_BYTES)

    def seal(self) -> float:
        """Seal as an upload is, all but the disk."""
        began_s = time.process_time()
        sealer = ArtifactSealer(DataKey.generate(), self._header)
        sealer.prefix()
        for block in self._blocks():
            sealer.update(block)
        sealer.finish()
        return time.process_time() - began_s

    def open(self) -> float:
        """Open as the data plane does when it loads a model."""
        began_s = time.process_time()
        with self._blobs.open(self._name) as source:
            opener = ArtifactOpener(self._data_key, self._header, self._header.context(), source)
            memory = MemoryFile(opener.size_bytes).fill(opener.open_each)
        took_s = time.process_time() - began_s
        with memory:
            assert os.pread(memory.descriptor, BLOCK_BYTES, N_BYTES - BLOCK_BYTES) == self._plain[-BLOCK_BYTES:]
        return took_s

    def copy(self) -> float:
        """Copy the same bytes into a fresh memory file through a mapping whose pages are there already."""
        began_s = time.process_time()
        descriptor = os.memfd_create("copy")
        os.posix_fallocate(descriptor, 0, N_BYTES)
        with mmap.mmap(descriptor, N_BYTES) as mapping:
            with contextlib.suppress(OSError):  # a kernel before 5.14 does not know it
                mapping.madvise(_MADV_POPULATE_WRITE)
            with memoryview(mapping) as target:
                for start in range(0, N_BYTES, BLOCK_BYTES):
                    target[start : start + BLOCK_BYTES] = self._view[start : start + BLOCK_BYTES]
        took_s = time.process_time() - began_s
        os.close(descriptor)
        return took_s

    def write(self) -> float:
        """Write the same bytes into a memory file that is not mapped: no page is cleared or faulted in."""
        began_s = time.process_time()
        descriptor = os.memfd_create("copy")
        for block in self._blocks():
            os.write(descriptor, block)
        took_s = time.process_time() - began_s
        os.close(descriptor)
        return took_s

    def encrypt(self) -> float:
        """Encrypt block by block, each into fresh bytes."""
        began_s = time.process_time()
        for block in self._blocks():
            self._aead.encrypt(_NONCE, block, None)
        return time.process_time() - began_s

    def decrypt(self) -> float:
        """Decrypt block by block into one buffer."""
        began_s = time.process_time()
        for block in self._encrypted:
            self._aead.decrypt_into(_NONCE, block, None, self._buffer)
        return time.process_time() - began_s

    def fernet_encrypt(self) -> float:
        """Encrypt at once, which is all that Fernet can."""
        began_s = time.process_time()
        self._fernet.encrypt(self._plain)
        return time.process_time() - began_s

    def fernet_decrypt(self) -> float:
        """Decrypt at once."""
        began_s = time.process_time()
        self._fernet.decrypt(self._token)
        return time.process_time() - began_s

    def _blocks(self) -> list[memoryview]:
        return [self._view[start : start + BLOCK_BYTES] for start in range(0, N_BYTES, BLOCK_BYTES)]
