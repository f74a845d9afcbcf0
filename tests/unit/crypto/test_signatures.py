import base64
import copy
import itertools
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.crypto.signatures import ES256Signer, Signer, jwk_thumbprint, verify_es256
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
