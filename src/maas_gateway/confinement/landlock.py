"""Forbid this process every file but those it is given to read, by the kernel's Landlock.

Rules: reading is allowed below the given paths only; writing, creating, removing and executing
nowhere; TCP, abstract sockets and signals to processes outside where the kernel can refuse them.
A child of the gateway runs as the gateway's user: without this it could read the root key's file.

Source: Linux, Documentation/userspace-api/landlock.rst; linux/landlock.h.
"""

import ctypes
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# The numbers are the same on every architecture (asm-generic/unistd.h).
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION_FLAG: Final = 1
_PATH_BENEATH: Final = 1

_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
# Rights that a kernel knows, by the first ABI version that has them.
_RIGHTS_BY_ABI: Final = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_TCP_ABI: Final = 4
_TCP_BIND_AND_CONNECT: Final = 3
_SCOPE_ABI: Final = 6
_SCOPE_SOCKETS_AND_SIGNALS: Final = 3


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def forbid_files(*, readable: Iterable[Path]) -> bool:
    """Allow this thread and what it starts to read below `readable`, and no other file access.

    Open descriptors stay usable. Protects against reading keys, databases and other tenants'
    files, and against writing anywhere. Does not hide that a path exists (`stat` still answers).

    Args:
        readable: files and directories; one that does not exist is passed over.

    Returns:
        whether it is in force: a kernel may lack Landlock.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    abi = int(libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _VERSION_FLAG))
    if abi < 1:
        return False
    ruleset = _Ruleset(
        files=sum(rights for since, rights in _RIGHTS_BY_ABI.items() if abi >= since),
        net=_TCP_BIND_AND_CONNECT if abi >= _TCP_ABI else 0,
        scoped=_SCOPE_SOCKETS_AND_SIGNALS if abi >= _SCOPE_ABI else 0,
    )
    descriptor = int(libc.syscall(_CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(_size_for(abi)), 0))
    if descriptor < 0:
        return False
    try:
        for path in readable:
            _allow_reading(libc, descriptor, path)
        return int(libc.syscall(_RESTRICT_SELF, descriptor, 0)) == 0
    finally:
        os.close(descriptor)


def _size_for(abi: int) -> int:
    """Return how much of the structure this kernel knows, in bytes."""
    if abi >= _SCOPE_ABI:
        return ctypes.sizeof(_Ruleset)
    return _Ruleset.scoped.offset if abi >= _TCP_ABI else _Ruleset.net.offset


def _allow_reading(libc: ctypes.CDLL, ruleset: int, path: Path) -> None:
    try:
        beneath = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        is_directory = stat.S_ISDIR(os.fstat(beneath).st_mode)
        rule = _PathBeneath(allowed=_READ_FILE | (_READ_DIR if is_directory else 0), parent_fd=beneath)
        if libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0) != 0:
            raise OSError(ctypes.get_errno(), "a Landlock rule was refused")
    finally:
        os.close(beneath)
