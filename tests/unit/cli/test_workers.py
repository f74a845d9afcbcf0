"""uvicorn is set as the settings say, and its end begins with readiness."""

import asyncio
import signal
from pathlib import Path

import pytest

from builders.gateways import gateway_settings
from maas_gateway.cli.workers import FINISH_S, WorkerConfig, drain_on_signals
from maas_gateway.web.readiness import Readiness

pytestmark = pytest.mark.anyio


def test_a_worker_takes_what_the_settings_say(tmp_path: Path) -> None:
    http = {"keep_alive_s": 75, "drain_s": 1.5, "workers": 3, "trusted_proxies": ["10.0.0.2"]}
    config = WorkerConfig(gateway_settings(tmp_path, http=http))
    assert (config.timeout_keep_alive, config.timeout_graceful_shutdown, config.drain_s) == (75, FINISH_S, 1.5)
    assert (config.workers, config.proxy_headers, config.forwarded_allow_ips) == (3, True, ["10.0.0.2"])


@pytest.mark.parametrize(
    ("sent", "heard"),
    [
        pytest.param([signal.SIGTERM], [], id="SIGTERM only leaves, for as long as is set"),
        pytest.param([signal.SIGTERM, signal.SIGTERM], [], id="a second one changes nothing"),
        pytest.param([signal.SIGINT], [signal.SIGINT], id="SIGINT closes at once"),
        pytest.param([signal.SIGTERM, signal.SIGINT], [signal.SIGINT], id="SIGINT ends the wait"),
    ],
)
async def test_signals_close_in_their_order(sent: list[signal.Signals], heard: list[signal.Signals]) -> None:
    readiness, stopped = Readiness(), []
    before = {
        number: signal.signal(number, lambda got, _: stopped.append(got)) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        drain_on_signals(readiness, 3_600)
        for number in sent:
            signal.raise_signal(number)
        async with asyncio.timeout(10):
            await readiness.leaving()
            if heard:
                await readiness.closing()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (stopped, readiness.is_ready) == (heard, False)
