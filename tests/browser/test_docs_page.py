"""The documentation page in a real browser: sign in, predict, and nothing leaves the host."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

_ARGUMENTS = [
    "--no-sandbox",  # Chromium's own sandbox does not start as root, as which containers run their tests
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PREDICT = "/v1/models/{model}:predict"
_START_S = 300.0
_METRICS_ABOVE_HTTP = 1_000


@dataclass(frozen=True, slots=True)
class Demo:
    url: str
    record: dict[str, Any]


@dataclass(slots=True)
class Watched:
    """A page, and what it asked for and complained about."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium")
    if found is None:
        enabling = "there is no Chromium; to enable this test: sudo apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(enabling)
        pytest.skip(enabling)
    return found


@pytest.fixture(scope="module")
def demo(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    place = tmp_path_factory.mktemp("demo")
    port = _free_port()
    command = [sys.executable, "-m", "maas_gateway", "demo", "--data-dir", str(place / "var"), "--port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAAS_")}
    with (place / "output.txt").open("wb") as output:
        process = subprocess.Popen(command, cwd=place, stdout=output, stderr=output, env=environment)
        try:
            url = f"http://127.0.0.1:{port}"
            _await_ready(url, process, place / "output.txt")
            yield Demo(url, json.loads((place / "var" / "first-run.json").read_text(encoding="utf-8")))
        finally:
            process.terminate()
            process.wait(timeout=60)


@pytest.fixture
def watched(chromium: str, demo: Demo) -> Iterator[Watched]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        context = browser.new_context(viewport={"width": 1280, "height": 1600})
        watched = Watched(context.new_page())
        context.on("request", lambda request: watched.requests.append(request.url))
        context.on("requestfailed", lambda request: watched.complaints.append(f"failed: {request.url}"))
        context.on("weberror", lambda error: watched.complaints.append(str(error.error)))
        context.on("console", lambda message: _note(watched, message))
        watched.page.set_default_timeout(30_000)
        watched.page.goto(f"{demo.url}/docs")
        watched.page.get_by_role("button", name="Authorize").wait_for()
        yield watched
        context.close()
        browser.close()


def test_docs_page_predicts_after_a_user_signed_in(watched: Watched, demo: Demo, tmp_path: Path) -> None:
    owner = demo.record["owner"]
    _authorize(watched.page, "password", username=owner["username"], password=owner["password"])

    status, answer = _predict(watched.page, demo)

    assert status == 200
    assert len(answer["predictions"]) == 1
    assert 0 <= answer["predictions"][0][0] <= 1
    watched.page.screenshot(path=tmp_path / "signed_in.png", full_page=True)
    _assert_stayed_at_home(watched, demo)


def test_docs_page_predicts_after_a_service_account_signed_in(watched: Watched, demo: Demo) -> None:
    invoker = demo.record["invoker"]
    _authorize(
        watched.page, "clientCredentials", client_id=invoker["client_id"], client_secret=invoker["client_secret"]
    )

    status, answer = _predict(watched.page, demo)

    assert status == 200
    assert len(answer["predictions"]) == 1
    _assert_stayed_at_home(watched, demo)


def test_docs_page_shows_the_refusal_when_nobody_signed_in(watched: Watched, demo: Demo) -> None:
    status, answer = _predict(watched.page, demo)

    assert status == 401
    assert "Authorization" in answer["error"]
    assert all(url.startswith(demo.url) for url in watched.requests)


def test_docs_page_shows_every_operation_of_the_document(watched: Watched, demo: Demo) -> None:
    document = httpx.get(f"{demo.url}/openapi.json").raise_for_status().json()
    operations = sum(len(item) for item in document["paths"].values())
    watched.page.locator(".opblock").first.wait_for()
    assert watched.page.locator(".opblock").count() == operations
    assert watched.page.locator(".errors-wrapper").count() == 0
    _assert_stayed_at_home(watched, demo)


def _authorize(page: Any, flow: str, **fields: str) -> None:
    page.get_by_role("button", name="Authorize").first.click()
    dialog = page.locator(".dialog-ux .modal-ux")
    form = dialog.locator(".auth-container", has_text=f"Flow: {flow}")
    for name, value in fields.items():
        label = {"client_id": "client_id:", "client_secret": "client_secret:"}.get(name, f"{name}:")
        form.get_by_label(label, exact=True).fill(value)
    form.get_by_role("button", name="Apply given OAuth2 credentials").click()
    form.get_by_role("button", name="Remove authorization").wait_for()
    dialog.get_by_role("button", name="Close", exact=True).last.click()


def _predict(page: Any, demo: Demo) -> tuple[int, dict[str, Any]]:
    summary = page.locator(f'.opblock-summary-path[data-path="{_PREDICT}"]')
    block = page.locator(".opblock", has=summary)
    summary.click()
    block.get_by_role("button", name="Try it out").click()
    example = json.loads(block.locator("textarea.body-param__text").input_value())
    assert len(example["instances"][0]) == len(demo.record["example"]["instances"][0])
    assert block.locator("tr[data-param-name=model] input").input_value() == demo.record["model"]
    block.get_by_role("button", name="Execute").click()
    live = block.locator(".live-responses-table .response")
    live.wait_for()
    found = re.match(r"\d+", live.locator(".response-col_status").inner_text())
    assert found is not None
    return int(found[0]), json.loads(live.locator(".response-col_description pre").first.inner_text())


def _assert_stayed_at_home(watched: Watched, demo: Demo) -> None:
    home = urlsplit(demo.url).netloc
    away = [url for url in watched.requests if urlsplit(url).scheme not in {"data", "blob"}]
    away = [url for url in away if urlsplit(url).netloc != home]
    assert watched.requests
    assert away == []
    assert watched.complaints == []


def _note(watched: Watched, message: Any) -> None:
    if message.type in {"error", "warning"} or "Content Security Policy" in message.text:
        watched.complaints.append(f"{message.type}: {message.text}")


def _free_port() -> int:
    """Return a port that is free, as is the one that its metrics would take."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + _METRICS_ABOVE_HTTP))
            except (OSError, OverflowError):
                continue
            return port
    raise AssertionError("no two ports are free")


def _await_ready(url: str, process: "subprocess.Popen[bytes]", output: Path) -> None:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        assert process.poll() is None, output.read_text(encoding="utf-8")
        try:
            if httpx.get(f"{url}/v2/health/ready", timeout=1).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(output.read_text(encoding="utf-8"))
