"""Key services for tests: two emulators of AWS KMS from wheels, a server that answers what a test
tells it to, and a certificate for one that speaks TLS.

No emulator does all of it: moto seals with AES-GCM and refuses what was altered, but decrypts with a
disabled key, and refuses another key's ciphertext as a matter of access; ministack refuses a key that
is disabled or going, but its ciphertext can be altered. What neither says is told to `AnsweringKMS`.
"""

import ctypes
import functools
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import boto3.session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

START_S = 30.0
REGION = "eu-central-1"
_PR_SET_PDEATHSIG = 1
_LISTENS = "0A"
_LIBC = ctypes.CDLL(None)


class KMSEmulator:
    """An emulator of AWS in a process of its own, on a loopback port; gone when the test session ends.

    A killed test session takes it with it: it asks the kernel for a signal then.

    Args:
        arguments: of Python; `{port}` stands for the port.
        environment: more of it; `{port}` again.
        ready: the path that answers with 200 once it is ready.
    """

    def __init__(self, arguments: list[str], environment: dict[str, str], ready: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="maas-kms-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        own = {"PATH": "/usr/bin:/bin", "HOME": str(self._folder), "TMPDIR": str(self._folder)}
        self._process = subprocess.Popen(
            [sys.executable, *(argument.format(port=self.port) for argument in arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self._folder,
            env=own | {name: value.format(port=self.port) for name, value in environment.items()},
            preexec_fn=_die_with_parent,  # noqa: PLW1509  it calls one function of the kernel and nothing of Python's
        )
        self._ready = f"{self.url}{ready}"

    def wait_until_ready(self) -> None:
        """Return once it answers; a session starts several at once and waits for them in turn."""
        ends_at = time.monotonic() + START_S
        while time.monotonic() < ends_at:
            if self._process.poll() is not None:
                raise RuntimeError(f"an emulator of AWS ended with {self._process.returncode} at start")
            try:
                with urllib.request.urlopen(self._ready, timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.02)
        raise RuntimeError(f"an emulator of AWS did not answer within {START_S} s")

    def listens_at(self) -> set[tuple[str, int]]:
        """Return the addresses, as the kernel writes them, and ports that the process listens at."""
        process = Path("/proc") / str(self._process.pid)
        own = {str(file.readlink()) for file in (process / "fd").iterdir()}
        found = set()
        for table in ("tcp", "tcp6"):
            for line in (process / "net" / table).read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = line.split()[:10]
                if state == _LISTENS and f"socket:[{inode}]" in own:
                    address, _, port = local.partition(":")
                    found.add((address, int(port, 16)))
        return found

    def close(self) -> None:
        """Stop it and remove its folder."""
        self._process.kill()
        self._process.wait(20)
        shutil.rmtree(self._folder, ignore_errors=True)


def moto() -> KMSEmulator:
    """Start moto, which seals for real."""
    return KMSEmulator(["-m", "moto.server", "-H", "127.0.0.1", "-p", "{port}"], {}, "/moto-api/")


def ministack() -> KMSEmulator:
    """Start ministack, which minds the state of a key; it would listen everywhere, and for devices too, if not told."""
    environment = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": "{port}",
        "SERVICES": "kms",
        "MINISTACK_REGION": REGION,
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
    }
    return KMSEmulator(["-m", "ministack"], environment, "/_ministack/health")


class AnsweringKMS:
    """Answers every call alike.

    Attributes:
        status: of the answer.
        answer: the JSON of it.
        delay_s: how long the answer takes.
        n_calls: how many calls came so far.
        left: released for each connection that has ended.
    """

    def __init__(self) -> None:
        self.reset()
        self.left = threading.Semaphore(0)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Answer with nothing, and count anew."""
        self.status = 200
        self.answer: object = {}
        self.delay_s = 0.0
        self.n_calls = 0

    def refuse(self, code: str, *, status: int = 400) -> None:
        """Answer with an error of KMS from now on."""
        self.status = status
        self.answer = {"__type": code, "message": "a sentence of AWS's own"}

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        kms = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # keeps connections

            def finish(self) -> None:
                super().finish()
                kms.left.release()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                kms.n_calls += 1
                time.sleep(kms.delay_s)
                body = json.dumps(kms.answer).encode()
                try:
                    self.send_response(kms.status)
                    self.send_header("Content-Type", "application/x-amz-json-1.1")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True  # the client gave up

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@functools.cache
def session() -> Any:
    """Return a session of boto3 with credentials that are none; it keeps AWS's description, which takes 0.1 s to read."""
    return boto3.session.Session(aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="no-secret", region_name=REGION)


def free_port() -> int:
    """Return a loopback port that nothing listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 and its key to `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    written = folder / "certificate.pem", folder / "key.pem"
    written[0].write_bytes(certificate.public_bytes(pem))
    written[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return written


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
