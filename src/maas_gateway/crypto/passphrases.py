"""A key from a passphrase: scrypt, which makes each guess cost memory as well as time."""

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from maas_gateway.crypto.key_material import KEY_BYTES, KeyMaterial


def derive_key(passphrase: bytes, *, salt: bytes, n: int, r: int, p: int) -> KeyMaterial:
    """Return the key that the passphrase and the salt give at this cost.

    Protects against: guessing faster or cheaper than the cost allows, and one table of guesses for
    many salts. Does not protect against: a passphrase that is guessed early. Whoever lets others
    choose the cost bounds it first: nothing here does. It blocks, and lets other threads run.

    Args:
        passphrase: any bytes; text is UTF-8 by house custom.
        salt: not secret; another one for each key.
        n: cost in time and memory, which is 128 · n · r bytes; a power of two above 1.
        r: block size, at least 1.
        p: how many times over, one after the other, at least 1.

    Raises:
        ValueError: n, r or p is none that scrypt has.
        MemoryError: that much memory is not to be had.

    Source: RFC 7914 section 6, with dkLen = 32.
    """
    return KeyMaterial.from_bytes(Scrypt(salt=salt, length=KEY_BYTES, n=n, r=r, p=p).derive(passphrase))
