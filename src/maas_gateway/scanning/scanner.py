"""What every scanner is, what it reads from and what it says.

Rules:
    * A scanner accepts what its allow-list names and refuses everything else.
    * Malformed input is a finding, never an exception; a report without a refusing finding means "passed".
    * A report holds at most `MAX_FINDINGS` findings, and text that came from the artifact is clipped and ASCII:
      a hostile file shall not write our logs.

What a scan protects against: artifacts that run code, read files, open connections, change process state or unpack to
far more than they declare, when they are loaded. What not: a model that answers wrongly on purpose, and memory faults
in the parser that reads the weights afterwards; that parser belongs into a confined child.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from maas_gateway.errors import ArtifactRefused

SCANNER_VERSION: Final = "2"
"""Raise it whenever a rule changes: a report says which rules it was made by."""

MAX_FINDINGS: Final = 50
_CLIP_CHARS: Final = 120

Severity = Literal["refuse", "review", "note"]


class Source(Protocol):
    """Random access to an upload, wherever it lies; the scanner never learns a path."""

    @property
    def size_bytes(self) -> int:
        """Return the length of the upload."""
        ...

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return `n_bytes` from `offset` on, fewer only at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a scanner has to say about one place.

    Attributes:
        rule: short name of the rule, stable over versions: `class-not-allowed`.
        severity: `refuse` ends the upload, `review` asks a person, `note` only informs.
        where: place in the file: `config.json: /config/layers/3/config/function`.
        message: a sentence for the uploader.
    """

    rule: str
    severity: Severity
    where: str
    message: str

    def to_json(self) -> dict[str, str]:
        """Return the finding as a JSON object."""
        return {"rule": self.rule, "severity": self.severity, "where": self.where, "message": self.message}


@dataclass(frozen=True, slots=True)
class ScanReport:
    """What a scanner found.

    Attributes:
        format: `keras`, `tflite`.
        findings: in the order of discovery, at most `MAX_FINDINGS`.
        scanner_version: `SCANNER_VERSION` of the scanner that made it.
        has_control_flow: whether the graph can loop, so that how long it computes is not known beforehand.
    """

    format: str
    findings: tuple[Finding, ...] = ()
    scanner_version: str = SCANNER_VERSION
    has_control_flow: bool = False

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """Return the findings that end the upload."""
        return tuple(finding for finding in self.findings if finding.severity == "refuse")

    def refuse_reason(self) -> str | None:
        """Return a sentence with place and rule of the first refusal, or None if there is none."""
        refusals = self.refusals
        if not refusals:
            return None
        first = refusals[0]
        more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
        return f"{first.where}: {first.message} [{first.rule}]{more}"

    def to_json(self) -> dict[str, object]:
        """Return the report as a JSON object, as the registry and the audit log keep it."""
        return {
            "format": self.format,
            "scanner_version": self.scanner_version,
            "findings": [finding.to_json() for finding in self.findings],
        }


class Scanner(Protocol):
    """Decides from bytes alone whether an artifact of one format may be accepted."""

    def scan(self, source: Source) -> ScanReport:
        """Return what there is to say about `source`; never raise for what it contains."""
        ...


class Refusal(Exception):
    """Inside this room: the scan of a part cannot go on; carries the finding that says why."""

    def __init__(self, rule: str, where: str, message: str) -> None:
        super().__init__(message)
        self.finding = Finding(rule, "refuse", where, message)


class SourceFile(io.RawIOBase):
    """A `Source` as a read-only, seekable binary file, for readers such as `zipfile`."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source
        self._position = 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Move to `offset` from the start, the position or the end, never before the start.

        Raises:
            ValueError: `whence` is none of the three, or the place lies before the start.
        """
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._source.size_bytes}
        if whence not in origins:
            raise ValueError(f"whence must be 0, 1 or 2, not {whence}")
        target = origins[whence] + offset
        if target < 0:
            raise ValueError("cannot seek before the start")
        self._position = target
        return target

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes from the position on; all that is left if `size` is negative or None."""
        left = max(self._source.size_bytes - self._position, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        taken = self._source.read_at(self._position, wanted) if wanted else b""
        self._position += len(taken)
        return taken

    def readall(self) -> bytes:
        """Return all that is left."""
        return self.read()

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]  # typeshed's Buffer is Python 3.12's
        """Fill `buffer` from the position on and return how much was filled."""
        view = memoryview(buffer).cast("B")
        taken = self.read(len(view))
        view[: len(taken)] = taken
        return len(taken)


def require_clean(report: ScanReport) -> None:
    """Let only a report without refusals pass.

    Raises:
        ArtifactRefused: a finding refuses; the sentence names its place and rule and how many more there are.
    """
    reason = report.refuse_reason()
    if reason is not None:
        raise ArtifactRefused(f"The model was refused: {reason}")


def report_of(form: str, findings: Sequence[Finding]) -> ScanReport:
    """Return a report of the first `MAX_FINDINGS` findings, refusals before all others."""
    ordered = sorted(findings, key=lambda finding: finding.severity != "refuse")
    return ScanReport(form, tuple(ordered[:MAX_FINDINGS]))


def clip(value: object) -> str:
    """Return text from an artifact in a form fit for messages: ASCII, quoted, at most some 120 characters."""
    text = ascii(value[:_CLIP_CHARS] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _CLIP_CHARS else f"{text[:_CLIP_CHARS]}…"
