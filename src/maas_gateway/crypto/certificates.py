"""X.509 certificates of servers: does this key fit this chain, may it be used now, whom does it name.

Rules: the first certificate of a chain is the server's own; it is used within its time and with its own key only; an
encrypted key is refused, since nobody is there to be asked for its passphrase; so is a key of a kind that a client of
either port might not agree on: BoringSSL, on which most gRPC clients stand, takes RSA, P-256 and P-384 unless told
otherwise. Whether clients trust the chain is for them to say.

Source: RFC 5280, sections 4.1.2.5 and 4.2.1.6; RFC 7468; RFC 8446, section 4.4.2 for the order of a chain.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtensionOID

from maas_gateway.errors import Misconfigured

_LEAST_RSA_BITS: Final = 2_048


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """What a server's own certificate says.

    Attributes:
        not_before: the first moment at which it may be used.
        not_after: the last one.
        names: the host names and addresses that it is for, as clients compare them.
        serial: its number, hexadecimal.
    """

    not_before: datetime
    not_after: datetime
    names: tuple[str, ...]
    serial: str

    def is_for(self, host: str) -> bool:
        """Tell whether a client that asked for `host` takes it: the name itself, or one label under `*.`.

        Source: RFC 9525, section 6.3.
        """
        asked = host.lower().strip("[]")
        under = "*." + asked.partition(".")[2]
        return any(name in {asked, under} for name in self.names)


def check_pair(chain: bytes, key: bytes, now: datetime) -> ServerCertificate:
    """Return what a chain's first certificate says, if a server may use it now with this key.

    Args:
        chain: PEM, the server's own certificate first.
        key: PEM, its private key.
        now: the time of day, aware.

    Raises:
        Misconfigured: either cannot be read, the key is another's, or the certificate's time is not now.
    """
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        names = _names(leaf)
    except ValueError as cause:
        raise Misconfigured("it holds no certificate in PEM that can be read") from cause
    if _own_key(key) != leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise Misconfigured("the key is not that of the first certificate; put the server's own certificate first")
    found = ServerCertificate(leaf.not_valid_before_utc, leaf.not_valid_after_utc, names, f"{leaf.serial_number:x}")
    if now > found.not_after:
        raise Misconfigured(f"the certificate has expired, at {found.not_after:%Y-%m-%d %H:%M} UTC; renew it")
    if now < found.not_before:
        raise Misconfigured(f"the certificate may be used from {found.not_before:%Y-%m-%d %H:%M} UTC on, not yet")
    return found


def check_authorities(authorities: bytes) -> None:
    """Check that a file of authorities is one.

    Args:
        authorities: PEM, one certificate or more.

    Raises:
        Misconfigured: it holds none that can be read.
    """
    try:
        x509.load_pem_x509_certificates(authorities)
    except ValueError as cause:
        raise Misconfigured("it holds no certificate in PEM that can be read") from cause


def _own_key(key: bytes) -> bytes:
    """Return the public half of a private key, DER."""
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError as cause:
        raise Misconfigured("the key is encrypted, and nobody is there to be asked; store it decrypted") from cause
    except (ValueError, UnsupportedAlgorithm) as cause:
        raise Misconfigured("the key is no private key in PEM that can be read") from cause
    is_rsa = isinstance(private, rsa.RSAPrivateKey) and private.key_size >= _LEAST_RSA_BITS
    is_curve = isinstance(private, ec.EllipticCurvePrivateKey) and private.curve.name in {"secp256r1", "secp384r1"}
    if not (is_rsa or is_curve):
        raise Misconfigured(f"the key is neither RSA of {_LEAST_RSA_BITS} bits or more, nor of P-256 or P-384")
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        found = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME).value
    except x509.ExtensionNotFound:
        return ()
    assert isinstance(found, x509.SubjectAlternativeName)
    hosts = [name.lower() for name in found.get_values_for_type(x509.DNSName)]
    return (*hosts, *(str(address) for address in found.get_values_for_type(x509.IPAddress)))
