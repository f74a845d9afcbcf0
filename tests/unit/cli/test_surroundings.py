"""What `doctor` says about the machine: nothing where all is well, else what follows and what changes it."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest

from maas_gateway.cli import surroundings
from maas_gateway.cli.surroundings import of_confinement, of_machine
from maas_gateway.confinement.child import run_child
from maas_gateway.confinement.limits import Limits

_SAFE = {
    "proc/swaps": "Filename\t\t\t\tType\t\tSize\tUsed\tPriority\n",
    "proc/self/limits": (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max core file size        0                    0                    bytes     \n"
        "Max locked memory         8388608              unlimited            bytes     \n"
    ),
    "proc/self/status": "Name:\tmaas\nCapEff:\t0000000000000000\n",
    "proc/self/cgroup": "0::/system.slice/maas.service\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
}
_SWAP = {"proc/swaps": _SAFE["proc/swaps"] + "/dev/sda2 partition 2097148 0 -2\n"}
_LITTLE_LOCK = {"proc/self/limits": _SAFE["proc/self/limits"].replace("unlimited", "8388608  ")}
_ROOT = {"proc/self/status": "Name:\tmaas\nCapEff:\t000001ffffffffff\n"}


def _noted(root: Path, *changes: dict[str, str], opened_bytes: int = 100 << 20) -> list[str]:
    files = dict(_SAFE)
    for change in changes:
        files |= change
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return list(of_machine(root, opened_bytes))


def test_a_safe_machine_is_not_talked_about(tmp_path: Path) -> None:
    assert _noted(tmp_path) == []


def test_a_machine_that_tells_nothing_may_dump_core_for_all_that_is_known(tmp_path: Path) -> None:
    assert [note[:10] for note in of_machine(tmp_path, 1)] == ["core dumps"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(_SWAP, "swapoff --all", id="swap"),
        pytest.param(
            _SWAP | {"sys/fs/cgroup/system.slice/memory.swap.max": "max\n"}, "swapoff --all", id="swap for its group"
        ),
        pytest.param(_LITTLE_LOCK, "8 MiB of memory can be locked here and opened models may take 100 MiB", id="lock"),
        pytest.param(
            {"proc/self/limits": _SAFE["proc/self/limits"].replace("0                    bytes", "unlimited bytes")},
            "core dumps are possible",
            id="core dumps",
        ),
        pytest.param(
            {"sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n"}, "huge pages", id="huge pages"
        ),
    ],
)
def test_what_is_missing_is_said_once_with_what_changes_it(
    tmp_path: Path, change: dict[str, str], sentence: str
) -> None:
    (note,) = _noted(tmp_path, change)
    assert sentence in note
    assert "run: " in note or "allow it by: " in note or "for itself" in note


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([_SWAP, {"sys/fs/cgroup/system.slice/maas.service/memory.swap.max": "0\n"}], id="its own group"),
        pytest.param([_SWAP, {"sys/fs/cgroup/system.slice/memory.swap.max": "0\n"}], id="a group around it"),
        pytest.param(
            [_SWAP, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.swap.max": "0\n"}], id="a container's"
        ),
    ],
)
def test_swap_that_the_control_group_forbids_is_no_swap(tmp_path: Path, changes: Iterable[dict[str, str]]) -> None:
    assert _noted(tmp_path, *changes) == []


def test_a_limit_on_locking_that_models_fit_or_that_binds_nobody_is_none(tmp_path: Path) -> None:
    assert _noted(tmp_path, _LITTLE_LOCK, opened_bytes=8 << 20) == []
    assert _noted(tmp_path, _LITTLE_LOCK, _ROOT) == []


def test_confinement_is_tried_and_what_is_not_in_force_is_said() -> None:
    async def found() -> tuple[list[str], tuple[str, ...]]:
        answer = await run_child("maas_gateway.confinement.rehearsal", limits=Limits(), deadline_s=20)
        return [note async for note in of_confinement()], answer.in_force

    notes, in_force = asyncio.run(found())
    bound, *notes = notes
    assert "compute models" in bound
    assert {*bound.partition(": ")[2].partition(";")[0].split(", ")} == {*in_force} - {"cpu"}
    assert len(notes) == len({"files", "network"} - set(in_force))
    assert any("Landlock" in note for note in notes) == ("files" not in in_force)
    assert any("network of their own" in note for note in notes) == ("network" not in in_force)


def test_a_confined_process_that_does_not_run_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_CHILD", "maas_gateway.confinement.no_such_module")

    async def found() -> list[str]:
        return [note async for note in of_confinement()]

    (note,) = asyncio.run(found())
    assert note.startswith("no upload can be converted here")
