"""TLS of the public ports: a certificate and its key from files, followed while the gateway runs.

Rules: files are used that fit together, are in their time, and whose key nobody else can read; at the start others are
refused, later what was good stays in force until better ones come, and the log and the metrics say so. Files that change
are taken up once they have been the same for one look, so that a certificate and a key which are replaced one after the
other are seen as a pair. A new pair holds for new connections, with new session tickets; open ones go on. TLS 1.2 is
the least. It protects what is sent between a client and this process; not from a client authority that is careless:
there is no list of revoked certificates, and who may do what a credential still decides.

Source: RFC 9325, sections 3.1.1 and 3.4; OpenSSL, SSL_CTX_set_options(3) for renegotiation.
"""

import asyncio
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from maas_gateway.clock import Clock
from maas_gateway.crypto.certificates import ServerCertificate, check_authorities, check_pair
from maas_gateway.errors import Misconfigured
from maas_gateway.files import read_private
from maas_gateway.telemetry.metrics import Metrics

LOOK_EVERY_S: Final = 1.0
"""Seconds between two looks at the files."""

_SERVER: Final = "server"
"""For the metrics."""

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class TLSFiles:
    """Which files, and what clients must bring.

    Attributes:
        certificate: the chain, PEM, the server's own first.
        key: its private key, PEM.
        client_ca: authorities of clients' certificates, PEM; None asks clients for none.
        requires_client: whether, with authorities, a client without a certificate is refused.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None
    requires_client: bool = True


@dataclass(frozen=True, slots=True)
class TLSIdentity:
    """What was read from the files, checked.

    Attributes:
        chain: PEM.
        key: PEM.
        authorities: PEM, or None.
        certificate: what the chain's first certificate says.
    """

    chain: bytes
    key: bytes = field(repr=False)
    authorities: bytes | None
    certificate: ServerCertificate


class FollowingContext(ssl.SSLContext):
    """A context that makes each new connection with another one, which can be replaced as a whole.

    A context that serves could be given another chain, but never fewer client authorities, and its session tickets
    would bring back clients whose authority is gone.
    """

    current: ssl.SSLContext

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        """Begin a connection."""
        return self.current.wrap_bio(*args, **named)


class ServerTLS:
    """The certificate in force, and what follows its files.

    Args:
        files: where it comes from.
        clock: tells the time of day.
        metrics: where its end and refused files are told.

    Raises:
        Misconfigured: the files cannot be used.
    """

    def __init__(self, files: TLSFiles, clock: Clock, metrics: Metrics) -> None:
        self.files = files
        self._clock = clock
        self._metrics = metrics
        self._log = structlog.get_logger()
        self.context = FollowingContext(ssl.PROTOCOL_TLS_SERVER)
        """For the HTTP port."""
        self.http2_context = FollowingContext(ssl.PROTOCOL_TLS_SERVER)
        """For the gRPC port."""
        self._in_force: tuple[Stamp | None, ...] = ()
        self._seen: tuple[Stamp | None, ...] = ()
        self._refused_because = ""
        self._take_up(self._stamps())

    @property
    def identity(self) -> TLSIdentity:
        """What is in force."""
        return self._identity

    async def look(self) -> None:
        """Look at the files once; take up what has changed and can be used."""
        await asyncio.to_thread(self._look)

    def _look(self) -> None:
        stamps = self._stamps()
        is_still, self._seen = stamps == self._seen, stamps
        if stamps == self._in_force:
            self._settled()
        elif is_still:  # what is refused is read at each look: its time may come, or its mode change
            try:
                self._take_up(stamps)
            except Misconfigured as error:
                self._refuse(error.detail)
                return
            self._log.info("certificate_loaded", serial=self._identity.certificate.serial, **self._until())
            self._settled()

    def _take_up(self, stamps: tuple[Stamp | None, ...]) -> None:
        identity = read_identity(self.files, self._clock)
        context, http2_context = (_context(self.files, identity, protocol) for protocol in ("http/1.1", "h2"))
        if self._stamps() != stamps:
            raise Misconfigured("the files changed while they were read")
        self._in_force = self._seen = stamps
        self._identity = identity
        self.context.current, self.http2_context.current = context, http2_context
        self._metrics.certificate_expires.labels(_SERVER).set(identity.certificate.not_after.timestamp())
        self._metrics.certificate_refused.labels(_SERVER).set(0)

    def _refuse(self, sentence: str) -> None:
        if sentence != self._refused_because:
            self._refused_because = sentence
            self._metrics.certificate_refused.labels(_SERVER).set(1)
            self._log.error("certificate_refused", reason=sentence, still=self._identity.certificate.serial)

    def _settled(self) -> None:
        if self._refused_because:
            self._refused_because = ""
            self._metrics.certificate_refused.labels(_SERVER).set(0)

    def _until(self) -> dict[str, str]:
        return {"until": self._identity.certificate.not_after.isoformat()}

    def _stamps(self) -> tuple[Stamp | None, ...]:
        files = self.files
        return tuple(_stamp(path) for path in (files.certificate, files.key, files.client_ca) if path is not None)


def read_identity(files: TLSFiles, clock: Clock) -> TLSIdentity:
    """Read and check the files.

    Raises:
        Misconfigured: one is missing, unreadable or not what it should be, the key can be read by others or does not
            fit, or the certificate's time is not now.
    """
    chain = _read(files.certificate, "tls.certificate_file")
    key = read_private(files.key, called="tls.key_file")
    try:
        certificate = check_pair(chain, key, clock.now())
    except Misconfigured as error:
        raise Misconfigured(f"tls.certificate_file {files.certificate}: {error.detail}") from error
    authorities = None if files.client_ca is None else _read(files.client_ca, "tls.client_ca_file")
    if authorities is not None:
        try:
            check_authorities(authorities)
        except Misconfigured as error:
            raise Misconfigured(f"tls.client_ca_file {files.client_ca}: {error.detail}") from error
    return TLSIdentity(chain, key, authorities, certificate)


def _context(files: TLSFiles, identity: TLSIdentity, protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([protocol])
    try:
        context.load_cert_chain(files.certificate, files.key, password="")  # never ask for one at a terminal
        if identity.authorities is not None:
            context.load_verify_locations(cadata=identity.authorities.decode("ascii", "ignore"))
            context.verify_mode = ssl.CERT_REQUIRED if files.requires_client else ssl.CERT_OPTIONAL
    except (OSError, ValueError) as cause:  # an SSLError is an OSError
        raise Misconfigured(f"tls.certificate_file {files.certificate} cannot be used: {cause}") from cause
    return context


def _read(path: Path, called: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as cause:
        raise Misconfigured(f"the {called} {path} cannot be read: {cause.strerror}") from cause


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
