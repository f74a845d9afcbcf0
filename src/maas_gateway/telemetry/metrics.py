"""Counters and timings for Prometheus.

Rules: labels are bounded (door, outcome, model and tenant by id of what is loaded); never a user, a
token or a path. Children are looked up once and kept.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Everything that is counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._durations = Histogram(
            "maas_request_duration_seconds",
            "From the request's head to its answer; the count is the number of requests.",
            ("door", "status"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.rows = Counter(
            "maas_inference_rows", "Rows predicted.", ("tenant", "model", "version"), registry=self.registry
        )
        self.loaded = Gauge(
            "maas_models_loaded", "Model versions in memory.", registry=self.registry, multiprocess_mode="livesum"
        )
        self.model_processes = Gauge(
            "maas_model_processes",
            "Confined processes that compute models.",
            registry=self.registry,
            multiprocess_mode="livesum",
        )
        self.model_process_ends = Counter(
            "maas_model_process_ends",
            "Processes of models that ended by themselves or were killed: crashed, timed-out, out-of-memory, protocol.",
            ("reason",),
            registry=self.registry,
        )
        self.model_process_restarts = Counter(
            "maas_model_process_restarts", "Processes of models that were started again.", registry=self.registry
        )
        self.integrity_alarms = Counter(
            "maas_integrity_alarms", "Sealed or signed bytes that were not what was stored.", registry=self.registry
        )
        self.audit_lost = Counter(
            "maas_audit_refusals_uncounted", "Refusals that the full queue could not take.", registry=self.registry
        )
        self.certificate_expires, self.certificate_refused = _of_certificate(self.registry)
        self._kept: dict[tuple[str, int], Callable[[float], None]] = {}

    def request(self, door: str, status: int, took_s: float) -> None:
        """Count one answered request."""
        kept = self._kept.get((door, status))
        if kept is None:
            kept = self._kept[door, status] = self._durations.labels(door, str(status)).observe
        kept(took_s)


def _of_certificate(registry: CollectorRegistry) -> tuple[Gauge, Gauge]:
    """Return the gauges of the certificate in force; without TLS they have no value, or they would raise alarms."""
    expires = Gauge(
        "maas_certificate_expires_timestamp_seconds",
        "When the certificate in force expires, in seconds since the epoch.",
        ("certificate",),
        registry=registry,
        multiprocess_mode="livemin",
    )
    refused = Gauge(
        "maas_certificate_refused",
        "1 while the files hold a certificate that cannot be used, and an older one is in force.",
        ("certificate",),
        registry=registry,
        multiprocess_mode="livemax",
    )
    return expires, refused


def exposition(metrics: Metrics | None, shared: Path | None = None) -> bytes:
    """Return the text format: of this process, or of all worker processes that share a folder."""
    if shared is None:
        return generate_latest(metrics.registry) if metrics is not None else b""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, path=str(shared))  # type: ignore[no-untyped-call]  # the library's own gap
    return generate_latest(registry)
