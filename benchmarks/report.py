"""What was measured against what, and how it is printed."""

import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.table import Table


class PartFailed(Exception):
    """A part of the benchmark could not run; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of the table.

    Attributes:
        part: what is compared, the heading of a group of lines.
        what: what is measured.
        ours: the gateway's median, with its unit.
        theirs: the other's median, with its unit.
        ratio: median of the rounds' ratios; what it is a ratio of stands in `reads`.
        reads: how to read the ratio, for example "of the bare server's".
        at_least: the target, if there is one that the ratio should reach.
        at_most: the target, if there is one that it should not pass.
    """

    part: str
    what: str
    ours: str
    theirs: str
    ratio: float
    reads: str
    at_least: float | None = None
    at_most: float | None = None

    @classmethod
    def of_rounds(
        cls,
        part: str,
        what: str,
        unit: str,
        sides: Sequence[Sequence[float]],
        *,
        reads: str,
        digits: int = 0,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> Self:
        """Return the line of what was measured in rounds, side by side.

        Args:
            part: what is compared.
            what: what is measured.
            unit: of the figures.
            sides: ours and theirs, a figure for each round.
            reads: how to read the ratio.
            digits: decimals of the figures.
            at_least: the target.
            at_most: the target.
        """
        ours, theirs = sides
        texts = [f"{statistics.median(side):,.{digits}f} {unit}" for side in sides]
        return cls(part, what, *texts, paired(ours, theirs), reads, at_least, at_most)

    @property
    def target(self) -> str:
        """The target as it is printed; nothing without one."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return "" if self.at_most is None else f"≤ {self.at_most:g}"

    @property
    def verdict(self) -> str:
        """Whether the target is met; a dash without one."""
        if self.at_least is None and self.at_most is None:
            return "-"
        is_low = self.at_least is not None and self.ratio < self.at_least
        is_high = self.at_most is not None and self.ratio > self.at_most
        return "missed" if is_low or is_high else "met"


def paired(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of rounds that ran next to each other."""
    return statistics.median(one / other for one, other in zip(ours, theirs, strict=True))


def machine() -> str:
    """Return what this ran on."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{len(os.sched_getaffinity(0))} cores of {model}, {memory_gib:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}; load before the run {load:.1f}"
    )


def print_report(comparisons: Sequence[Comparison], failures: Mapping[str, str]) -> None:
    """Print the table."""
    table = Table(title=f"maas-gateway, {datetime.now(UTC):%d %B %Y}", title_justify="left", show_lines=False)
    for name in ("what", "gateway", "other", "ratio", "target", "verdict"):
        table.add_column(name, justify="left" if name in {"what", "verdict"} else "right", overflow="fold")
    part = None
    for comparison in comparisons:
        if comparison.part != part:
            part = comparison.part
            table.add_section()
            table.add_row(f"[bold]{part}[/bold]")
        ratio = f"{comparison.ratio:.2f} {comparison.reads}"
        table.add_row(comparison.what, comparison.ours, comparison.theirs, ratio, comparison.target, comparison.verdict)
    Console(width=None if os.isatty(1) else 150).print(table)
    for name, reason in failures.items():
        print(f"{name}: could not run: {reason}")


def write_results(path: Path, comparisons: Sequence[Comparison], failures: Mapping[str, str]) -> None:
    """Write the same as JSON."""
    content = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "comparisons": [{**asdict(comparison), "verdict": comparison.verdict} for comparison in comparisons],
        "failures": dict(failures),
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
