"""A scanner of later rules: says what a test wants of every file, and may be made to wait."""

import threading
from dataclasses import dataclass, field, replace
from typing import Any

from builders.gateways import World
from maas_gateway.controlplane.admission import Admission
from maas_gateway.scanning.scanner import Finding, ScanReport, Source

REFUSED = Finding("later-rule", "refuse", "operator 3", "later rules do not take it.")
REVIEW = Finding("later-doubt", "review", "operator 2", "later rules ask for a person.")
NOTE = Finding("later-note", "note", "operator 1", "later rules have noticed it.")


@dataclass
class LaterScanner:
    """Fulfils `Scanner`.

    Attributes:
        findings: what it says.
        version: of its rules.
        may_go_on: cleared, it waits.
        has_begun: set once somebody asks.
        n_scanned: how often it was asked.
    """

    findings: tuple[Finding, ...] = ()
    version: str = "later"
    may_go_on: threading.Event = field(default_factory=threading.Event)
    has_begun: threading.Event = field(default_factory=threading.Event)
    n_scanned: int = 0

    def scan(self, source: Source) -> ScanReport:
        """Read the file and say what it was told to."""
        assert len(source.read_at(0, source.size_bytes + 1)) == source.size_bytes
        self.n_scanned += 1
        self.has_begun.set()
        assert self.may_go_on.wait(30)
        return ScanReport("tflite", self.findings, self.version)


def later_rules(world: World, *findings: Finding, waits: bool = False, version: str = "later") -> LaterScanner:
    """Have a gateway's rescans look at stored LiteRT plans by rules that say this; return the scanner."""
    scanner = LaterScanner(findings, version)
    if not waits:
        scanner.may_go_on.set()
    gateway = world.gateway
    rules: dict[str, Any] = {"litert": scanner}
    admission = Admission.of(gateway.upload._acting, gateway.erase._stores, gateway.operate, rules)
    world.app.state.gateway = replace(gateway, admission=admission)
    return scanner
