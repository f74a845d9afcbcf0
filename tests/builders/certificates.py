"""Certificates as an authority of one's own makes them, for servers and for clients.

authority = Authority("ca")
files = authority.issue("localhost").written(tmp_path)
"""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    chain: bytes
    private: ec.EllipticCurvePrivateKey

    @property
    def key(self) -> bytes:
        """The key as servers want it."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def encrypted_key(self) -> bytes:
        """The key as servers cannot read it."""
        return self.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))

    @property
    def serial(self) -> int:
        """The certificate's number."""
        return x509.load_pem_x509_certificate(self.chain).serial_number

    def written(self, folder: Path, name: str = "server") -> tuple[Path, Path]:
        """Put both into files, each in one move, as what renews certificates does; return their paths."""
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        for path, content in zip(paths, (self.chain, self.key), strict=True):
            new = path.with_suffix(".new")
            new.touch(0o600)
            new.write_bytes(content)
            new.replace(path)
        return paths


class Authority:
    """One that signs certificates.

    Args:
        name: its own.
        now: the moment around which it and its certificates are in their time; none means this one.
    """

    def __init__(self, name: str = "authority", now: datetime | None = None) -> None:
        self.now = now or datetime.now(UTC)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = self._begun(self._name, self._key.public_key(), self.now - DAY, self.now + 3650 * DAY)
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.pem = own.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def issue(self, *hosts: str, begins: timedelta = -DAY, ends: timedelta = 90 * DAY) -> Pair:
        """Return a certificate for host names and addresses, from then until then from now on."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        made = self._begun(name, key.public_key(), self.now + begins, self.now + ends)
        made = made.add_extension(x509.SubjectAlternativeName([_name(host) for host in hosts]), critical=False)
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        return Pair(made.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM), key)

    def _begun(
        self, name: x509.Name, key: ec.EllipticCurvePublicKey, begins: datetime, ends: datetime
    ) -> x509.CertificateBuilder:
        begun = x509.CertificateBuilder(issuer_name=self._name, subject_name=name, public_key=key)
        begun = begun.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
        begun = begun.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        return begun.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
