"""Where an opened artifact lies: a memory file that has no name, no disk and no second writer.

Rules: it is written once, piece by piece, then sealed against writing, growing and shrinking; we
never map it, so none of our mappings can be dumped or inherited; closing it gives the pages back.

Measured: writing whole pages spares the kernel clearing and faulting in each of them, so this is
faster than decrypting into a mapping (256 MiB: `make bench`, part sealing).

Protects against plaintext on a disk. Does not protect against whoever can read this process's
memory, nor against swap, nor against what a runtime maps or copies for itself.
"""

import fcntl
import os
from collections.abc import Callable
from typing import Final, Self

from maas_gateway.errors import CiphertextRejected

_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL

Take = Callable[[memoryview], None]


class MemoryFile:
    """Plaintext bytes in memory, reachable by a file descriptor.

    Attributes:
        descriptor: of the memory file; close-on-exec.
        size_bytes: its size once it is filled.
    """

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.descriptor = os.memfd_create("maas-artifact", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)

    def fill(self, produce: Callable[[Take], None]) -> Self:
        """Have `produce` hand over the content from its start, then seal it; closed if that fails.

        Raises:
            CiphertextRejected: there was not as much as there should be.
        """
        try:
            produce(self._append)
            self._check_size()
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

    def _check_size(self) -> None:
        if os.fstat(self.descriptor).st_size != self.size_bytes:
            raise CiphertextRejected("an opened artifact does not have its size")

    def _append(self, piece: memoryview) -> None:
        while piece:
            piece = piece[os.write(self.descriptor, piece) :]
