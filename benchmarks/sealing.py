"""Sealing and opening 256 MiB, against the primitive alone, against Fernet, and against a mere copy.

What is opened is a sealed file in the page cache, by the gateway's own parts (`registry.memory`,
`registry.directory`, `crypto.envelope`), into a memory file and into anonymous memory with huge pages.
The copy puts the same bytes, 1 MiB at a time, into fresh memory of the same kind, locked alike, through
a mapping. Into a memory file `write(2)` is the quicker way of copying, and the one that we use after
opening: a page that is written whole is neither cleared nor faulted in. What is sealed goes into a
file, hashed on the way; the other hashes once and writes the plaintext. Raw AES-GCM and Fernet go from
memory to memory; Fernet, which is as quick at any size, with less of it.

The memory that opening takes beyond the model is measured with 1 GiB. Speed is the same at that size,
but a round of it takes so long that a virtual machine gives its free memory back to the host in
between (Linux, free page reporting, 2 s), and having it again takes up to thirty times as long as
anything here. For the same reason as much memory is asked for and given back before each act.

Times are those of the clock, because opening shares its work between two threads, as the data plane
does; what it is compared with has one.
"""

import contextlib
import ctypes
import hashlib
import mmap
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from report import Comparison

from maas_gateway.confinement.limits import lock_memory
from maas_gateway.crypto.chunked import ByteSource
from maas_gateway.crypto.envelope import ArtifactHeader, ArtifactOpener, ArtifactSealer, DataKey
from maas_gateway.registry.directory import DirectoryBlobs
from maas_gateway.registry.memory import AnonymousMemory, MemoryFile, Take

N_BYTES: Final = 256 << 20
LARGE_BYTES: Final = 1 << 30
FERNET_BYTES: Final = 64 << 20
BLOCK_BYTES: Final = 1 << 20
ROUNDS: Final = 7
N_THREADS: Final = 2
FERNET_TARGET: Final = 8.0
HUGE_TARGET: Final = 25.0
COPY_TARGET: Final = 0.8
SEALING_TARGET: Final = 0.7
ROOM_BYTES: Final = 64 << 20

_NONCE: Final = bytes(12)  # one key for each round, thrown away: nothing is kept secret here


def measure(folder: Path) -> list[Comparison]:
    """Return how fast sealing and opening are, and what memory opening takes."""
    subject = _Subject(folder)
    acts: dict[str, tuple[int, Callable[[], float]]] = {
        "seal": (N_BYTES, subject.seal),
        "hash": (N_BYTES, subject.hash_and_write),
        "fernet encrypt": (FERNET_BYTES, subject.fernet_encrypt),
        "open": (N_BYTES, subject.open),
        "copy": (N_BYTES, subject.copy),
        "write": (N_BYTES, subject.write),
        "open huge": (N_BYTES, subject.open_huge),
        "copy huge": (N_BYTES, subject.copy_huge),
        "decrypt": (N_BYTES, subject.decrypt),
        "fernet decrypt": (FERNET_BYTES, subject.fernet_decrypt),
    }
    rates: dict[str, list[float]] = defaultdict(list)
    for number in range(ROUNDS + 1):
        for name, (n_bytes, act) in acts.items():
            _take_and_give_back(n_bytes)
            mib_per_s = (n_bytes >> 20) / act()
            if number:  # the first round warms up
                rates[name].append(mib_per_s)
    return [*_speeds(rates), *_rooms(subject)]


def _take_and_give_back(n_bytes: int) -> None:
    with mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as mapping:
        with contextlib.suppress(OSError):  # a kernel may have none
            mapping.madvise(mmap.MADV_HUGEPAGE)
        mapping[:: mmap.PAGESIZE] = bytes(n_bytes // mmap.PAGESIZE)


def _speeds(rates: dict[str, list[float]]) -> Iterator[Comparison]:
    def line(what: str, ours: str, theirs: str, *, reads: str, target: float | None = None) -> Comparison:
        return Comparison.of_rounds(_PART, what, "MiB/s", (rates[ours], rates[theirs]), reads=reads, at_least=target)

    of_copy, of_fernet = "of a copy", "of Fernet"
    yield line("sealing, against hashing once and writing", "seal", "hash", reads="of that", target=SEALING_TARGET)
    yield line("sealing, against Fernet", "seal", "fernet encrypt", reads=of_fernet)
    yield line("opening, against copying", "open", "copy", reads=of_copy, target=COPY_TARGET)
    yield line("opening, against copying by write(2)", "open", "write", reads="of writing")
    yield line("opening, against Fernet", "open", "fernet decrypt", reads=of_fernet, target=FERNET_TARGET)
    yield line("opening, huge pages, against copying", "open huge", "copy huge", reads=of_copy, target=COPY_TARGET)
    yield line(
        "opening, huge pages, against Fernet", "open huge", "fernet decrypt", reads=of_fernet, target=HUGE_TARGET
    )
    yield line("opening, huge pages, against raw AES-256-GCM", "open huge", "decrypt", reads="of raw")


def _rooms(subject: "_Subject") -> Iterator[Comparison]:
    subject.store(LARGE_BYTES)
    for kind, n_bytes in (("", subject.room()), (", huge pages", subject.room_huge())):
        texts = (f"{n_bytes / BLOCK_BYTES:.1f} MiB", f"{ROOM_BYTES >> 20} MiB")
        share = n_bytes / ROOM_BYTES
        what = f"memory beyond the model, opening {LARGE_BYTES >> 30} GiB{kind}"
        yield Comparison(_PART, what, *texts, share, "of the room", at_most=1.0)


_PART: Final = f"Sealing and opening {N_BYTES >> 20} MiB; opening: from the page cache into a memory file"


class _Subject:
    """The bytes, in every form that is needed; each act returns the seconds that it took."""

    def __init__(self, folder: Path) -> None:
        self._plain = os.urandom(BLOCK_BYTES) * (N_BYTES // BLOCK_BYTES)
        self._view = memoryview(self._plain)
        self._header = ArtifactHeader(uuid.uuid4(), uuid.uuid4(), uuid.uuid4(), version=1, role="litert")
        self._data_key = DataKey.generate()
        self._name = str(self._header.artifact_id)
        self._blobs = DirectoryBlobs(folder / "blobs")
        self._aead = AESGCM(AESGCM.generate_key(bit_length=256))
        self._block = self._aead.encrypt(_NONCE, self._view[:BLOCK_BYTES], None)
        self.store(N_BYTES)
        self._fernet = Fernet(Fernet.generate_key())
        self._token = self._fernet.encrypt(self._plain[:FERNET_BYTES])
        self._buffer = bytearray(BLOCK_BYTES)

    def store(self, n_bytes: int) -> None:
        """Put a sealed file of that size, of the same block again and again, where `open` finds it."""
        self._blobs.write(self._name, self._sealed(n_bytes))

    def seal(self) -> float:
        """Seal and store as an upload is."""
        began_s = time.perf_counter()
        self._blobs.write(str(uuid.UUID(int=1)), self._sealed(N_BYTES))
        return time.perf_counter() - began_s

    def hash_and_write(self) -> float:
        """Hash the same bytes once and store them as they are."""
        began_s = time.perf_counter()
        self._blobs.write(str(uuid.UUID(int=0)), self._hashed(N_BYTES))
        return time.perf_counter() - began_s

    def open(self) -> float:
        """Open as the data plane does when it loads a model."""
        began_s = time.perf_counter()
        with self._blobs.open(self._name) as source:
            opener = self._opener(source)
            memory = MemoryFile(opener.size_bytes).fill(partial(opener.open_each, n_threads=N_THREADS))
        took_s = time.perf_counter() - began_s
        with memory:
            assert os.pread(memory.descriptor, BLOCK_BYTES, N_BYTES - BLOCK_BYTES) == self._plain[-BLOCK_BYTES:]
        return took_s

    def open_huge(self) -> float:
        """Open into huge pages, for a runtime that takes a buffer."""
        began_s = time.perf_counter()
        with self._blobs.open(self._name) as source:
            opener = self._opener(source)
            memory = AnonymousMemory(opener.size_bytes).fill(partial(opener.open_into, n_threads=N_THREADS))
        took_s = time.perf_counter() - began_s
        with memory, memory.content as content:
            assert content[-BLOCK_BYTES:] == self._view[-BLOCK_BYTES:]
        return took_s

    def copy(self) -> float:
        """Copy the same bytes into a fresh memory file through a mapping whose pages are there, locked."""
        began_s = time.perf_counter()
        descriptor = os.memfd_create("copy")
        os.ftruncate(descriptor, N_BYTES)
        with mmap.mmap(descriptor, N_BYTES) as mapping:
            lock_memory(ctypes.addressof(ctypes.c_char.from_buffer(mapping)), N_BYTES)
            with memoryview(mapping) as target:
                self._write_into(target)
            took_s = time.perf_counter() - began_s
        os.close(descriptor)
        return took_s

    def write(self) -> float:
        """Write the same bytes into a memory file as `open` does."""
        began_s = time.perf_counter()
        memory = MemoryFile(N_BYTES).fill(self._take_each)
        took_s = time.perf_counter() - began_s
        memory.close()
        return took_s

    def copy_huge(self) -> float:
        """Copy the same bytes into fresh memory of the same kind as `open_huge` does."""
        began_s = time.perf_counter()
        memory = AnonymousMemory(N_BYTES).fill(self._write_into)
        took_s = time.perf_counter() - began_s
        memory.close()
        return took_s

    def decrypt(self) -> float:
        """Decrypt as many blocks from one buffer into another."""
        began_s = time.perf_counter()
        for _ in self._blocks():
            self._aead.decrypt_into(_NONCE, self._block, None, self._buffer)
        return time.perf_counter() - began_s

    def fernet_encrypt(self) -> float:
        """Encrypt at once, which is all that Fernet can."""
        began_s = time.perf_counter()
        self._fernet.encrypt(self._plain[:FERNET_BYTES])
        return time.perf_counter() - began_s

    def fernet_decrypt(self) -> float:
        """Decrypt at once."""
        began_s = time.perf_counter()
        self._fernet.decrypt(self._token)
        return time.perf_counter() - began_s

    def room(self) -> int:
        """Return how many bytes opening into a memory file takes beyond it, at its most."""
        with self._blobs.open(self._name) as file:
            gauge = _Gauge(file, is_anonymous=False)
            opener = self._opener(gauge)
            MemoryFile(opener.size_bytes).fill(partial(opener.open_each, n_threads=N_THREADS)).close()
        return gauge.most_bytes

    def room_huge(self) -> int:
        """Return how many bytes opening into anonymous memory takes beyond it, at its most."""
        with self._blobs.open(self._name) as file:
            gauge = _Gauge(file, is_anonymous=True)
            opener = self._opener(gauge)
            AnonymousMemory(opener.size_bytes).fill(partial(opener.open_into, n_threads=N_THREADS)).close()
        return gauge.most_bytes

    def _opener(self, source: ByteSource) -> ArtifactOpener:
        return ArtifactOpener(self._data_key, self._header, self._header.context(), source)

    def _sealed(self, n_bytes: int) -> Iterator[bytes]:
        sealer = ArtifactSealer(self._data_key, self._header)
        yield sealer.prefix()
        for block in self._hashed(n_bytes):
            yield sealer.update(block)
        yield sealer.finish()

    def _hashed(self, n_bytes: int) -> Iterator[bytes]:
        digest = hashlib.sha256()
        block = self._plain[:BLOCK_BYTES]
        for _ in range(0, n_bytes, BLOCK_BYTES):
            digest.update(block)
            yield block

    def _take_each(self, take: Take) -> None:
        for number, block in enumerate(self._blocks()):
            take(number * BLOCK_BYTES, block)

    def _write_into(self, target: memoryview) -> None:
        for start in range(0, N_BYTES, BLOCK_BYTES):
            target[start : start + BLOCK_BYTES] = self._view[start : start + BLOCK_BYTES]

    def _blocks(self) -> list[memoryview]:
        return [self._view[start : start + BLOCK_BYTES] for start in range(0, N_BYTES, BLOCK_BYTES)]


class _Gauge:
    """A sealed file that notes, whenever it is read, how much memory this process has beyond what it began with.

    Args:
        file: the sealed file.
        is_anonymous: whether the model's own pages count as this process's anonymous memory.
    """

    def __init__(self, file: ByteSource, *, is_anonymous: bool) -> None:
        self._file = file
        self._is_anonymous = is_anonymous
        self._before_bytes = _resident_bytes()
        self.size_bytes = file.size_bytes
        self.most_bytes = 0

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Read, and note."""
        model_bytes = offset if self._is_anonymous else 0
        self.most_bytes = max(self.most_bytes, _resident_bytes() - self._before_bytes - model_bytes)
        return self._file.read_into(offset, buffer)


def _resident_bytes() -> int:
    """Return what this process has in memory, page tables included, shared memory (memory files) left out."""
    kinds = ("RssAnon", "RssFile", "VmPTE")
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.partition(":")[0] in kinds)
