import base64
import copy
import hashlib
import itertools
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.crypto.signatures import (
    ES256Signer,
    Signer,
    jwk_of_pem,
    jwk_thumbprint,
    pem_of_jwk,
    public_jwk,
    verify_es256,
    verify_es256_digest,
)
from maas_gateway.errors import SignatureRejected

ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

# RFC 7515 appendix A.3.
JWK = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
SCALAR = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"
SIGNING_INPUT = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
SIGNATURE = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _scalar(value: int) -> KeyMaterial:
    return KeyMaterial.from_bytes(value.to_bytes(32, "big"))


@pytest.fixture
def signer() -> ES256Signer:
    return ES256Signer(ES256Signer.generate_key())


def test_verify_accepts_the_example_of_rfc_7515_appendix_a_3() -> None:
    verify_es256(JWK, SIGNING_INPUT, _bytes(SIGNATURE))


def test_signer_has_the_public_key_of_rfc_7515_appendix_a_3_when_given_its_scalar() -> None:
    assert ES256Signer(KeyMaterial.from_bytes(_bytes(SCALAR))).public_jwk() == JWK


def test_thumbprint_agrees_with_rfc_7638_section_3_1() -> None:
    jwk = {
        "kty": "RSA",
        "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W"
        "-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbIS"
        "D08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
        "e": "AQAB",
        "alg": "RS256",
        "kid": "2011-04-29",
    }
    assert jwk_thumbprint(jwk) == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def test_thumbprint_agrees_with_rfc_8037_appendix_a_3() -> None:
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert jwk_thumbprint(jwk) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_thumbprint_looks_at_the_required_members_only() -> None:
    assert jwk_thumbprint({**JWK, "kid": "x", "use": "sig"}) == jwk_thumbprint(dict(reversed(JWK.items())))


@pytest.mark.parametrize(
    "jwk",
    [
        pytest.param({}, id="no type"),
        pytest.param({"kty": "oct", "k": "AA"}, id="a symmetric key"),
        pytest.param({"kty": ["EC"]}, id="a type that is no text"),
        pytest.param({**JWK, "y": None}, id="no y"),
    ],
)
def test_thumbprint_refuses_what_is_no_public_key(jwk: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="key"):
        jwk_thumbprint(jwk)


def test_signer_is_named_by_its_thumbprint_and_shows_nothing_else(signer: Signer) -> None:
    assert isinstance(signer, ES256Signer)
    assert signer.key_id == jwk_thumbprint(signer.public_jwk())
    assert repr(signer) == f"<ES256Signer {signer.key_id}>"
    assert set(signer.public_jwk()) == {"kty", "crv", "x", "y"}


def test_verify_accepts_what_the_signer_signed(signer: ES256Signer) -> None:
    for n in range(300):  # enough for r or s with leading zeros
        data = n.to_bytes(2, "big")
        signature = signer.sign(data)
        assert len(signature) == 64
        verify_es256(signer.public_jwk(), data, signature)


def test_verify_ignores_members_that_are_not_of_the_key(signer: ES256Signer) -> None:
    verify_es256({**signer.public_jwk(), "kid": "any", "key_ops": ["verify"]}, b"data", signer.sign(b"data"))


def test_verify_refuses_every_bit_flip_of_a_signature(signer: ES256Signer) -> None:
    signature = bytearray(signer.sign(b"data"))
    for bit in range(512):
        signature[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureRejected):
            verify_es256(signer.public_jwk(), b"data", bytes(signature))
        signature[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(_bytes(SIGNATURE)[:-1], id="a byte cut"),
        pytest.param(_bytes(SIGNATURE) + b"\x00", id="a byte added"),
        pytest.param(bytes(64), id="r and s zero (CVE-2022-21449)"),
        pytest.param(_bytes(SIGNATURE)[:32] + bytes(32), id="s zero"),
        pytest.param(bytes(32) + _bytes(SIGNATURE)[32:], id="r zero"),
        pytest.param(ORDER.to_bytes(32, "big") * 2, id="r and s the order"),
        pytest.param(b"\xff" * 64, id="r and s beyond the order"),
        pytest.param(_bytes(SIGNATURE)[32:] + _bytes(SIGNATURE)[:32], id="r and s exchanged"),
    ],
)
def test_verify_refuses_a_signature_that_is_none(signature: bytes) -> None:
    with pytest.raises(SignatureRejected, match=r"^the signature does not verify$"):
        verify_es256(JWK, SIGNING_INPUT, signature)


def test_verify_refuses_der(signer: ES256Signer) -> None:
    key = ec.derive_private_key(5, ec.SECP256R1())
    der = key.sign(b"data", ec.ECDSA(SHA256()))
    with pytest.raises(SignatureRejected):
        verify_es256(ES256Signer(_scalar(5)).public_jwk(), b"data", der)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"kty": "RSA"}, id="another type"),
        pytest.param({"crv": "P-384"}, id="another curve"),
        pytest.param({"crv": "secp256k1"}, id="a look-alike curve"),
        pytest.param({"x": None}, id="no x"),
        pytest.param({"x": 5}, id="x a number"),
        pytest.param({"x": JWK["x"] + "="}, id="padding"),
        pytest.param({"x": JWK["x"][:-1]}, id="x a character short"),
        pytest.param({"x": "AA" + JWK["x"]}, id="x too long"),
        pytest.param({"x": JWK["x"][:-1] + "V"}, id="bits behind the last byte"),
        pytest.param({"x": JWK["x"] + "\n"}, id="a line feed"),
        pytest.param({"x": JWK["x"].replace("f", "é", 1)}, id="no ASCII"),
        pytest.param({"x": JWK["y"], "y": JWK["x"]}, id="a point off the curve"),
        pytest.param({"x": "A" * 43, "y": "A" * 43}, id="zero"),
        pytest.param({"x": "_" * 42 + "8"}, id="x beyond the field"),
    ],
)
def test_verify_refuses_a_key_that_is_malformed(change: dict[str, object]) -> None:
    with pytest.raises(SignatureRejected):
        verify_es256({**JWK, **change}, SIGNING_INPUT, _bytes(SIGNATURE))


def test_verify_refuses_a_signature_without_the_leading_zero_of_s(signer: ES256Signer) -> None:
    signature = next(one for one in iter(lambda: signer.sign(b"data"), b"") if one[32] == 0)
    verify_es256(signer.public_jwk(), b"data", signature)
    with pytest.raises(SignatureRejected):
        verify_es256(signer.public_jwk(), b"data", signature[:32] + signature[33:])


def test_verify_refuses_a_coordinate_without_its_leading_zero() -> None:
    signer = next(one for n in itertools.count(1) if _bytes((one := ES256Signer(_scalar(n))).public_jwk()["x"])[0] == 0)
    short = base64.urlsafe_b64encode(_bytes(signer.public_jwk()["x"])[1:]).rstrip(b"=").decode()
    with pytest.raises(SignatureRejected):
        verify_es256({**signer.public_jwk(), "x": short}, b"data", signer.sign(b"data"))


def test_verify_refuses_other_data_and_another_key(signer: ES256Signer) -> None:
    with pytest.raises(SignatureRejected):
        verify_es256(JWK, SIGNING_INPUT + b"x", _bytes(SIGNATURE))
    with pytest.raises(SignatureRejected):
        verify_es256(signer.public_jwk(), SIGNING_INPUT, _bytes(SIGNATURE))


@pytest.mark.parametrize("scalar", [0, ORDER, ORDER + 1, 2**256 - 1])
def test_signer_refuses_a_scalar_outside_1_to_n_minus_1(scalar: int) -> None:
    with pytest.raises(ValueError, match="not a private key"):
        ES256Signer(_scalar(scalar))


@pytest.mark.parametrize("scalar", [1, ORDER - 1])
def test_signer_takes_the_smallest_and_the_largest_scalar(scalar: int) -> None:
    signer = ES256Signer(_scalar(scalar))
    verify_es256(signer.public_jwk(), b"data", signer.sign(b"data"))


@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps])
def test_signer_is_neither_copied_nor_pickled(take: object, signer: ES256Signer) -> None:
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        take(signer)  # type: ignore[operator]


# --- what others sign ----------------------------------------------------------------------------

DIGEST = hashlib.sha256(SIGNING_INPUT).digest()
# The key of RFC 7515 appendix A.3; its point spelt out by RFC 5480 section 2.
PEM = """-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7
6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==
-----END PUBLIC KEY-----
"""


def _der(raw: bytes) -> bytes:
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def test_verify_of_a_digest_accepts_the_example_of_rfc_7515_in_both_spellings() -> None:
    verify_es256_digest(JWK, DIGEST, _bytes(SIGNATURE))
    verify_es256_digest(JWK, DIGEST, _der(_bytes(SIGNATURE)))


def test_verify_of_a_digest_agrees_with_verify_of_the_data(signer: ES256Signer) -> None:
    for n in range(100):
        data = n.to_bytes(2, "big")
        signature = signer.sign(data)
        verify_es256(signer.public_jwk(), data, signature)
        verify_es256_digest(signer.public_jwk(), hashlib.sha256(data).digest(), signature)
        verify_es256_digest(signer.public_jwk(), hashlib.sha256(data).digest(), _der(signature))


def test_verify_of_a_digest_refuses_every_bit_flip_of_der(signer: ES256Signer) -> None:
    digest = hashlib.sha256(b"data").digest()
    signature = bytearray(_der(signer.sign(b"data")))
    for bit in range(len(signature) * 8):
        signature[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SignatureRejected):
            verify_es256_digest(signer.public_jwk(), digest, bytes(signature))
        signature[bit // 8] ^= 1 << bit % 8


@pytest.mark.parametrize(
    ("digest", "signature"),
    [
        pytest.param(DIGEST, b"", id="nothing"),
        pytest.param(DIGEST, bytes(64), id="r and s zero (CVE-2022-21449)"),
        pytest.param(DIGEST, _der(bytes(64)), id="r and s zero in DER"),
        pytest.param(DIGEST, _der(_bytes(SIGNATURE)) + b"\x00", id="a byte behind the DER"),
        pytest.param(DIGEST, _der(_bytes(SIGNATURE))[:-1], id="DER cut"),
        pytest.param(DIGEST, b"\x30\x81" + _der(_bytes(SIGNATURE))[1:], id="a length that DER spells shorter"),
        pytest.param(DIGEST, _bytes(SIGNATURE)[:-1], id="63 bytes"),
        pytest.param(hashlib.sha256(b"other").digest(), _bytes(SIGNATURE), id="other data"),
        pytest.param(DIGEST[:-1], _bytes(SIGNATURE), id="a digest cut"),
        pytest.param(DIGEST + b"\x00", _bytes(SIGNATURE), id="a digest too long"),
        pytest.param(SIGNING_INPUT, _bytes(SIGNATURE), id="the data in the place of their digest"),
    ],
)
def test_verify_of_a_digest_refuses(digest: bytes, signature: bytes) -> None:
    with pytest.raises(SignatureRejected, match=r"^the signature does not verify$"):
        verify_es256_digest(JWK, digest, signature)


def test_verify_of_a_digest_refuses_a_key_that_is_malformed(signer: ES256Signer) -> None:
    for jwk in ({}, {**JWK, "crv": "P-384"}, {**JWK, "x": JWK["y"]}, signer.public_jwk()):
        with pytest.raises(SignatureRejected):
            verify_es256_digest(jwk, DIGEST, _bytes(SIGNATURE))


def test_a_key_goes_to_pem_and_back() -> None:
    assert pem_of_jwk(JWK).decode() == PEM
    assert jwk_of_pem(PEM) == JWK
    assert jwk_of_pem(f"\n{PEM}\n".replace("\n", "\r\n")) == JWK
    assert public_jwk({**JWK, "kid": "x", "use": "sig"}) == JWK


@pytest.mark.parametrize(
    ("jwk", "sentence"),
    [
        pytest.param({}, "not a P-256 key", id="nothing"),
        pytest.param({**JWK, "d": SCALAR}, "private key", id="the private half"),
        pytest.param({**JWK, "x": JWK["x"] + "="}, "coordinate", id="padding"),
        pytest.param({**JWK, "x": 5}, "coordinate", id="a number"),
        pytest.param({**JWK, "x": JWK["y"]}, "on the curve", id="off the curve"),
    ],
)
def test_a_jwk_that_is_no_public_key_of_p_256_is_refused(jwk: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        public_jwk(jwk)


def _pem(key: PublicKeyTypes) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


@pytest.mark.parametrize(
    ("pem", "sentence"),
    [
        pytest.param("", "one public key", id="nothing"),
        pytest.param("ключ", "one public key", id="no ASCII"),
        pytest.param(PEM.replace("MFkw", "é"), "not a public key that can be read", id="no ASCII inside"),
        pytest.param(PEM + PEM, "one public key", id="two"),
        pytest.param(PEM + "more", "one public key", id="something behind"),
        pytest.param("more\n" + PEM, "one public key", id="something before"),
        pytest.param(PEM.replace("MFkw", "MFkx"), "not a public key that can be read", id="altered"),
        pytest.param(PEM.replace("PUBLIC KEY", "EC PRIVATE KEY"), "private key: keep it", id="a private key"),
        pytest.param(PEM.replace("PUBLIC KEY", "CERTIFICATE"), "one public key", id="a certificate"),
        pytest.param(_pem(ec.generate_private_key(ec.SECP384R1()).public_key()), "not a key of P-256", id="P-384"),
        pytest.param(_pem(ec.generate_private_key(ec.SECP256K1()).public_key()), "not a key of P-256", id="secp256k1"),
        pytest.param(_pem(rsa.generate_private_key(65537, 2048).public_key()), "not a key of P-256", id="RSA"),
        pytest.param(_pem(Ed25519PrivateKey.generate().public_key()), "not a key of P-256", id="Ed25519"),
    ],
)
def test_pem_that_is_no_public_key_of_p_256_is_refused(pem: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        jwk_of_pem(pem)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on the path")
def test_what_openssl_signs_verifies_under_the_key_that_openssl_wrote(tmp_path: Path) -> None:
    """The commands that the gateway teaches, as it teaches them."""
    (tmp_path / "model.keras").write_bytes(b"content")
    for command in (
        "openssl ecparam -name prime256v1 -genkey -noout -out key.pem",
        "openssl pkey -in key.pem -pubout -out public.pem",
        "openssl dgst -sha256 -sign key.pem -out model.sig model.keras",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    signature = (tmp_path / "model.sig").read_bytes()
    pem = (tmp_path / "public.pem").read_text()
    jwk = jwk_of_pem(pem)
    assert pem_of_jwk(jwk).decode() == pem
    verify_es256_digest(jwk, hashlib.sha256(b"content").digest(), signature)
    with pytest.raises(SignatureRejected):
        verify_es256_digest(jwk, hashlib.sha256(b"other").digest(), signature)
    with pytest.raises(ValueError, match="openssl pkey -in key"):
        jwk_of_pem((tmp_path / "key.pem").read_text())
