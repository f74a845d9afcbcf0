"""Memory files: written once, sealed, never mapped by us, given back."""

import mmap
import os
from pathlib import Path

import pytest

from maas_gateway.errors import CiphertextRejected
from maas_gateway.registry.memory import MemoryFile, Take


def _filled(content: bytes) -> MemoryFile:
    def produce(take: Take) -> None:
        for start in range(0, len(content), 1_000):
            take(memoryview(content)[start : start + 1_000])

    return MemoryFile(len(content)).fill(produce)


@pytest.mark.parametrize("size", [0, 1, 4_096, 1_000_003])
def test_memory_file_holds_what_was_written(size: int) -> None:
    content = os.urandom(size)
    with _filled(content) as memory:
        assert os.pread(memory.descriptor, size + 1, 0) == content


def test_a_filled_memory_file_cannot_be_changed_by_anyone() -> None:
    with _filled(b"weights" * 1_000) as memory:
        with pytest.raises(PermissionError):
            os.pwrite(memory.descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(memory.descriptor, 1)
        with pytest.raises(PermissionError):
            mmap.mmap(memory.descriptor, 7_000)


def test_a_memory_file_is_not_inherited_and_has_no_name_on_any_disk() -> None:
    with _filled(b"weights") as memory:
        assert not os.get_inheritable(memory.descriptor)
        assert Path(f"/proc/self/fd/{memory.descriptor}").readlink().as_posix().startswith("/memfd:")


def test_filling_maps_nothing_that_could_be_dumped_or_inherited() -> None:
    def look(take: Take) -> None:
        take(memoryview(bytes(1 << 20)))
        assert "maas-artifact" not in Path("/proc/self/maps").read_text()

    MemoryFile(1 << 20).fill(look).close()


@pytest.mark.parametrize("size", [9, 11])
def test_a_memory_file_of_another_size_than_declared_is_refused_and_closed(size: int) -> None:
    memory = MemoryFile(10)
    with pytest.raises(CiphertextRejected):
        memory.fill(lambda take: take(memoryview(bytes(size))))
    assert memory.descriptor == -1


def test_a_memory_file_whose_filling_fails_is_closed() -> None:
    memory = MemoryFile(10)

    def fail(_take: Take) -> None:
        raise OSError("the disk broke")

    with pytest.raises(OSError, match="broke"):
        memory.fill(fail)
    assert memory.descriptor == -1
    memory.close()
