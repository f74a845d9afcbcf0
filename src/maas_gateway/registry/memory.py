"""Where an opened artifact lies: memory that is not dumped, not inherited, not swapped, and wiped afterwards.

Rules:

* it is filled once, then closed to writing: `MemoryFile` has no name, no disk and is sealed, for
  runtimes that load from a path; `AnonymousMemory` has huge pages, for those that take a buffer;
* one mapping of it is ours from before it is filled until it is closed: in no core dump, in no fork,
  locked a piece at a time as far as RLIMIT_MEMLOCK allows the whole (`is_locked`), and the only thing
  through which it can be written to after it was sealed: by `close`, which overwrites it with zeros;
* `close` comes after the runtime's own: a runtime that still computes would compute with zeros. Whoever
  cannot tell calls `abandon`: the kernel clears pages before it hands them to anybody else.

Measured at 256 MiB on 2 shared cores (AMD EPYC, Linux 6.18), opening at 1,330 MiB/s without a mapping:
our mapping costs nothing until it is touched; locking costs 34 ms (1,130 MiB/s), which is its page
faults; wiping takes 6 ms if it is locked, 127 ms if not. Writing pieces into the file and locking
them is quicker than decrypting into the locked mapping (900 MiB/s), since a page that is written
whole is neither cleared nor faulted in first.

Protects against plaintext on a disk, in a core file, in a forked child, in swap where `is_locked`, and
in pages that were given back. Does not protect against whoever can read this process's memory, nor
what a runtime copies for itself (`inference.runtimes`): only the core dumps and the swap that are off
cover that. Needs Linux 5.1 (F_SEAL_FUTURE_WRITE).
"""

import ctypes
import fcntl
import mmap
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Final, Self

from maas_gateway.confinement.limits import hide_memory, lock_memory, set_writable
from maas_gateway.errors import CiphertextRejected

# Source: linux/fcntl.h. Unlike F_SEAL_WRITE it spares mappings that are there already: ours.
_F_SEAL_FUTURE_WRITE: Final = 0x0010
_SEALS: Final = _F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
_NAME: Final = "maas-artifact"
_NOT_ITS_SIZE: Final = "an opened artifact does not have its size"

Take = Callable[[int, memoryview], None]
"""Takes a piece of the content, and where it begins."""


class _Mapping:
    """A mapping of ours: in no core dump, in no fork, locked where the limit allows."""

    def __init__(self, mapping: mmap.mmap) -> None:
        self.mapping = mapping
        self._n_bytes = len(mapping)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        hide_memory(self._address, self._n_bytes)
        self.is_locked = lock_memory(self._address, self._n_bytes, waits_for_touch=True)

    def lock(self, start: int, stop: int) -> None:
        """Lock what was written from `start` to `stop`, if the whole can be locked."""
        start -= start % mmap.PAGESIZE
        if self.is_locked and stop > start:
            self.is_locked = lock_memory(self._address + start, stop - start)

    def settle(self) -> None:
        """Let not even this process write to it, by mistake or otherwise."""
        set_writable(self._address, self._n_bytes, is_writable=False)

    def wipe(self, n_bytes: int) -> None:
        """Overwrite its first bytes with zeros."""
        set_writable(self._address, self._n_bytes, is_writable=True)
        ctypes.memset(self._address, 0, n_bytes)

    def unmap(self) -> None:
        """Give it back; where somebody still looks at it, as soon as nobody does."""
        with suppress(BufferError):
            self.mapping.close()


class MemoryFile:
    """Plaintext bytes in memory, reachable by a file descriptor.

    Attributes:
        descriptor: of the memory file; close-on-exec; -1 once it is closed.
        size_bytes: its size once it is filled.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.descriptor = os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self._n_reached = 0
        self._n_filled = 0
        self._counting = Lock()
        self._own: _Mapping | None = None

    @property
    def is_locked(self) -> bool:
        """Whether no page of it can be swapped out."""
        return self._own is not None and self._own.is_locked

    @property
    def content(self) -> memoryview:
        """The bytes, to be read only, and not after it is closed: it is unmapped when no view of it is left."""
        return memoryview(b"" if self._own is None else self._own.mapping).toreadonly()

    def fill(self, produce: Callable[[Take], None]) -> Self:
        """Have `produce` hand over the content, each byte once, then seal it; closed if that fails.

        Args:
            produce: may hand pieces over in any order, and from several threads at once.

        Raises:
            CiphertextRejected: there was not as much as there should be.
        """
        try:
            self._map()
            produce(self._put)
            self._seal()
        except BaseException:
            self.close()
            raise
        return self

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return up to `n_bytes` of it at `offset`, fewer at the end only; for scanners."""
        return os.pread(self.descriptor, max(0, min(n_bytes, self.size_bytes - offset)), offset)

    def cover_mappings(self) -> None:
        """Keep every mapping of it in this process, a runtime's own included, out of core dumps and forks.

        Called while the runtime that made them cannot be closed by another thread.

        Raises:
            OSError: the kernel refuses.

        Source: proc_pid_maps(5).
        """
        inode = str(os.fstat(self.descriptor).st_ino)
        for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split(maxsplit=5)
            if fields[4] == inode and fields[-1].startswith(f"/memfd:{_NAME}"):
                start, stop = (int(address, 16) for address in fields[0].split("-"))
                hide_memory(start, stop - start)

    def close(self) -> None:
        """Overwrite it with zeros and give it back, once no runtime computes with it; a second call does nothing."""
        try:
            if self._own is not None and self._n_reached:
                self._own.wipe(self._n_reached)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Give it back as it is, because a runtime may still compute with it; a second call does nothing."""
        if self._own is not None:
            self._own.unmap()
            self._own = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _map(self) -> None:
        os.ftruncate(self.descriptor, self.size_bytes)
        if self.size_bytes:
            self._own = _Mapping(mmap.mmap(self.descriptor, self.size_bytes))

    def _seal(self) -> None:
        if self._n_filled != self.size_bytes:
            raise CiphertextRejected(_NOT_ITS_SIZE)
        fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
        if self._own is not None:
            self._own.settle()

    def _put(self, start: int, piece: memoryview) -> None:
        stop = start + len(piece)
        if stop > self.size_bytes:
            raise CiphertextRejected(_NOT_ITS_SIZE)
        with self._counting:
            self._n_reached = max(self._n_reached, stop)
        while piece:
            n_written = os.pwrite(self.descriptor, piece, stop - len(piece))
            piece = piece[n_written:]
        if self._own is not None:
            self._own.lock(start, stop)
        with self._counting:
            self._n_filled += stop - start


class AnonymousMemory:
    """Plaintext bytes in memory, in huge pages where the kernel has them.

    Attributes:
        size_bytes: its size, at least 1.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        mapping = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with suppress(OSError):  # a kernel may have none
            mapping.madvise(mmap.MADV_HUGEPAGE)
        self._own: _Mapping | None = _Mapping(mapping)

    @property
    def is_locked(self) -> bool:
        """Whether no page of it can be swapped out."""
        return self._own is not None and self._own.is_locked

    @property
    def content(self) -> memoryview:
        """The bytes, to be read only. The memory is given back when it is closed and no view of it is left."""
        return memoryview(b"" if self._own is None else self._own.mapping).toreadonly()

    def fill(self, produce: Callable[[memoryview], None]) -> Self:
        """Have `produce` write the whole content, then close it to writing; unmapped if that fails.

        Args:
            produce: leaves zeros behind if it fails, as `ArtifactOpener.open_into` does.
        """
        own = self._own
        if own is None:
            raise ValueError("this memory is closed")
        try:
            with memoryview(own.mapping) as target:
                produce(target)
            own.settle()
        except BaseException:
            self._own = None
            own.unmap()
            raise
        return self

    def close(self) -> None:
        """Overwrite it with zeros and give it back, once no runtime computes with it; a second call does nothing."""
        own, self._own = self._own, None
        if own is not None:
            try:
                own.wipe(self.size_bytes)
            finally:
                own.unmap()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
