"""What the machine around a gateway allows, in sentences for `doctor`: swap, limits, huge pages, confinement.

Rules: a sentence says what follows and what changes it; what the machine does not tell is no sentence.

Source: proc(5), cgroups(7), Documentation/admin-guide/mm/transhuge.rst of Linux.
"""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from maas_gateway.confinement.child import run_child
from maas_gateway.confinement.failure import ChildFailed
from maas_gateway.confinement.limits import Limits
from maas_gateway.settings import Settings

_CHILD: Final = "maas_gateway.confinement.rehearsal"
_CHILD_WITHIN_S: Final = 5.0
_CAP_IPC_LOCK: Final = 14
_MIB: Final = 1 << 20


async def notes(settings: Settings) -> list[str]:
    """Return what an operator should know about this machine."""
    sealed_bytes = sum(_size(file) for file in (settings.data_dir / "blobs").glob("??/*"))
    opened_bytes = max(sealed_bytes, settings.uploads.max_bytes)
    return [*of_machine(Path("/"), opened_bytes), *[note async for note in of_confinement()]]


def of_machine(root: Path, opened_bytes: int) -> Iterator[str]:
    """Return what follows from the machine's own files.

    Args:
        root: where `proc` and `sys` are.
        opened_bytes: how much opened models may take.
    """
    limits = _text(root / "proc/self/limits")
    if _has_swap(root) and not _is_kept_from_swap(root):
        yield (
            "this machine has swap: opened models that are not locked, and what an engine copies for itself, may be "
            "written to it; run: swapoff --all, or give the gateway none (systemd: MemorySwapMax=0; compose: "
            "memswap_limit, the same as mem_limit)"
        )
    lockable_bytes = _hard(limits, "Max locked memory")
    if lockable_bytes is not None and lockable_bytes < opened_bytes and not _may_exceed_limits(root):
        yield (
            f"{lockable_bytes // _MIB} MiB of memory can be locked here and opened models may take "
            f"{-(-opened_bytes // _MIB)} MiB: those that do not fit can be swapped out; allow it by: ulimit -l unlimited "
            "(systemd: LimitMEMLOCK=infinity; compose: ulimits: memlock: -1)"
        )
    if _hard(limits, "Max core file size") != 0:
        yield "core dumps are possible here; serve switches them off for itself"
    if "[never]" in _text(root / "sys/kernel/mm/transparent_hugepage/enabled"):
        yield (
            "huge pages are off: models that are opened into anonymous memory take twice as long; run: "
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
        )


async def of_confinement() -> AsyncIterator[str]:
    """Return what processes that convert uploads or compute models would be able to do: one is started to find out."""
    try:
        answer = await run_child(_CHILD, limits=Limits(), deadline_s=_CHILD_WITHIN_S)
    except ChildFailed as failure:
        yield (
            "no upload can be converted here, and no model computed in a process of its own: confined processes do not "
            f"run: {failure.detail}"
        )
        return
    yield (
        "processes that convert uploads, and those that compute models which need one of their own, are bound here in: "
        f"{', '.join(sorted({*answer.in_force} - {'cpu'}))}; conversions in processor time too"
    )
    if "files" not in answer.in_force:
        yield (
            "this kernel has no Landlock in force (Linux 5.13 and later have it): a model that took over the process "
            "that converts or computes it could read what this user can, a root key in a file included"
        )
    if "network" not in answer.in_force:
        yield (
            "processes get no network of their own here (user namespaces are off, or a container forbids them): a "
            "model that took over the process that converts or computes it could reach what this machine can"
        )


def _has_swap(root: Path) -> bool:
    return len(_text(root / "proc/swaps").splitlines()) > 1


def _is_kept_from_swap(root: Path) -> bool:
    """Tell whether the control group of this process, or one around it, may not swap."""
    own = re.search(r"^0::/(.*)$", _text(root / "proc/self/cgroup"), re.MULTILINE)
    if own is None:
        return False
    top = root / "sys/fs/cgroup"
    group = top / own[1]
    groups = [group, *(parent for parent in group.parents if parent.is_relative_to(top))]
    return any(_text(around / "memory.swap.max").strip() == "0" for around in groups)


def _may_exceed_limits(root: Path) -> bool:
    effective = re.search(r"^CapEff:\s*([0-9a-f]+)$", _text(root / "proc/self/status"), re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> _CAP_IPC_LOCK & 1)


def _hard(limits: str, name: str) -> int | None:
    """Return a hard limit; None if there is none, or none is told."""
    found = re.search(rf"^{name}\s+\S+\s+(\d+)\s", limits, re.MULTILINE)
    return None if found is None else int(found[1])


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # deleted meanwhile
        return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
