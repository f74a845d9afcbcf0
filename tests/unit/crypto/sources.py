"""Byte sources for tests: bytes in memory, and ones that misbehave."""

from collections.abc import Callable


class MemorySource:
    """Bytes in memory; answers at most `most_bytes` a read and keeps the furthest place read."""

    def __init__(self, content: bytes | bytearray, *, size_bytes: int | None = None, most_bytes: int = 1 << 62) -> None:
        self.content = content
        self.furthest = 0
        self._size_bytes = len(content) if size_bytes is None else size_bytes
        self._most_bytes = most_bytes

    @property
    def size_bytes(self) -> int:
        return self._size_bytes

    def read_into(self, offset: int, buffer: memoryview) -> int:
        n_wanted = min(len(buffer), self._most_bytes)
        part = memoryview(self.content)[offset : offset + n_wanted]
        buffer[: len(part)] = part
        self.furthest = max(self.furthest, offset + len(part))
        return len(part)


class LyingSource(MemorySource):
    """Answers what `lie` makes of the true number of bytes read."""

    def __init__(self, content: bytes, lie: Callable[[int], int]) -> None:
        super().__init__(content)
        self._lie = lie

    def read_into(self, offset: int, buffer: memoryview) -> int:
        return self._lie(super().read_into(offset, buffer))


class BreakingSource(MemorySource):
    """Fails as a disk does, from a place on."""

    def __init__(self, content: bytes, *, breaks_at: int) -> None:
        super().__init__(content)
        self._breaks_at = breaks_at

    def read_into(self, offset: int, buffer: memoryview) -> int:
        if offset >= self._breaks_at:
            raise OSError(5, "Input/output error")
        return super().read_into(offset, buffer)
