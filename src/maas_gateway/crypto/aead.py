"""Seal and open small values whole: AES-256-GCM under a random nonce.

Layout of a sealed value (what is sealed says its own version in its associated data, which by
house custom begins with a label such as "mgw1 wrap"):

    offset  length  meaning
    0       12      nonce, random
    12      n       ciphertext, as long as the plaintext
    12 + n  16      tag

A random 96-bit nonce allows 2**32 values under one key (NIST SP 800-38D section 8.3).
"""

import secrets
import uuid
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from maas_gateway.crypto.key_material import KeyMaterial
from maas_gateway.errors import CiphertextRejected

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
MAX_PLAIN_BYTES: Final = 2**31 - 1
"""What the primitive takes at once."""
REJECTED: Final = "sealed bytes were altered, moved or cut, or belong to another key"
"""The one sentence for every failed opening: it tells nobody which part did not fit."""

_MAX_FIELD_BYTES: Final = 0xFFFF


def frame(*fields: str | int | bytes | uuid.UUID) -> bytes:
    """Join fields so that no two different lists of texts give the same bytes.

    Each field is its length (u16, big-endian) and its bytes: text as UTF-8, an integer in decimal
    ASCII, a UUID as its 36 characters. Types are not marked (1 and "1" are framed alike), so a
    position always holds the same type.

    Raises:
        TypeError: a field is of another type (a boolean too: it has no agreed spelling).
        ValueError: a field is longer than 65,535 bytes, or no valid Unicode.
    """
    framed = bytearray()
    for field in fields:
        content = _field_bytes(field)
        if len(content) > _MAX_FIELD_BYTES:
            raise ValueError("a framed field is at most 65,535 bytes long")
        framed += len(content).to_bytes(2, "big")
        framed += content
    return bytes(framed)


def seal(key: KeyMaterial, plaintext: bytes, associated_data: bytes) -> bytes:
    """Return nonce ‖ ciphertext ‖ tag.

    Protects `plaintext` against reading and changing, `associated_data` against changing. Does not
    hide the length, does not notice replay of an older value, and is not key-committing.

    Raises:
        ValueError: the plaintext is 2 GiB or longer; that is what `chunked` is for.

    Source: NIST SP 800-38D; RFC 5116 section 5.2 (AEAD_AES_256_GCM).
    """
    if len(plaintext) > MAX_PLAIN_BYTES:
        raise ValueError("2 GiB and more are sealed as a stream")
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key.expose()).encrypt(nonce, plaintext, associated_data)


def open_sealed(key: KeyMaterial, sealed: bytes, associated_data: bytes) -> bytes:
    """Return the plaintext that `seal` was given under the same key and associated data.

    Raises:
        CiphertextRejected: anything is wrong: key, associated data, any bit, the length.
    """
    # The upper bound is ours: above it cryptography 50.0.2 panics with a BaseException instead of refusing.
    if not NONCE_BYTES + TAG_BYTES <= len(sealed) <= NONCE_BYTES + MAX_PLAIN_BYTES + TAG_BYTES:
        raise CiphertextRejected(REJECTED)
    view = memoryview(sealed)
    try:
        return AESGCM(key.expose()).decrypt(view[:NONCE_BYTES], view[NONCE_BYTES:], associated_data)
    except InvalidTag as cause:
        raise CiphertextRejected(REJECTED) from cause


def _field_bytes(field: str | int | bytes | uuid.UUID) -> bytes:
    match field:
        case bytes():
            return field
        case str():
            return field.encode()
        case uuid.UUID():
            return str(field).encode("ascii")
        case int() if not isinstance(field, bool):
            return str(int(field)).encode("ascii")
        case _:
            raise TypeError("a framed field is text, an integer, bytes or a UUID")
