"""`serve`: check the place, take the port, run the workers."""

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.multiprocess import MultiProcessCollector

from maas_gateway.app import GatewayApp, create_app, tls_files
from maas_gateway.cli.configuration import configured, hand_down
from maas_gateway.cli.workers import WorkerConfig, run_workers
from maas_gateway.clock import SystemClock
from maas_gateway.confinement.limits import harden_process
from maas_gateway.place import prepare
from maas_gateway.settings import Settings
from maas_gateway.telemetry import logs
from maas_gateway.web.tls import read_identity


def run_serve(config: Path | None, options: Mapping[str, Any]) -> None:
    """Serve until told to stop.

    Raises:
        Misconfigured: the place is not prepared, or the configuration is wrong.
    """
    settings = configured(config, options)
    harden_process()
    logs.configure(form=settings.logs.form, level=settings.logs.level)
    asyncio.run(prepare(settings, makes_root_key=False))
    serve_prepared(config, settings)


def serve_prepared(config: Path | None, settings: Settings) -> None:
    """Serve a prepared place until told to stop."""
    refuse_taken_port(settings)
    hand_down(config, settings)
    is_alone = settings.http.workers == 1
    application: GatewayApp | None = None
    if is_alone:
        application = create_app(settings)
        start_http_server(settings.metrics_port, settings.metrics.host, application.metrics.registry)
    else:
        _refuse_bad_certificate(settings)
        _share_metrics(settings)
    run_workers(WorkerConfig(settings, application))


def refuse_taken_port(settings: Settings) -> None:
    """Stop with a sentence if another program has a port that is needed."""
    needed = [
        (settings.http.host, settings.http.port, "--port"),
        (settings.metrics.host, settings.metrics_port, "--port"),
    ]
    if settings.grpc.is_enabled:
        needed.append((settings.grpc_host, settings.grpc_port, "grpc.port"))
    for host, port, knob in needed:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                sentence = f"cannot listen on {host}:{port}: {error.strerror}; choose another with {knob}"
                typer.echo(f"maas-gateway: {sentence}", err=True)
                sys.exit(os.EX_UNAVAILABLE)


def _refuse_bad_certificate(settings: Settings) -> None:
    """Stop with a sentence before workers start that would each fail."""
    files = tls_files(settings)
    if files is not None:
        read_identity(files, SystemClock())


def _share_metrics(settings: Settings) -> None:
    """Have all workers count into one folder, and serve their sum from this process."""
    folder = tempfile.mkdtemp(prefix="maas-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # noqa: TID251  the library's own switch, for the workers
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=folder)  # type: ignore[no-untyped-call]  # the library's own gap
    start_http_server(settings.metrics_port, settings.metrics.host, registry)
