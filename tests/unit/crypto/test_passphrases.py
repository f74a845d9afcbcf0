"""scrypt against its specification, and what it refuses."""

import pytest

from maas_gateway.crypto.passphrases import derive_key


@pytest.mark.parametrize(
    ("passphrase", "salt", "cost", "expected"),
    [
        pytest.param(
            b"",
            b"",
            (16, 1, 1),
            "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442"
            "fcd0069ded0948f8326a753a0fc81f17e8d3e0fb2e0d3628cf35e20c38d18906",
            id="nothing from nothing",
        ),
        pytest.param(
            b"password",
            b"NaCl",
            (1024, 8, 16),
            "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b373162"
            "2eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640",
            id="sixteen times over",
        ),
        pytest.param(
            b"pleaseletmein",
            b"SodiumChloride",
            (16384, 8, 1),
            "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
            "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887",
            id="sixteen mebibytes",
        ),
    ],
)
def test_derive_key_gives_the_first_half_of_the_vectors_of_rfc_7914(
    passphrase: bytes, salt: bytes, cost: tuple[int, int, int], expected: str
) -> None:
    """Section 12, all but the last vector, which takes 1 GiB and 3 s.

    The vectors are 64 bytes long. The output is PBKDF2-HMAC-SHA-256, whose blocks of 32 bytes do not
    depend on how many are asked for, so 32 bytes are the first 32 of 64.
    """
    n, r, p = cost
    assert derive_key(passphrase, salt=salt, n=n, r=r, p=p).expose() == bytes.fromhex(expected)[:32]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"passphrase": b"passphrase another"}, id="another passphrase"),
        pytest.param({"salt": b"another salt"}, id="another salt"),
        pytest.param({"n": 32}, id="another n"),
        pytest.param({"r": 2}, id="another r"),
        pytest.param({"p": 2}, id="another p"),
    ],
)
def test_derive_key_gives_another_key_for(change: dict[str, bytes | int]) -> None:
    inputs = {"passphrase": b"passphrase", "salt": b"salt", "n": 16, "r": 1, "p": 1}
    assert derive_key(**inputs) == derive_key(**inputs)  # type: ignore[arg-type]  # a table's columns
    assert derive_key(**inputs) != derive_key(**inputs | change)  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    ("n", "r", "p"),
    [
        pytest.param(15, 8, 1, id="n is no power of two"),
        pytest.param(1, 8, 1, id="n is 1"),
        pytest.param(16, 0, 1, id="r is 0"),
        pytest.param(16, 8, 0, id="p is 0"),
    ],
)
def test_derive_key_refuses_a_cost_that_scrypt_does_not_have(n: int, r: int, p: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        derive_key(b"passphrase", salt=b"salt", n=n, r=r, p=p)


def test_derive_key_does_not_show_what_it_made() -> None:
    assert repr(derive_key(b"passphrase", salt=b"salt", n=16, r=1, p=1)) == "<KeyMaterial>"
