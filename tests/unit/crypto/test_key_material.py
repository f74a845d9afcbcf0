import copy
import hashlib
import hmac
import pickle
from collections.abc import Callable

import pytest

from maas_gateway.crypto.key_material import KeyMaterial

SECRET = bytes(range(32))


def test_key_material_gives_back_its_bytes_when_exposed() -> None:
    assert KeyMaterial.from_bytes(SECRET).expose() == SECRET


def test_key_material_does_not_follow_a_buffer_that_changes_later() -> None:
    buffer = bytearray(SECRET)
    key = KeyMaterial.from_bytes(buffer)  # type: ignore[arg-type]
    buffer[0] ^= 1
    assert key.expose() == SECRET


@pytest.mark.parametrize("length", [0, 1, 16, 31, 33, 64])
def test_key_material_refuses_any_length_but_32(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyMaterial.from_bytes(bytes(length))


def test_key_material_is_different_each_time_when_generated() -> None:
    assert len({KeyMaterial.generate().expose() for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "%s".__mod__, "%r".__mod__],
    ids=["repr", "str", "format", "percent s", "percent r"],
)
def test_key_material_shows_nothing_when_printed(show: Callable[[object], str]) -> None:
    assert show(KeyMaterial.from_bytes(SECRET)) == "<KeyMaterial>"


@pytest.mark.parametrize(
    "take",
    [copy.copy, copy.deepcopy, *(lambda key, p=p: pickle.dumps(key, p) for p in range(pickle.HIGHEST_PROTOCOL + 1))],
)
def test_key_material_is_neither_copied_nor_pickled(take: Callable[[object], object]) -> None:
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        take({"deep": KeyMaterial.from_bytes(SECRET)} if take is copy.deepcopy else KeyMaterial.from_bytes(SECRET))


def test_key_material_is_equal_to_the_same_bytes_only() -> None:
    key = KeyMaterial.from_bytes(SECRET)
    assert key == KeyMaterial.from_bytes(SECRET)
    assert key != KeyMaterial.from_bytes(SECRET[::-1])
    assert key != SECRET


def test_key_material_cannot_be_a_key_of_a_dictionary() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(KeyMaterial.from_bytes(SECRET))


def test_key_material_has_no_place_for_other_attributes() -> None:
    key = KeyMaterial.from_bytes(SECRET)
    assert not hasattr(key, "__dict__")
    with pytest.raises(AttributeError):
        key.note = "x"  # type: ignore[attr-defined]


def test_expand_agrees_with_rfc_5869_appendix_a_1() -> None:
    """Its 42 bytes begin with the 32 that we take: RFC 5869 section 2.3 cuts T(1) ‖ T(2) …"""
    prk = KeyMaterial.from_bytes(bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"))
    okm = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert prk.expand(bytes.fromhex("f0f1f2f3f4f5f6f7f8f9")).hex() == okm[:64]


def test_expand_is_one_hmac_of_info_and_the_counter() -> None:
    assert KeyMaterial.from_bytes(SECRET).expand(b"info") == hmac.digest(SECRET, b"info\x01", hashlib.sha256)
