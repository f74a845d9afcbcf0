"""Sealing under a text: opens for its bearer and for one use, and for nobody else."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from maas_gateway.crypto.bearer import open_for_bearer, seal_for_bearer
from maas_gateway.errors import CiphertextRejected

TEXT, LABEL, SECRET = "8e03978e-40d5-43dd-bc93-6894a57f9324", b"one use", b"told once"


def test_bearer_opens_what_was_sealed() -> None:
    assert open_for_bearer(TEXT, seal_for_bearer(TEXT, SECRET, LABEL), LABEL) == SECRET
    assert seal_for_bearer(TEXT, SECRET, LABEL) != seal_for_bearer(TEXT, SECRET, LABEL)


def test_layout_is_what_the_module_says() -> None:
    sealed = seal_for_bearer(TEXT, SECRET, LABEL)
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=LABEL).derive(TEXT.encode())
    assert AESGCM(key).decrypt(sealed[:12], sealed[12:], LABEL) == SECRET


@pytest.mark.parametrize(
    ("text", "label", "spoil"),
    [
        pytest.param(TEXT[:-1] + "5", LABEL, 0, id="another text"),
        pytest.param(TEXT, b"another use", 0, id="another use"),
        pytest.param(TEXT, LABEL, 1, id="an altered byte"),
    ],
)
def test_anything_else_is_rejected(text: str, label: bytes, spoil: int) -> None:
    sealed = bytearray(seal_for_bearer(TEXT, SECRET, LABEL))
    sealed[-1] ^= spoil
    with pytest.raises(CiphertextRejected):
        open_for_bearer(text, bytes(sealed), label)
