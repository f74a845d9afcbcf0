"""`models scan`: what the gateway's scanner would say of a file, without a gateway.

It reads the file as the gateway's first look does, statically; no framework is imported. What the gateway does besides,
in its confined child, it does not: load the model, convert it, compare its answers.
"""

import json
import os
from pathlib import Path
from typing import Any, Final

import typer

from maas_gateway.cli.model_files import ModelFile
from maas_gateway.cli.version_texts import findings_table
from maas_gateway.errors import InvalidRequest
from maas_gateway.scanning.catalogue import UPLOADS
from maas_gateway.scanning.formats import FORMATS, foreign
from maas_gateway.scanning.scanner import ScanReport, report_of

_WHAT_NOW: Final = {
    "accepted": "Nothing in it is refused. The gateway still loads it in a confined process and compares its answers.",
    "review": "The gateway takes it into quarantine: a person with model:promote looks at the findings and releases it.",
    "refused": "The gateway refuses it. Build the model without what is named, save it again, and scan again.",
}


def run_scan(path: Path, form: str | None, *, as_json: bool) -> int:
    """Look at a file and print what there is to say; return the exit code: 0 if it would be taken, else 65.

    Raises:
        InvalidRequest: there is no such format, or the content is of none.
    """
    if form is not None and form not in FORMATS:
        raise InvalidRequest(f"--format {form}: {', '.join(FORMATS)}")
    if not path.exists():
        typer.echo(f"maas-gateway: {path}: no such file", err=True)
        return os.EX_NOINPUT
    try:
        file = ModelFile(path)
    except OSError as error:
        typer.echo(f"maas-gateway: {path}: {error.strerror}", err=True)
        return os.EX_NOINPUT
    with file:
        found = file.format(form)
        said = _said(file, found, _report(file, found))
    if as_json:
        typer.echo(json.dumps(said))
    else:
        _print(said)
    return os.EX_DATAERR if said["verdict"] == "refused" else os.EX_OK


def _report(file: ModelFile, form: str) -> ScanReport:
    other = foreign(file, form)
    if other is not None:
        return report_of(form, [other])
    if form not in UPLOADS:
        raise InvalidRequest(f"{form}: this version has no scanner for it")
    return UPLOADS[form].scan(file)


def _said(file: ModelFile, form: str, report: ScanReport) -> dict[str, Any]:
    severities = {finding.severity for finding in report.findings}
    verdict = "refused" if "refuse" in severities else "review" if "review" in severities else "accepted"
    return {
        "file": file.name,
        "size_bytes": file.size_bytes,
        "digest": file.digest().hex(),
        "verdict": verdict,
        **report.to_json(),
        "format": form,
    }


def _print(said: dict[str, Any]) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.print(
        f"{said['file']}: {said['format']}, {said['size_bytes']:,} bytes, SHA-256 {said['digest']}", soft_wrap=True
    )
    if said["findings"]:
        console.print(findings_table(said["findings"]))
    console.print(f"{said['verdict'].capitalize()} by rules {said['scanner_version']}. {_WHAT_NOW[said['verdict']]}")
