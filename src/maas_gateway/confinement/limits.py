"""What a process does to itself so that less can go wrong: limits, no core dump, no network, locked memory.

Rules: a resource limit that cannot be set is an error; what the kernel may refuse (a network of
its own, a Landlock domain, a lock on memory) is tried, and the answer says whether it is in force.
"""

import ctypes
import mmap
import os
import resource
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

# Source: linux/prctl.h, linux/sched.h and asm-generic/mman-common.h.
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38
_PROT_READ: Final = 1
_PROT_WRITE: Final = 2
_MLOCK_ONFAULT: Final = 1
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000

_GIB: Final = 1 << 30

NOWHERE: Final = "/dev/null/nowhere"
"""HOME and TMPDIR of every child: a directory that not even root can make."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that a child sets on itself before it reads a byte of its request.

    They protect the host against a child that was taken over or merely asks for too much. They do
    not hide from it what its user may read (`landlock.forbid_files` does) and they do not bound
    the time it waits (the parent's deadline does).

    Attributes:
        memory_bytes: RLIMIT_AS, the whole address space. TensorFlow 2.21 with a converter and an
            interpreter maps 2.4 GiB, of which it writes 0.5 GiB, before a model is loaded
            (measured; 2.2 GiB is the least that works), so the default leaves 1.6 GiB to the model.
        cpu_s: RLIMIT_CPU, seconds of all threads together; 0 sets no limit, for a child that stays.
        n_tasks: RLIMIT_NPROC, processes and threads. It counts in the child's own user namespace
            where it has one; elsewhere it would count the gateway's tasks too and is not set.
            The kernel does not apply it to root.
        file_size_bytes: RLIMIT_FSIZE; 0 means that no byte reaches any file. Pipes are no files.
        n_open_files: RLIMIT_NOFILE.
        niceness: by how much it stands back behind the gateway for processor time, 0 to 19.
    """

    memory_bytes: int = 4 * _GIB
    cpu_s: int = 120
    n_tasks: int = 256
    file_size_bytes: int = 0
    n_open_files: int = 256
    niceness: int = 0

    def to_json(self) -> dict[str, int]:
        """Return the limits by name."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, int]) -> "Limits":
        """Read what `to_json` wrote."""
        return cls(**value)

    def apply(self) -> tuple[str, ...]:
        """Bind this process by these limits, for good.

        Returns:
            the names of the measures in force: always `memory`, `file-size`, `open-files` and `core`; `cpu`
            where it is asked for; `network` and `tasks` where the kernel allows a namespace.

        Raises:
            OSError: the process is bound more tightly already.
        """
        in_force = ["memory", "file-size", "open-files", "core"]
        _stand_back(self.niceness)
        has_own_namespace = _leave_network()
        if has_own_namespace:
            in_force += ["network", "tasks"]
            _set(resource.RLIMIT_NPROC, self.n_tasks)
        _set(resource.RLIMIT_CORE, 0)
        if self.cpu_s:
            in_force.append("cpu")
            # The soft limit ends the process by SIGXCPU, which tells the parent why; the hard one by SIGKILL.
            resource.setrlimit(resource.RLIMIT_CPU, (self.cpu_s, self.cpu_s + 1))
        _set(resource.RLIMIT_FSIZE, self.file_size_bytes)
        _set(resource.RLIMIT_NOFILE, self.n_open_files)
        _set(resource.RLIMIT_AS, self.memory_bytes)
        return tuple(in_force)


def harden_process() -> None:
    """Keep this process's memory, and the keys in it, out of core dumps and from other processes.

    It may lock as much memory as its hard limit allows from then on. Protects against a core file on
    disk and against reading `/proc/<pid>/mem` or attaching a debugger as the same user. Does not
    protect against root, nor what is not locked against swap.

    Raises:
        OSError: the kernel refuses.

    Source: prctl(2), PR_SET_DUMPABLE; core(5).
    """
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_MEMLOCK, resource.getrlimit(resource.RLIMIT_MEMLOCK)[1])
    _prctl(_PR_SET_DUMPABLE, 0)


def hide_memory(address: int, n_bytes: int) -> None:
    """Keep pages of this process out of core dumps, and out of processes that it forks.

    Args:
        address: where a mapping begins.
        n_bytes: its size.

    Raises:
        OSError: the kernel refuses.

    Source: madvise(2), MADV_DONTDUMP and MADV_DONTFORK.
    """
    for advice in (mmap.MADV_DONTDUMP, mmap.MADV_DONTFORK):
        if _libc().madvise(ctypes.c_void_p(address), ctypes.c_size_t(n_bytes), advice) != 0:
            raise OSError(ctypes.get_errno(), "madvise was refused")


def lock_memory(address: int, n_bytes: int, *, waits_for_touch: bool = False) -> bool:
    """Keep pages of this process out of swap; answer whether that worked.

    Args:
        address: of the first byte.
        n_bytes: at least 1.
        waits_for_touch: whether a page is locked when it is first touched, instead of being made now;
            all of them count towards the limit at once either way.

    Source: mlock(2), MLOCK_ONFAULT; RLIMIT_MEMLOCK in getrlimit(2).
    """
    flags = _MLOCK_ONFAULT if waits_for_touch else 0
    return bool(_libc().mlock2(ctypes.c_void_p(address), ctypes.c_size_t(n_bytes), flags) == 0)


def set_writable(address: int, n_bytes: int, *, is_writable: bool) -> None:
    """Let this process write to pages of its own, or to read them only.

    Args:
        address: where a mapping begins.
        n_bytes: its size.
        is_writable: which of the two.

    Raises:
        OSError: the kernel refuses.

    Source: mprotect(2).
    """
    allowed = _PROT_READ | (_PROT_WRITE if is_writable else 0)
    if _libc().mprotect(ctypes.c_void_p(address), ctypes.c_size_t(n_bytes), allowed) != 0:
        raise OSError(ctypes.get_errno(), "mprotect was refused")


def bind_to_parent() -> None:
    """End this process with its parent, and let no program it starts gain privileges.

    Called after the namespaces are left: a change of credentials clears the parent-death signal.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _stand_back(niceness: int) -> None:
    """Ask for less processor time than others: where each session is scheduled as a group, for the session too.

    Source: sched(7), "The autogroup feature".
    """
    if niceness:
        os.nice(niceness)
        with suppress(OSError):  # a kernel may have no such groups, or one that is asked too often refuses
            Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")


def _set(kind: int, value: int) -> None:
    resource.setrlimit(kind, (value, value))


def _prctl(option: int, value: int) -> None:
    if _libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl was refused")


def _leave_network() -> bool:
    """Move to a user, network and IPC namespace of our own; answer whether that worked.

    The new network has a loopback interface that is down, and nothing else. The kernel asks for a
    process of one thread.

    Source: unshare(2), user_namespaces(7), network_namespaces(7).
    """
    return bool(_libc().unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) == 0)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
