"""The certificate in force: what it starts with, what it takes up, what it keeps."""

import re
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from builders.certificates import Authority
from builders.logs import Lines
from maas_gateway.errors import Misconfigured
from maas_gateway.telemetry import logs
from maas_gateway.telemetry.metrics import Metrics, exposition
from maas_gateway.web.tls import ServerTLS, TLSFiles
from simulators.clock import ManualClock

pytestmark = pytest.mark.anyio

CLOCK = ManualClock()
AUTHORITY = Authority(now=CLOCK.at)
FIRST, SECOND = (AUTHORITY.issue("localhost") for _ in range(2))
EXPIRED = AUTHORITY.issue("localhost", ends=timedelta(seconds=-1))


@pytest.fixture
def files(tmp_path: Path) -> TLSFiles:
    return TLSFiles(*FIRST.written(tmp_path))


def _started(files: TLSFiles, clock: ManualClock | None = None) -> tuple[ServerTLS, Metrics]:
    metrics = Metrics()
    return ServerTLS(files, clock or ManualClock(), metrics), metrics


def _in_force(tls: ServerTLS) -> bytes:
    """Return the certificate that a handshake through memory shows."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    client = trusting.wrap_bio(to_client, to_server)
    server = tls.context.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return ssl.DER_cert_to_PEM_cert(shown).encode()


async def test_a_new_pair_is_shown_once_it_rests_and_for_both_ports(files: TLSFiles, tmp_path: Path) -> None:
    tls, metrics = _started(files)
    await tls.look()
    assert (_in_force(tls), tls.identity.chain) == (FIRST.chain, FIRST.chain)
    SECOND.written(tmp_path)
    await tls.look()
    assert _in_force(tls) == FIRST.chain
    await tls.look()
    assert (_in_force(tls), tls.identity.chain, tls.identity.key) == (SECOND.chain, SECOND.chain, SECOND.key)
    (line,) = re.findall(r"^maas_certificate_expires_timestamp_seconds.*$", exposition(metrics).decode(), re.MULTILINE)
    assert float(line.split()[1]) == tls.identity.certificate.not_after.timestamp()


async def test_a_pair_that_is_replaced_one_file_after_the_other_raises_no_alarm(
    files: TLSFiles, tmp_path: Path, lines: Lines
) -> None:
    logs.configure(form="json")
    tls, _ = _started(files)
    files.certificate.write_bytes(SECOND.chain)
    await tls.look()
    SECOND.written(tmp_path)
    await tls.look()
    await tls.look()
    assert _in_force(tls) == SECOND.chain
    assert "certificate_refused" not in lines.getvalue()
    assert lines.getvalue().count("certificate_loaded") == 1


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        pytest.param(lambda f: f.certificate.write_bytes(SECOND.chain), "the key is not that of", id="another's key"),
        pytest.param(lambda f: f.certificate.write_bytes(b"half"), "no certificate", id="no certificate"),
        pytest.param(lambda f: f.certificate.unlink(), "cannot be read", id="a certificate that is gone"),
        pytest.param(lambda f: f.key.unlink(), "cannot be read", id="a key that is gone"),
        pytest.param(lambda f: EXPIRED.written(f.key.parent), "has expired", id="an expired pair"),
        pytest.param(
            lambda f: (SECOND.written(f.key.parent), f.key.chmod(0o640)), "chmod 600", id="a key others can read"
        ),
    ],
)
async def test_a_broken_pair_is_refused_at_the_start_and_later_keeps_the_old_one(
    files: TLSFiles, tmp_path: Path, lines: Lines, spoil: Callable[[TLSFiles], object], sentence: str
) -> None:
    logs.configure(form="json")
    tls, metrics = _started(files)
    spoil(files)
    for _ in range(4):
        await tls.look()
    assert _in_force(tls) == FIRST.chain
    assert sentence in lines.getvalue()
    assert lines.getvalue().count("certificate_refused") == 1
    assert 'maas_certificate_refused{certificate="server"} 1.0' in exposition(metrics).decode()
    with pytest.raises(Misconfigured, match=sentence):
        _started(files)
    SECOND.written(tmp_path)
    for _ in range(2):
        await tls.look()
    assert _in_force(tls) == SECOND.chain
    assert 'maas_certificate_refused{certificate="server"} 0.0' in exposition(metrics).decode()


async def test_what_is_refused_is_taken_up_when_its_time_comes_or_its_mode_is_put_right(
    files: TLSFiles, tmp_path: Path
) -> None:
    clock = ManualClock()
    tls, _ = _started(files, clock)
    later = AUTHORITY.issue("localhost", begins=timedelta(hours=1))
    later.written(tmp_path)
    for _ in range(2):
        await tls.look()
    assert _in_force(tls) == FIRST.chain
    clock.move(3_600)
    await tls.look()
    assert _in_force(tls) == later.chain
    SECOND.written(tmp_path)
    files.key.chmod(0o644)
    for _ in range(2):
        await tls.look()
    assert _in_force(tls) == later.chain
    files.key.chmod(0o600)
    await tls.look()
    assert _in_force(tls) == SECOND.chain


async def test_no_key_is_in_what_is_printed_of_an_identity(files: TLSFiles) -> None:
    tls, _ = _started(files)
    assert "PRIVATE" not in repr(tls.identity)


async def test_authorities_that_are_none_are_refused(files: TLSFiles, tmp_path: Path) -> None:
    none = tmp_path / "ca.pem"
    for content in (None, b"", FIRST.key):
        if content is not None:
            none.write_bytes(content)
        with pytest.raises(Misconfigured, match=r"tls\.client_ca_file"):
            _started(replace(files, client_ca=none))
