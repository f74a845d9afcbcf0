"""Finding out whether an upload may be served, and in which forms.

Rules: the upload is scanned before any framework sees it; where the gateway can write a format anew, only what it wrote
itself goes on; a confined child makes the plans, and every plan is scanned as if a stranger had sent it, for its maker
has parsed hostile bytes. A plan that its scan refuses falls away if another one is left, and a note says so; what every
scan found is kept. The plan for the runtime that the publisher asks for comes first; then those that run on this
process's threads before those that need a process of their own, the quicker one first.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from maas_gateway.confinement.conversation import Sink
from maas_gateway.errors import ArtifactRefused
from maas_gateway.inference.conversion.answer import Conversion, ConvertedPlan
from maas_gateway.registry.model import Placement, ServingPlan
from maas_gateway.registry.spool import Spool
from maas_gateway.scanning.catalogue import PLANS, REBUILDERS, UPLOADS
from maas_gateway.scanning.formats import foreign
from maas_gateway.scanning.scanner import Finding, Scanner, ScanReport, Source, require_clean
from maas_gateway.tensors.signature import ModelSignature

_NEEDS_PROCESS: Final = frozenset({"keras", "tensorflow", "openvino"})
"""Runtimes that are not to be trusted with a model in the process that holds the keys: too large, or unbounded."""

_MAX_PLANS_BYTES: Final = 1 << 40  # the converter bounds what it takes from the child more tightly


class Converter(Protocol):
    """Makes the plans of an upload, in a confined child."""

    async def __call__(
        self, form: str, upload: AsyncIterator[bytes], *, size_bytes: int, sink: Sink, sample: bytes = b""
    ) -> Conversion:
        """Convert it.

        Args:
            form: what the upload is.
            upload: its plaintext.
            size_bytes: how many bytes it has.
            sink: takes the plans' contents, one after another.
            sample: the publisher's own inputs, on which its forms are compared, too; empty for none.

        Raises:
            ArtifactRefused: it cannot be served faithfully.
            Unavailable: the child could not be started.
        """
        ...


class Content(Source, Protocol):
    """Plaintext at random access, or from the start."""

    def chunks(self) -> Iterator[bytes]:
        """Return it in pieces."""
        ...


@dataclass(frozen=True, slots=True)
class Form:
    """A plan and what it consists of."""

    plan: ServingPlan
    content: Content


@dataclass(frozen=True, slots=True)
class Examined:
    """An upload that was looked at and found good.

    Attributes:
        signature: what it takes and gives.
        forms: in which it can be served, the best first.
        findings: what all scans noted, and the conversion.
        scanners: by what was scanned, the version of the rules.
    """

    signature: ModelSignature
    forms: tuple[Form, ...]
    findings: tuple[Mapping[str, str], ...]
    scanners: Mapping[str, str]

    @property
    def asks_for_a_person(self) -> bool:
        """Whether somebody must look at it before it may serve."""
        return any(finding["severity"] == "review" for finding in self.findings)


class Examiner:
    """Looks at uploads, one conversion at a time.

    Args:
        convert: makes the plans.
        spool_folder: where what was made lies, sealed, until it is stored.
    """

    def __init__(self, convert: Converter, *, spool_folder: Path) -> None:
        self._convert = convert
        self._spool_folder = spool_folder
        self._one_conversion = asyncio.Semaphore(1)

    async def examine(
        self, form: str, upload: Spool, held: ExitStack, *, sample: bytes = b"", runtime: str | None = None
    ) -> Examined:
        """Look at an upload.

        Args:
            form: what its publisher says it is, one that is taken.
            upload: all of it.
            held: closed by the caller, once it has stored the contents of the forms.
            sample: the publisher's own inputs; goes to the child, and nowhere else.
            runtime: which one is to serve it; None for the best.

        Raises:
            ArtifactRefused: it is unsafe or broken, or cannot be served faithfully, or not by that runtime.
            Unavailable: it cannot be converted just now.
        """
        report = await asyncio.to_thread(_scan, form, upload)
        require_clean(report)
        rebuilt = await self._rebuilt(form, upload, held)
        async with self._one_conversion:
            made = held.enter_context(Spool(self._spool_folder, max_bytes=_MAX_PLANS_BYTES))
            conversion = await self._convert(
                form, _each(rebuilt.chunks()), size_bytes=rebuilt.size_bytes, sink=made.add, sample=sample
            )
            await made.finish()
        forms, found, scanners = await self._scanned(conversion, rebuilt, made, report)
        _check_choice(runtime, forms, conversion.notes)
        told = [Finding("conversion", "note", f"format {form}", note) for note in conversion.notes]
        return Examined(
            signature=ModelSignature.from_json(conversion.signature),
            forms=tuple(sorted(forms, key=lambda form: _rank(form.plan, runtime))),
            findings=(*(finding.to_json() for finding in (*report.findings, *told)), *found),
            scanners={form: report.scanner_version, **scanners},
        )

    async def _rebuilt(self, form: str, upload: Spool, held: ExitStack) -> Spool:
        """Return the upload as the gateway writes it itself, where it can."""
        rebuilder = REBUILDERS.get(form)
        if rebuilder is None:
            return upload
        rebuilt = held.enter_context(Spool(self._spool_folder, max_bytes=_MAX_PLANS_BYTES))
        await rebuilt.take(_each(rebuilder(upload)))
        return rebuilt

    async def _scanned(
        self, conversion: Conversion, upload: Spool, made: Spool, known: ScanReport
    ) -> tuple[list[Form], list[Mapping[str, str]], dict[str, str]]:
        """Return the plans whose scan is clean, what all their scans noted, and by which rules."""
        forms: list[Form] = []
        findings: list[Mapping[str, str]] = []
        scanners: dict[str, str] = {}
        refused: ScanReport | None = None
        of_upload: dict[Scanner, ScanReport] = {}  # two plans may be the upload itself, for one scanner
        for plan in conversion.plans:
            scanner = PLANS[plan.runtime]
            content = made.part(plan.offset, plan.n_bytes) if plan.n_bytes else upload
            report = None if plan.n_bytes else of_upload.get(scanner)
            if report is None:
                report = await asyncio.to_thread(scanner.scan, content)
            if not plan.n_bytes:
                of_upload[scanner] = report
            scanners[f"plan {plan.runtime}"] = report.scanner_version
            reason = report.refuse_reason()
            if reason is None:
                forms.append(Form(_serving_plan(plan, report), content))
                findings += _of_plan(plan.runtime, report, known)
            else:
                refused = report
                note = f"the scanner does not accept it, so the model is served without it: {reason}"
                findings.append(Finding("plan-refused", "note", f"plan {plan.runtime}", note).to_json())
        if not forms:
            require_clean(refused or ScanReport("none"))
            raise ArtifactRefused("conversion: the model has no form in which it can be served")
        return forms, findings, scanners


def _scan(form: str, upload: Source) -> ScanReport:
    """Return what there is to say about an upload; what is of another format is told by its content first."""
    other = foreign(upload, form)
    return UPLOADS[form].scan(upload) if other is None else ScanReport(form, (other,))


def _check_choice(runtime: str | None, forms: Sequence[Form], notes: Sequence[str]) -> None:
    """Refuse a model that has no plan for the runtime that was asked for, and say which there are.

    Raises:
        ArtifactRefused: so it is.
    """
    there = [form.plan.runtime for form in forms]
    if runtime is not None and runtime not in there:
        why = "".join(f" {note.rstrip('.')}." for note in notes)
        raise ArtifactRefused(f"runtime: '{runtime}' cannot serve this model here; {' and '.join(there)} can.{why}")


def _rank(plan: ServingPlan, runtime: str | None) -> tuple[bool, bool, int]:
    """Return what plans are sorted by, the best first."""
    return plan.runtime != runtime, plan.placement is Placement.PROCESS, plan.took_us or 0


def _serving_plan(plan: ConvertedPlan, report: ScanReport) -> ServingPlan:
    needs_process = plan.runtime in _NEEDS_PROCESS or report.has_control_flow
    return ServingPlan(
        runtime=plan.runtime,
        input_order=plan.input_order,
        output_order=plan.output_order,
        max_relative_error=plan.max_relative_error,
        placement=Placement.PROCESS if needs_process else Placement.THREADS,
        tolerance=plan.tolerance,
        took_us=plan.took_us,
    )


def _of_plan(runtime: str, report: ScanReport, known: ScanReport) -> list[Mapping[str, str]]:
    """Return what the scan of a plan found and that of the upload did not; a later rescan takes its place."""
    return [{**finding.to_json(), "artifact": runtime} for finding in report.findings if finding not in known.findings]


async def _each(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Give out what an iterator makes, each piece made in a thread when it is asked for."""
    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
        yield piece
