"""A value sealed under a text that its bearer alone knows, and that is kept nowhere.

Rules: the text is as hard to guess as a key is, which its maker answers for: nothing here slows guessing down. The key is
HKDF-SHA-256 of the text, with the label as its info and no salt.

Source: RFC 5869 sections 2.2 and 2.3.
"""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from maas_gateway.crypto import aead
from maas_gateway.crypto.key_material import KEY_BYTES, KeyMaterial


def seal_for_bearer(text: str, plaintext: bytes, label: bytes) -> bytes:
    """Return `plaintext` sealed under a text, for the use that the label names."""
    return aead.seal(_key(text, label), plaintext, label)


def open_for_bearer(text: str, sealed: bytes, label: bytes) -> bytes:
    """Return what was sealed.

    Raises:
        CiphertextRejected: it was altered, or sealed under another text or for another use.
    """
    return aead.open_sealed(_key(text, label), sealed, label)


def _key(text: str, label: bytes) -> KeyMaterial:
    return KeyMaterial(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=label).derive(text.encode()))
