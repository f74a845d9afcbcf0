"""Looking at every stored version again with today's rules.

Rules: each sealed form is verified, opened into memory and scanned by the scanner of its role; what becomes of the
version is `registry.verdict`'s to say, and is written with its manifest, signed anew, and its record in one
transaction, only if the version is still what was looked at; else it is looked at again. A version that is taken out of
serving loses its labels, and raises the alarm. What does not open is counted, raises the alarm, and is left to whoever
serves it. A dry run looks and changes nothing. Safe to repeat: what has been looked at by the same rules does not
change; a killed rescan goes on behind the last version that it noted.

A tenant rescans its own; the platform's operator rescans every tenant's, and is told numbers only.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import structlog

from maas_gateway.audit.event import AuditEvent, Outcome
from maas_gateway.controlplane.acting import Acting
from maas_gateway.controlplane.operate import LongAct, Operate, Report
from maas_gateway.database.unscoped import read_all
from maas_gateway.errors import IntegrityFailure
from maas_gateway.identifiers import PLATFORM
from maas_gateway.keyring.statements import Statements
from maas_gateway.operations import store as operations
from maas_gateway.operations.operation import Operation
from maas_gateway.permissions import Permission
from maas_gateway.policy.authorize import authorize
from maas_gateway.principal import Principal
from maas_gateway.registry import store
from maas_gateway.registry.artifacts import Artifacts
from maas_gateway.registry.manifest import KIND as MANIFEST
from maas_gateway.registry.manifest import amended, check_bound
from maas_gateway.registry.model import ModelVersion, Stage
from maas_gateway.registry.verdict import rescanned
from maas_gateway.scanning.scanner import Scanner, ScanReport
from maas_gateway.tenants import store as tenants

KIND: Final = "rescan"
_THING: Final = "models"
_NOTE_EVERY_S: Final = 1.0
_MAX_NAMED: Final = 100


@dataclass(slots=True)
class _Tally:
    """How far a rescan is, and what it found; kept with the operation.

    Attributes:
        after: tenant, model and number of the version that was looked at last.
        scanned: versions that were looked at.
        passed: those of which nothing more than notes were found.
        review: those for which a person is asked.
        refused: those that today's rules refuse.
        unreadable: those that are not what was sealed.
        unscanned: those of which some form has no scanner here.
        quarantined: those that were brought into quarantine; in a dry run, that would be.
        versions: the first of those that did not pass, for their own tenant.
        names: whether that is who asks.
    """

    names: bool
    after: list[str] = field(default_factory=list)
    scanned: int = 0
    passed: int = 0
    review: int = 0
    refused: int = 0
    unreadable: int = 0
    unscanned: int = 0
    quarantined: int = 0
    versions: list[dict[str, object]] = field(default_factory=list)

    def says(self) -> dict[str, object]:
        """Return what the rescan came to."""
        return {name: value for name, value in asdict(self).items() if name not in {"after", "names"}}

    def count(self, before: ModelVersion, after: ModelVersion) -> None:
        """Count a version that could be looked at."""
        refused, review = after.worst("refuse"), after.worst("review")
        self.quarantined += after.stage is not before.stage
        if refused is not None:
            self.refused += 1
            self.name(after, "refused", refused)
        elif review is not None and after.awaits_person:
            self.review += 1
            self.name(after, "review", review)
        else:
            self.passed += 1

    def name(self, version: ModelVersion, verdict: str, why: Mapping[str, Any]) -> None:
        """Name a version that did not pass to its own tenant; to the platform none of them exists."""
        if self.names and len(self.versions) < _MAX_NAMED:
            named = {"model": version.model, "version": version.version, "stage": version.stage.value}
            self.versions.append({**named, "verdict": verdict, "finding": dict(why)})


class Rescan:
    """The acts of looking again.

    Args:
        acting: what every act needs.
        artifacts: verifies and opens.
        statements: signs manifests.
        operate: runs long acts.
        scanners: who looks at a sealed form, by its role.
    """

    def __init__(
        self,
        acting: Acting,
        artifacts: Artifacts,
        statements: Statements,
        operate: Operate,
        *,
        scanners: Mapping[str, Scanner],
    ) -> None:
        self._acting = acting
        self._artifacts = artifacts
        self._statements = statements
        self._operate = operate
        self._scanners = scanners
        operate.carry_out(KIND, self._steps)

    async def own(self, principal: Principal, *, is_strict: bool = False, is_dry_run: bool = False) -> Operation:
        """Look at every version of the caller's tenant again.

        Args:
            principal: who asks.
            is_strict: whether a version that serves is quarantined too where a person is newly asked for.
            is_dry_run: whether only to look.

        Raises:
            PermissionDenied: the caller may not promote in the whole tenant.
            Conflict: a rescan is running.
        """
        authorize(principal, Permission.MODEL_PROMOTE)
        async with self._acting.database.read(principal.tenant) as session:
            total = await store.n_versions(session)
        return await self._begin(principal, total, is_strict=is_strict, is_dry_run=is_dry_run)

    async def everywhere(self, principal: Principal, *, is_strict: bool = False, is_dry_run: bool = False) -> Operation:
        """Look at every version of every tenant again; only numbers are told.

        Raises:
            PermissionDenied: the caller is no operator of the platform.
            Conflict: a rescan of all tenants is running.
        """
        authorize(principal, Permission.TENANT_WRITE)
        async with read_all(self._acting.database) as session:
            total = await store.n_versions(session)
        return await self._begin(principal, total, is_strict=is_strict, is_dry_run=is_dry_run)

    async def _begin(self, principal: Principal, total: int, *, is_strict: bool, is_dry_run: bool) -> Operation:
        subject = {"strict": is_strict, "dry_run": is_dry_run}
        act = LongAct(
            principal.tenant, KIND, subject, thing=_THING, exclusive=_THING, actor=principal.name, total=total
        )
        return await self._operate.begin(act)

    async def _steps(self, operation: Operation, report: Report) -> Mapping[str, object]:
        noted: dict[str, Any] = dict(operation.result or {"names": operation.tenant != PLATFORM})
        tally = _Tally(**noted)
        clock = self._acting.clock
        told_at_s = clock.monotonic_s()
        async for version in self._todo(operation, tally.after):
            await self._look_at(operation, version, tally)
            if clock.monotonic_s() - told_at_s >= _NOTE_EVERY_S:
                await self._note(operation, tally, report)
                told_at_s = clock.monotonic_s()
        await self._note(operation, tally, report)
        return tally.says()

    async def _note(self, operation: Operation, tally: _Tally, report: Report) -> None:
        async with self._acting.database.write(operation.tenant) as session:
            await operations.note(session, operation.operation_id, asdict(tally))
        await report(tally.scanned, max(operation.total, tally.scanned))

    async def _todo(self, operation: Operation, after: list[str]) -> AsyncIterator[ModelVersion]:
        """Give out the versions behind a place, one tenant after the other, always in the same order."""
        owners = [operation.tenant]
        if operation.tenant == PLATFORM:
            async with read_all(self._acting.database) as everywhere:
                owners = sorted(tenant.tenant_id for tenant in await tenants.every(everywhere))
        for owner in owners:
            async with self._acting.database.read(owner) as session:
                models = await store.models(session)
            for version in sorted((v for model in models for v in model.versions), key=_place):
                if _place(version) > after:
                    yield version

    async def _look_at(self, operation: Operation, version: ModelVersion, tally: _Tally) -> None:
        now: ModelVersion | None = version
        while now is not None:
            try:
                reports = await self._reports(now)
                after = await self._settled(operation, now, reports)
            except IntegrityFailure as failure:
                self._alarm(now, failure.slug, failure.detail)
                thing = f"model {now.model}/versions/{now.version}"
                event = AuditEvent("model.integrity", operation.actor, thing, Outcome.ALARM, failure.slug)
                self._acting.audit.write_soon(now.tenant, event)
                tally.unreadable += 1
                tally.name(now, "unreadable", {"rule": failure.slug, "message": failure.detail})
                break
            if after is not None:
                tally.count(now, after)
                tally.unscanned += len(reports) < len(now.artifacts)
                break
            now = await self._again(now)  # it was changed while it was looked at, or it has gone
        tally.scanned += 1
        tally.after = _place(version)

    async def _reports(self, version: ModelVersion) -> dict[str, ScanReport]:
        reports = {}
        for artifact in version.artifacts:
            scanner = self._scanners.get(artifact.role.value)
            if scanner is not None:
                memory = await self._artifacts.open(version, artifact.role)
                with memory:
                    reports[artifact.role.value] = await asyncio.to_thread(scanner.scan, memory)
        return reports

    async def _settled(
        self, operation: Operation, version: ModelVersion, reports: Mapping[str, ScanReport]
    ) -> ModelVersion | None:
        """Have a version be what the rescan makes of it, and return that; None if it was changed meanwhile."""
        is_strict, is_dry_run = operation.subject["strict"] is True, operation.subject["dry_run"] is True
        after = rescanned(version, reports, now=self._acting.clock.now(), is_strict=is_strict)
        if is_dry_run:
            return after
        manifest = await self._artifacts.manifest(version)
        check_bound(manifest, version)
        rules = {f"plan {role}": report.scanner_version for role, report in reports.items()}
        said = amended(manifest, after, scanners=rules)
        if after == version and said.get("scanners") == manifest.get("scanners"):
            return after
        after = replace(after, manifest=await self._statements.sign(MANIFEST, said))
        return after if await self._written(operation, version, after) else None

    async def _written(self, operation: Operation, version: ModelVersion, after: ModelVersion) -> bool:
        async with self._acting.database.write(version.tenant) as session:
            if not await store.amend(session, version, after):
                return False
            labels: list[str] = []
            if after.stage is Stage.QUARANTINED:
                labels = await store.drop_labels_of(session, after)
            if after.findings != version.findings or after.stage is not version.stage:
                event = _event(operation.actor, version, after, labels)
                await self._acting.audit.record(session, event)
        self._acting.announce(store.TOPIC)
        if after.stage is not version.stage:
            finding = after.worst("refuse") or after.worst("review") or {}
            self._alarm(after, str(finding.get("rule")), "a rescan brought it into quarantine")
        return True

    async def _again(self, version: ModelVersion) -> ModelVersion | None:
        async with self._acting.database.read(version.tenant) as session:
            model = await store.model(session, version.model)
        if model is None or model.model_id != version.model_id:
            return None
        return next((found for found in model.versions if found.version == version.version), None)

    def _alarm(self, version: ModelVersion, rule: str, reason: str) -> None:
        name = {"tenant": str(version.tenant), "model": version.model, "version": version.version}
        structlog.get_logger().critical("rescan_alarm", rule=rule, reason=reason, **name)


def _place(version: ModelVersion) -> list[str]:
    return [str(version.tenant), str(version.model_id), f"{version.version:020}"]


def _event(actor: str, before: ModelVersion, after: ModelVersion, labels: list[str]) -> AuditEvent:
    thing = f"model {before.model}/versions/{before.version}"
    worst = after.worst("refuse") or after.worst("review") or {}
    detail = {"stage": before.stage.value, "rule": worst.get("rule"), "labels": ",".join(labels)}
    if after.stage is before.stage:
        return AuditEvent("model.rescanned", actor, thing, detail=detail)
    return AuditEvent("model.quarantined", actor, thing, Outcome.ALARM, str(worst.get("rule")), detail)
