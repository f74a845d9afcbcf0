"""Which certificate and key a server may use, and whom a certificate is for."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from builders.certificates import Authority, Pair
from maas_gateway.crypto.certificates import check_authorities, check_pair
from maas_gateway.errors import Misconfigured

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AUTHORITY = Authority(now=NOW)
PAIR = AUTHORITY.issue("models.example", "*.Models.example", "10.0.0.1", "::1")
OTHER = AUTHORITY.issue("models.example")


def test_a_pair_in_its_time_is_told_of() -> None:
    found = check_pair(PAIR.chain + AUTHORITY.pem, PAIR.key, NOW)
    assert found.names == ("models.example", "*.models.example", "10.0.0.1", "::1")
    assert (found.not_after - NOW, found.serial) == (timedelta(days=90), f"{PAIR.serial:x}")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        pytest.param(lambda: (PAIR.chain, OTHER.key), "the key is not that of", id="the key of another certificate"),
        pytest.param(lambda: (AUTHORITY.pem + PAIR.chain, PAIR.key), "certificate first", id="the authority first"),
        pytest.param(lambda: (PAIR.chain, PAIR.encrypted_key), "the key is encrypted", id="an encrypted key"),
        pytest.param(lambda: (PAIR.chain, PAIR.chain), "no private key in PEM", id="a certificate for a key"),
        pytest.param(lambda: (PAIR.chain, b""), "no private key in PEM", id="an empty key"),
        *(
            pytest.param(lambda key=key: (PAIR.chain, _pem(key)), "neither RSA of 2048 bits", id=f"a key of {kind}")
            for kind, key in (
                ("Ed25519", ed25519.Ed25519PrivateKey.generate()),
                ("P-521", ec.generate_private_key(ec.SECP521R1())),
                ("RSA, 1024 bits", rsa.generate_private_key(65_537, 1_024)),
            )
        ),
        pytest.param(lambda: (PAIR.key, PAIR.key), "holds no certificate", id="a key for a certificate"),
        pytest.param(lambda: (b"", PAIR.key), "holds no certificate", id="an empty certificate"),
        pytest.param(lambda: (PAIR.chain[:300], PAIR.key), "holds no certificate", id="a certificate cut short"),
        pytest.param(
            lambda: _of(AUTHORITY.issue("x", ends=timedelta(seconds=-1))), "has expired, at 2025-12-31 23:59", id="past"
        ),
        pytest.param(
            lambda: _of(AUTHORITY.issue("x", begins=timedelta(seconds=1))), "may be used from 2026-01-01", id="future"
        ),
    ],
)
def test_a_pair_that_cannot_be_used_is_refused(given: Callable[[], tuple[bytes, bytes]], sentence: str) -> None:
    with pytest.raises(Misconfigured, match=sentence):
        check_pair(*given(), NOW)


def _pem(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _of(pair: Pair) -> tuple[bytes, bytes]:
    return pair.chain, pair.key


@pytest.mark.parametrize("host", ["models.example", "MODELS.example", "a.models.example", "10.0.0.1", "[::1]"])
def test_a_certificate_is_for_the_hosts_that_it_names(host: str) -> None:
    assert check_pair(PAIR.chain, PAIR.key, NOW).is_for(host)


@pytest.mark.parametrize("host", ["b.a.models.example", "example", "10.0.0.2", ""])
def test_a_certificate_is_for_no_other_host(host: str) -> None:
    assert not check_pair(PAIR.chain, PAIR.key, NOW).is_for(host)


def test_authorities_are_certificates() -> None:
    check_authorities(AUTHORITY.pem + AUTHORITY.pem)
    for nothing in (b"", PAIR.key, b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(Misconfigured, match="holds no certificate"):
            check_authorities(nothing)
