"""Where an opened artifact lies: a memory file that has no name, no disk and no second writer.

Rules: it is filled once through a mapping that is left out of core dumps and of forked children,
then sealed against writing, growing and shrinking; closing it gives the pages back.

Protects against plaintext on a disk and in a core dump of the mapping. Does not protect against
whoever can read this process's memory, nor against swap, nor against copies that a runtime makes.
"""

import contextlib
import fcntl
import mmap
import os
from collections.abc import Callable
from typing import Final, Self

_MADV_POPULATE_WRITE: Final = 23
_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL


class MemoryFile:
    """Plaintext bytes in memory, reachable by a file descriptor.

    Attributes:
        descriptor: of the memory file; close-on-exec.
        size_bytes: its size.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.descriptor = os.memfd_create("maas-artifact", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        if size_bytes:
            # Measured: filling 256 MiB takes a sixth less time when the pages are there before the first byte.
            os.posix_fallocate(self.descriptor, 0, size_bytes)

    def fill(self, write: Callable[[memoryview], None]) -> Self:
        """Have `write` fill all of it, then seal it; closed if that fails."""
        try:
            if self.size_bytes:
                with mmap.mmap(self.descriptor, self.size_bytes) as mapping:
                    mapping.madvise(mmap.MADV_DONTDUMP)
                    mapping.madvise(mmap.MADV_DONTFORK)
                    with contextlib.suppress(OSError):  # a kernel before 5.14 does not know it
                        mapping.madvise(_MADV_POPULATE_WRITE)
                    with memoryview(mapping) as view:
                        write(view)
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Give the memory back; a second call does nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
