"""What becomes of a stored version that was scanned again: a decision of values.

Rules:

* what the scanners say of its stored forms takes the place of what was said of them before; what was said of the upload
  stays, because the upload is not there any more to be looked at again, and is not said a second time of a form of it;
* a finding that refuses brings it into quarantine, from wherever it is, and ends its release;
* a finding that asks for a person and was not there before does the same to a version that does not serve; one that
  serves goes on serving and waits for a person where it stands, unless the rescan is strict: a new rule is no outage;
* findings that were there before, or that are only notes, move nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from maas_gateway.registry.model import ModelVersion, Stage
from maas_gateway.registry.release import Release
from maas_gateway.scanning.scanner import ScanReport, place_in_plan

RESCAN: Final = "rescan"
Finding = Mapping[str, Any]


def rescanned(
    version: ModelVersion, reports: Mapping[str, ScanReport], *, now: datetime, is_strict: bool = False
) -> ModelVersion:
    """Return a version as it is to be after a rescan; the same if nothing is new.

    Args:
        version: as it is.
        reports: what the scanners say, by the role of the stored form that they looked at.
        now: what time it is.
        is_strict: whether a version that serves is quarantined too where a person is asked for.
    """
    findings = _findings(version, reports)
    after = replace(version, findings=findings)
    if after.worst("refuse") is not None:
        return replace(after, stage=Stage.QUARANTINED, release=None)
    before = {_key(finding) for finding in version.findings}
    if not any(f.get("severity") == "review" and _key(f) not in before for f in findings):
        return after if findings != version.findings else version
    if version.stage is Stage.SERVING and not is_strict:
        passed = Release(RESCAN, now, "it served already when the rules began to ask for a person")
        return replace(after, release=passed)
    return replace(after, stage=Stage.QUARANTINED, release=None)


def _findings(version: ModelVersion, reports: Mapping[str, ScanReport]) -> tuple[Finding, ...]:
    """Return the upload's findings, then those of today about its stored forms that say more."""
    kept = [finding for finding in version.findings if not _is_about(finding, reports)]
    of_upload = [finding for finding in kept if not _is_about(finding, [a.role.value for a in version.artifacts])]
    told = {(finding.get("rule"), finding.get("severity"), finding.get("message")) for finding in of_upload}
    found = [
        replace(finding, where=place_in_plan(role, finding.where)).to_json()
        for role, report in sorted(reports.items())
        for finding in report.findings
        if (finding.rule, finding.severity, finding.message) not in told
    ]
    return (*kept, *found)


def _is_about(finding: Finding, roles: Iterable[str]) -> bool:
    """Tell whether a finding is about a stored form of one of these roles."""
    return str(finding.get("where", "")).startswith(tuple(place_in_plan(role, "") for role in roles))


def _key(finding: Finding) -> tuple[object, ...]:
    return tuple(finding.get(name) for name in ("rule", "severity", "where", "message"))
