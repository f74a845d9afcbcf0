"""Opened artifacts in memory: written once, sealed, kept from dumps, forks and swap, wiped, given back."""

import contextlib
import fcntl
import json
import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders.processes import drop_privileges
from maas_gateway.errors import CiphertextRejected
from maas_gateway.registry.memory import AnonymousMemory, MemoryFile, Take

CONTENT = os.urandom(1_000_003)
_F_SEAL_FUTURE_WRITE = 0x0010


def _producing(content: bytes) -> Callable[[Take], None]:
    def produce(take: Take) -> None:
        for start in range(0, len(content), 1_000):
            take(start, memoryview(content)[start : start + 1_000])

    return produce


def _filled(content: bytes) -> MemoryFile:
    return MemoryFile(len(content)).fill(_producing(content))


def _written(content: bytes) -> AnonymousMemory:
    def produce(target: memoryview) -> None:
        target[:] = content

    return AnonymousMemory(len(content)).fill(produce)


@pytest.mark.parametrize("size", [0, 1, 4_096, 1_000_003])
def test_memory_file_holds_what_was_written(size: int) -> None:
    with _filled(CONTENT[:size]) as memory:
        assert os.pread(memory.descriptor, size + 1, 0) == CONTENT[:size]


def test_a_filled_memory_file_cannot_be_changed_by_anyone() -> None:
    with _filled(CONTENT) as memory:
        with pytest.raises(PermissionError):
            os.pwrite(memory.descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(memory.descriptor, 1)
        with pytest.raises(PermissionError):
            os.posix_fallocate(memory.descriptor, len(CONTENT), 1)
        with pytest.raises(PermissionError):
            mmap.mmap(memory.descriptor, 7_000)
        with pytest.raises(PermissionError):
            fcntl.fcntl(memory.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        assert fcntl.fcntl(memory.descriptor, fcntl.F_GET_SEALS) & _F_SEAL_FUTURE_WRITE
        again = os.open(f"/proc/self/fd/{memory.descriptor}", os.O_RDWR | os.O_CLOEXEC)
        with pytest.raises(PermissionError):
            os.pwrite(again, b"x", 0)
        os.close(again)
        (own,) = _maps(memory.descriptor)
        assert own.split()[1] == "r--s"


def test_a_memory_file_is_not_inherited_and_has_no_name_on_any_disk() -> None:
    with _filled(b"weights") as memory:
        same = [fd for fd in _descriptors() if os.path.sameopenfile(fd, memory.descriptor)]
        assert memory.descriptor in same
        assert not any(os.get_inheritable(fd) for fd in same)
        assert Path(f"/proc/self/fd/{memory.descriptor}").readlink().as_posix().startswith("/memfd:")


def test_a_closed_memory_file_is_zeros_for_whoever_still_has_it_and_leaves_nothing_open() -> None:
    before = _descriptors()
    memory = _filled(CONTENT)
    kept = os.dup(memory.descriptor)
    with mmap.mmap(kept, len(CONTENT), prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == CONTENT
        memory.close()
        memory.close()
        assert mapped[:] == bytes(len(CONTENT))
    assert memory.descriptor == -1
    assert not _maps(kept)
    os.close(kept)
    assert _descriptors() == before


def test_an_abandoned_memory_file_is_left_as_it_is_for_whoever_still_computes_with_it() -> None:
    memory = _filled(CONTENT)
    with mmap.mmap(memory.descriptor, len(CONTENT), prot=mmap.PROT_READ) as mapped:
        memory.abandon()
        memory.close()
        assert mapped[:] == CONTENT
    assert memory.descriptor == -1


@pytest.mark.parametrize("size", [9, 11])
def test_a_memory_file_of_another_size_than_declared_is_refused_and_closed(size: int) -> None:
    memory = MemoryFile(10)
    with pytest.raises(CiphertextRejected):
        memory.fill(lambda take: take(0, memoryview(bytes(size))))
    assert memory.descriptor == -1


def test_a_memory_file_whose_filling_fails_is_wiped_and_closed() -> None:
    memory = MemoryFile(1 << 40)  # a terabyte that is never written is never made either
    kept = os.dup(memory.descriptor)

    def fail(take: Take) -> None:
        take(0, memoryview(CONTENT))
        assert os.pread(kept, len(CONTENT), 0) == CONTENT
        raise OSError("the disk broke")

    with pytest.raises(OSError, match="broke"):
        memory.fill(fail)
    assert memory.descriptor == -1
    assert os.pread(kept, len(CONTENT), 0) == bytes(len(CONTENT))
    os.close(kept)
    memory.close()


@pytest.mark.parametrize("size", [1, 4_096, 1_000_003])
def test_anonymous_memory_holds_what_was_written_and_takes_no_more(size: int) -> None:
    with _written(CONTENT[:size]) as memory:
        with memory.content as content:
            assert content == CONTENT[:size]
            assert content.readonly
        with pytest.raises(ValueError, match="closed"):
            _closed(memory).fill(lambda _target: None)
    assert memory.content == b""


def test_closed_anonymous_memory_is_zeros_for_whoever_still_looks_at_it() -> None:
    memory = _written(CONTENT)
    kept = memory.content
    memory.close()
    memory.close()
    assert kept == bytes(len(CONTENT))
    assert not memory.is_locked


def test_anonymous_memory_whose_filling_fails_is_given_back() -> None:
    memory = AnonymousMemory(1 << 30)

    def fail(_target: memoryview) -> None:
        raise CiphertextRejected("altered")

    with pytest.raises(CiphertextRejected):
        memory.fill(fail)
    memory.close()
    assert memory.content == b""


def _closed(memory: AnonymousMemory) -> AnonymousMemory:
    memory.close()
    return memory


_REPORT = """
import json, mmap, os, sys
from pathlib import Path
from maas_gateway.confinement.limits import harden_process
from maas_gateway.registry.memory import AnonymousMemory, MemoryFile

SIZE = 4 << 20
content = os.urandom(SIZE)
if sys.argv[1] == "serving":
    harden_process()

def fill(take):
    for start in range(0, SIZE, 1_000_000):
        take(start, memoryview(content)[start : start + 1_000_000])

def write(target):
    target[:] = content

def flags():
    found, here = {}, None
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.startswith("Locked:"):
            locked = int(line.split()[1]) << 10
        elif line.startswith("VmFlags:"):
            found[here] = line.split()[1:]
            if locked == SIZE:
                found[here].append("every page locked")
        elif "-" in line.split()[0] and line[0] in "0123456789abcdef":
            here = line
    return found

def size_of(name):
    start, stop = (int(address, 16) for address in name.split()[0].split("-"))
    return stop - start

def was_wiped():
    memory = MemoryFile(SIZE).fill(fill)
    kept = os.dup(memory.descriptor)
    memory.close()
    return os.pread(kept, SIZE, 0) == bytes(SIZE)

memory = MemoryFile(SIZE).fill(fill)
own = [value for name, value in flags().items() if "memfd:maas-artifact" in name]
runtimes = mmap.mmap(memory.descriptor, SIZE, prot=mmap.PROT_READ)
other = os.memfd_create("other")
os.ftruncate(other, SIZE)
others = mmap.mmap(other, SIZE)
memory.cover_mappings()
covered = [value for name, value in flags().items() if "memfd:maas-artifact" in name]
untouched = [value for name, value in flags().items() if "memfd:other" in name]
before = flags()
anonymous = AnonymousMemory(SIZE).fill(write)
fresh = [value for name, value in flags().items() if name not in before and size_of(name) == SIZE]
pid = os.fork()
if not pid:
    kept = [name for name in flags() if "memfd:maas-artifact" in name]
    os._exit(len(kept))
print(json.dumps({
    "is_locked": [memory.is_locked, anonymous.is_locked],
    "is_whole": os.pread(memory.descriptor, SIZE, 0) == content and anonymous.content == content,
    "is_wiped": was_wiped(),
    "own": own, "covered": covered, "untouched": untouched, "anonymous": fresh,
    "inherited": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]),
}))
"""


def _without_leave_to_lock() -> None:
    """Take away what root may lock beyond the limit, and the limit with it."""
    drop_privileges()
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20))


def _reported(*arguments: str, before: Callable[[], None] | None = None) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _REPORT, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=before,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_a_process_finds_its_opened_artifacts_kept_from_dumps_forks_and_swap() -> None:
    """proc_pid_smaps(5): dd, no core dump; dc, not copied on fork; lo, locked; hg, huge pages advised; no wr, read only."""
    found = _reported("serving")
    assert found["is_whole"]
    assert found["is_wiped"]
    assert found["is_locked"] == [True, True], "4 MiB are within every usual limit"
    (own,), (anonymous,) = found["own"], found["anonymous"]
    assert {"dd", "dc", "lo", "every page locked"} <= set(own) & set(anonymous)
    assert not {"wr"} & (set(own) | set(anonymous))
    if Path("/sys/kernel/mm/transparent_hugepage").is_dir():
        assert "hg" in anonymous
    assert len(found["covered"]) == 2
    assert all({"dd", "dc"} <= set(flags) for flags in found["covered"])
    assert not any({"dd", "dc"} & set(flags) for flags in found["untouched"])
    assert found["inherited"] == 0


def test_an_artifact_that_may_not_be_locked_is_opened_all_the_same_and_says_so() -> None:
    found = _reported("alone", before=_without_leave_to_lock)
    assert found["is_whole"]
    assert found["is_wiped"]
    assert found["is_locked"] == [False, False]
    for flags in (*found["own"], *found["anonymous"]):
        assert {"dd", "dc"} <= set(flags)
        assert not {"lo", "every page locked"} & set(flags)


def _descriptors() -> list[int]:
    found = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that listed them
            os.fstat(int(link.name))
            found.append(int(link.name))
    return sorted(found)


def _maps(descriptor: int) -> list[str]:
    inode = str(os.fstat(descriptor).st_ino)
    lines = Path("/proc/self/maps").read_text().splitlines()
    return [line for line in lines if line.split()[4] == inode and "memfd:" in line]
