import mmap
import uuid

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from maas_gateway.crypto.aead import frame, open_sealed, seal
from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected

KEY = KeyMaterial.from_bytes(bytes(range(32)))
ID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


def test_frame_puts_the_length_before_each_field() -> None:
    framed = frame("mgw1", ID, 12, b"\x00\xff")
    assert (
        framed
        == b"\x00\x04mgw1" + b"\x00\x2400112233-4455-6677-8899-aabbccddeeff" + b"\x00\x0212" + b"\x00\x02\x00\xff"
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("ab", "c"), ("a", "bc"), id="a letter moves to the next field"),
        pytest.param(("a", ""), ("a",), id="an empty field is left out"),
        pytest.param(("", "a"), ("a", ""), id="an empty field moves"),
        pytest.param(("a", 12), ("a", 1, 2), id="a number is split"),
        pytest.param((b"a\x00\x01b",), ("a", "b"), id="a field contains what looks like a length"),
    ],
)
def test_frame_differs_when_fields_differ(
    one: tuple[str | int | bytes, ...], other: tuple[str | int | bytes, ...]
) -> None:
    assert frame(*one) != frame(*other)


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_frame_can_be_read_back_into_its_fields(fields: list[bytes]) -> None:
    rest, read = frame(*fields), []
    while rest:
        n = int.from_bytes(rest[:2], "big")
        read.append(rest[2 : 2 + n])
        rest = rest[2 + n :]
    assert read == fields


@pytest.mark.parametrize("field", [True, 1.5, None, ["a"]])
def test_frame_refuses_a_field_that_has_no_agreed_spelling(field: object) -> None:
    with pytest.raises(TypeError):
        frame(field)  # type: ignore[arg-type]


def test_frame_holds_fields_up_to_65535_bytes() -> None:
    assert frame(bytes(65_535))[:2] == b"\xff\xff"
    with pytest.raises(ValueError, match="65,535"):
        frame(bytes(65_536))


def test_frame_refuses_text_that_is_no_unicode() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        frame("\ud800")


def test_open_sealed_agrees_with_the_gcm_specification_test_case_16() -> None:
    """McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B."""
    key = KeyMaterial.from_bytes(bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2))
    nonce = bytes.fromhex("cafebabefacedbaddecaf888")
    plaintext = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    sealed = bytes.fromhex(
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b"
    )
    associated_data = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    assert open_sealed(key, nonce + sealed, associated_data) == plaintext


@given(plaintext=st.binary(max_size=500), associated_data=st.binary(max_size=100))
def test_open_sealed_returns_what_was_sealed(plaintext: bytes, associated_data: bytes) -> None:
    assert open_sealed(KEY, seal(KEY, plaintext, associated_data), associated_data) == plaintext


def test_seal_writes_the_nonce_first_so_that_any_aes_gcm_opens_it() -> None:
    sealed = seal(KEY, b"plain", b"ad")
    assert len(sealed) == 12 + 5 + 16
    assert AESGCM(KEY.expose()).decrypt(sealed[:12], sealed[12:], b"ad") == b"plain"


def test_seal_gives_other_bytes_each_time() -> None:
    assert len({seal(KEY, b"plain", b"ad")[:12] for _ in range(1000)}) == 1000


def test_open_sealed_refuses_every_single_bit_flip() -> None:
    sealed = bytearray(seal(KEY, b"plaintext", b"ad"))
    for bit in range(len(sealed) * 8):
        sealed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CiphertextRejected):
            open_sealed(KEY, bytes(sealed), b"ad")
        sealed[bit // 8] ^= 1 << bit % 8
    assert open_sealed(KEY, bytes(sealed), b"ad") == b"plaintext"


def test_open_sealed_refuses_every_shorter_and_a_longer_value() -> None:
    sealed = seal(KEY, b"plaintext", b"ad")
    for cut in [*(sealed[:length] for length in range(len(sealed))), sealed + b"\x00"]:
        with pytest.raises(CiphertextRejected):
            open_sealed(KEY, cut, b"ad")


def test_open_sealed_says_the_same_whatever_is_wrong() -> None:
    sealed = seal(KEY, b"plaintext", b"ad")
    details = set()
    for key, value, associated_data in [
        (KeyMaterial.generate(), sealed, b"ad"),
        (KEY, sealed, b"other"),
        (KEY, sealed[:-1], b"ad"),
        (KEY, b"", b"ad"),
    ]:
        with pytest.raises(CiphertextRejected) as caught:
            open_sealed(key, value, associated_data)
        details.add(caught.value.detail)
    assert len(details) == 1


def test_open_sealed_refuses_a_value_longer_than_the_primitive_takes() -> None:
    """Beyond 2**31 - 1 bytes cryptography 50.0.2 panics with a BaseException; the map takes no memory."""
    with mmap.mmap(-1, 2**31 + 64) as huge, memoryview(huge) as view, pytest.raises(CiphertextRejected):
        open_sealed(KEY, view, b"")  # type: ignore[arg-type]


def test_seal_refuses_a_value_longer_than_the_primitive_takes() -> None:
    with mmap.mmap(-1, 2**31) as huge, memoryview(huge) as view, pytest.raises(ValueError, match="stream"):
        seal(KEY, view, b"")  # type: ignore[arg-type]
