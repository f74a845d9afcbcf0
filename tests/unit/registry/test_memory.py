"""Memory files: filled once, sealed, left out of dumps, given back."""

import mmap
import os
import re
from pathlib import Path

import pytest

from maas_gateway.registry.memory import MemoryFile


def _filled(content: bytes) -> MemoryFile:
    def write(view: memoryview) -> None:
        view[:] = content

    return MemoryFile(len(content)).fill(write)


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


def test_the_mapping_is_left_out_of_core_dumps_and_forks_while_it_is_filled() -> None:
    seen: list[str] = []

    def look(view: memoryview) -> None:
        view[:] = bytes(len(view))
        smaps = Path("/proc/self/smaps").read_text()
        block = re.search(r"memfd:maas-artifact.*?VmFlags:([^\n]*)", smaps, re.DOTALL)
        assert block is not None
        seen.extend(block[1].split())

    MemoryFile(1 << 20).fill(look).close()
    assert {"dd", "dc"} <= set(seen)


def test_a_memory_file_whose_filling_fails_is_closed() -> None:
    memory = MemoryFile(10)

    def fail(_view: memoryview) -> None:
        raise OSError("the disk broke")

    with pytest.raises(OSError, match="broke"):
        memory.fill(fail)
    assert memory.descriptor == -1
    memory.close()
