"""What becomes of a stored version that was scanned again: a decision of values.

Rules:

* what the scanners say of its stored forms takes the place of what the rescan before said of them; what was said of the
  upload stays, because the upload is not there any more to be looked at again;
* a finding that refuses brings it into quarantine, from wherever it is, and ends its release;
* a finding that asks for a person and was not there before does the same to a version that does not serve; one that
  serves goes on serving and waits for a person where it stands, unless the rescan is strict: a new rule is no outage;
* findings that were there before, or that are only notes, move nothing.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from maas_gateway.registry.model import ModelVersion, Stage
from maas_gateway.registry.release import Release
from maas_gateway.scanning.scanner import ScanReport

RESCAN: Final = "rescan"
_OF: Final = "artifact"
"""The member that tells a rescan's finding from an upload's: of which stored form it is."""

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
    kept = [f for f in version.findings if _OF not in f or f[_OF] not in reports]
    told = {_key(finding) for finding in kept}
    found = [{**f.to_json(), _OF: role} for role, report in sorted(reports.items()) for f in report.findings]
    return (*kept, *(finding for finding in found if _key(finding) not in told))


def _key(finding: Finding) -> tuple[object, ...]:
    return tuple(finding.get(name) for name in ("rule", "severity", "where", "message"))
