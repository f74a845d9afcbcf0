"""Key services for the tests of root-key holders: both emulators of AWS, started once a test session, side by side."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from key_services import AnsweringKMS, KMSEmulator, ministack, moto, session
from simulators.transit import TransitServer, TransitSimulator, serving


@pytest.fixture(scope="session")
def emulators() -> Iterator[tuple[KMSEmulator, KMSEmulator]]:
    started: list[KMSEmulator] = []
    try:
        started.extend(start() for start in (moto, ministack))
        for emulator in started:
            emulator.wait_until_ready()
        yield started[0], started[1]
    finally:
        for emulator in started:
            emulator.close()


@pytest.fixture(scope="session")
def _administrators(emulators: tuple[KMSEmulator, KMSEmulator]) -> Iterator[tuple[Any, Any]]:
    clients = [session().client("kms", endpoint_url=emulator.url) for emulator in emulators]
    yield clients[0], clients[1]
    for client in clients:
        client.close()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials that are none, and nothing of this machine's own configuration."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "no-secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def moto_url(emulators: tuple[KMSEmulator, KMSEmulator], aws: None) -> str:
    return emulators[0].url


@pytest.fixture
def ministack_url(emulators: tuple[KMSEmulator, KMSEmulator], aws: None) -> str:
    return emulators[1].url


@pytest.fixture
def administrator(_administrators: tuple[Any, Any]) -> Any:
    """boto3's client of moto."""
    return _administrators[0]


@pytest.fixture
def ministack_administrator(_administrators: tuple[Any, Any]) -> Any:
    """boto3's client of ministack."""
    return _administrators[1]


@pytest.fixture
def answering(aws: None) -> Iterator[AnsweringKMS]:
    """A KMS that answers what the test tells it to."""
    kms = AnsweringKMS()
    yield kms
    kms.close()


@pytest.fixture(scope="session")
def _transit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TransitServer]:
    with serving(tmp_path_factory.mktemp("transit")) as server:
        yield server


@pytest.fixture
def transit(_transit_server: TransitServer) -> TransitSimulator:
    """A Transit engine that is new, on a real port."""
    return _transit_server.put(TransitSimulator())
