"""The container of a sealed artifact, MGW1, and the wrapping of its data key.

Layout of an artifact:

    offset  length  meaning
    0       4       magic "MGW1"
    4       2       format, u16 big-endian: 1
    6       4       n = length of the header, u32 big-endian, 1 … 65,536
    10      n       header: canonical JSON, exactly alg, artifact_id, model_id, role, tenant_id, version
    10 + n  32      commitment to the data key
    42 + n  …       body: a stream of `chunked`

Rules: context = SHA-256 of everything before the commitment; commitment and stream key are
HKDF-Expand(data key, label ‖ 0x00 ‖ context); the body's associated data is SHA-256 of everything
before the body. One data key seals one artifact. It is wrapped under a key that the artifact does
not name, with the context as associated data, so new wrapping leaves the artifact byte for byte and
a wrapped key opens no artifact but its own. Length and digest stand in the signed manifest.
"""

import hmac
import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Final, NoReturn, Self, SupportsIndex, final

from maas_gateway.crypto.aead import NONCE_BYTES, TAG_BYTES, frame, open_sealed, seal
from maas_gateway.crypto.chunked import ByteSource, StreamOpener, StreamSealer, fill
from maas_gateway.crypto.digests import MAX_INTEGER, canonical_json, parse_canonical, sha256
from maas_gateway.crypto.key_material import KEY_BYTES, KeyMaterial
from maas_gateway.errors import CiphertextRejected

MAGIC: Final = b"MGW1"
FORMAT: Final = 1
ALGORITHM: Final = "AES256-GCM-HKDF-1MB"
MAX_HEADER_BYTES: Final = 65_536
MAX_ROLE_CHARACTERS: Final = 128

_START: Final = struct.Struct(">4sHI")
_COMMITMENT_BYTES: Final = 32
_MEMBERS: Final = frozenset({"alg", "artifact_id", "model_id", "role", "tenant_id", "version"})
_WRAP_LABEL: Final = "mgw1 wrap"
_COMMITMENT_LABEL: Final = b"mgw1 commit"
_BODY_LABEL: Final = b"mgw1 body"
_NO_ARTIFACT: Final = "not a sealed artifact of this format"
_BAD_HEADER: Final = "the artifact's header is malformed"
_NO_KEY: Final = "the wrapped key was altered or moved, or belongs to another key"


@dataclass(frozen=True, slots=True)
class ArtifactHeader:
    """What a sealed artifact says it is; bound to every byte of it.

    Attributes:
        tenant_id: whose it is.
        model_id: of which model.
        artifact_id: which artifact; never reused.
        version: of which version, 1 … 2**53 - 1 (what canonical JSON holds).
        role: what it is to that version, for example "model"; 1 … 128 characters.
    """

    tenant_id: uuid.UUID
    model_id: uuid.UUID
    artifact_id: uuid.UUID
    version: int
    role: str

    def __post_init__(self) -> None:
        if not 1 <= self.version <= MAX_INTEGER:
            raise ValueError("a sealed artifact's version is between 1 and 2**53 - 1")
        if not 1 <= len(self.role) <= MAX_ROLE_CHARACTERS:
            raise ValueError("a sealed artifact's role has between 1 and 128 characters")

    def encode(self) -> bytes:
        """Return everything that stands before the commitment."""
        header = canonical_json(
            {
                "alg": ALGORITHM,
                "artifact_id": str(self.artifact_id),
                "model_id": str(self.model_id),
                "role": self.role,
                "tenant_id": str(self.tenant_id),
                "version": self.version,
            }
        )
        return _START.pack(MAGIC, FORMAT, len(header)) + header

    def context(self) -> bytes:
        """Return the 32 bytes that stand for this header in a wrapped key's row."""
        return sha256(self.encode())


@final
class DataKey:
    """The key of one artifact, to be passed on without being seen.

    Protects against what `KeyMaterial` protects against; its bytes do not leave this room unwrapped.
    """

    __slots__ = ("_material",)
    __hash__: ClassVar[None]  # type: ignore[assignment]  # object's is a method; a secret is no key of a dictionary

    def __init__(self, material: KeyMaterial) -> None:
        self._material = material

    @classmethod
    def generate(cls) -> Self:
        """Return a fresh key, for one artifact."""
        return cls(KeyMaterial.generate())

    def derive(self, label: bytes, context: bytes) -> KeyMaterial:
        """Return the key for one use in one context (RFC 5869 section 2.3, info = label ‖ 0x00 ‖ context)."""
        return KeyMaterial.from_bytes(self._material.expand(label + b"\x00" + context))

    def __eq__(self, other: object) -> bool:
        return self._material == other._material if isinstance(other, DataKey) else NotImplemented

    def __repr__(self) -> str:
        return "<DataKey>"

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError("a data key is neither pickled nor copied")


@dataclass(frozen=True, slots=True)
class WrappedDataKey:
    """A data key as it is stored.

    Attributes:
        artifact_id: which artifact it opens (held by `context`, which contains it).
        tenant_id: whose key wraps it.
        purpose: of which keyring that key is.
        key_version: which version of that keyring.
        nonce: 12 bytes.
        context: 32 bytes, of the artifact's header.
        ciphertext: 48 bytes: the data key sealed, and the tag.
    """

    artifact_id: uuid.UUID
    tenant_id: uuid.UUID
    purpose: str
    key_version: int
    nonce: bytes
    context: bytes
    ciphertext: bytes = field(repr=False)


def wrap_data_key(
    kek: KeyMaterial,
    data_key: DataKey,
    *,
    artifact_id: uuid.UUID,
    tenant_id: uuid.UUID,
    purpose: str,
    key_version: int,
    context: bytes,
) -> WrappedDataKey:
    """Seal a data key under the key of a keyring, bound to whose, which and what for.

    Raises:
        ValueError: purpose or context is longer than 65,535 bytes.
    """
    associated_data = frame(_WRAP_LABEL, tenant_id, purpose, key_version, context)
    sealed = seal(kek, data_key._material.expose(), associated_data)  # noqa: SLF001 - the handle's own room
    return WrappedDataKey(
        artifact_id=artifact_id,
        tenant_id=tenant_id,
        purpose=purpose,
        key_version=key_version,
        nonce=sealed[:NONCE_BYTES],
        context=context,
        ciphertext=sealed[NONCE_BYTES:],
    )


def unwrap_data_key(kek: KeyMaterial, wrapped: WrappedDataKey) -> DataKey:
    """Open a wrapped data key.

    The artifact id is not checked here: `ArtifactOpener` does, since the context contains it.

    Raises:
        CiphertextRejected: another key, or a field of the row was altered or moved.
    """
    if len(wrapped.nonce) != NONCE_BYTES or len(wrapped.ciphertext) != KEY_BYTES + TAG_BYTES:
        raise CiphertextRejected(_NO_KEY)
    try:
        associated_data = frame(_WRAP_LABEL, wrapped.tenant_id, wrapped.purpose, wrapped.key_version, wrapped.context)
    except (TypeError, ValueError) as cause:
        raise CiphertextRejected(_NO_KEY) from cause
    return DataKey(KeyMaterial.from_bytes(open_sealed(kek, wrapped.nonce + wrapped.ciphertext, associated_data)))


def rewrap_data_key(
    old_kek: KeyMaterial, new_kek: KeyMaterial, wrapped: WrappedDataKey, *, key_version: int
) -> WrappedDataKey:
    """Return the same data key under version `key_version` of its keyring; no artifact is read.

    Raises:
        CiphertextRejected: the old row does not open.
    """
    return wrap_data_key(
        new_kek,
        unwrap_data_key(old_kek, wrapped),
        artifact_id=wrapped.artifact_id,
        tenant_id=wrapped.tenant_id,
        purpose=wrapped.purpose,
        key_version=key_version,
        context=wrapped.context,
    )


class ArtifactSealer:
    """Writes one artifact: `prefix` first, then `update` as often as needed, then `finish`.

    A data key is for one artifact; a second artifact under the same one would open with the same row.
    """

    def __init__(self, data_key: DataKey, header: ArtifactHeader) -> None:
        encoded = header.encode()
        context = sha256(encoded)
        self._prefix = encoded + data_key.derive(_COMMITMENT_LABEL, context).expose()
        self._stream = StreamSealer(data_key.derive(_BODY_LABEL, context), sha256(self._prefix))

    def prefix(self) -> bytes:
        """Return everything before the body; call it once, first.

        Raises:
            RuntimeError: it was called before.
        """
        if not self._prefix:
            raise RuntimeError("the prefix is written once")
        prefix, self._prefix = self._prefix, b""
        return prefix

    def update(self, data: bytes | bytearray | memoryview) -> bytes:
        """Take more plaintext; return what can be written by now, perhaps nothing.

        Raises:
            RuntimeError: before `prefix` or after `finish`.
        """
        self._check_prefix_written()
        return self._stream.update(data)

    def finish(self) -> bytes:
        """Return the end of the artifact; call it once.

        Raises:
            RuntimeError: before `prefix`, or a second time.
        """
        self._check_prefix_written()
        return self._stream.finish()

    def _check_prefix_written(self) -> None:
        if self._prefix:
            raise RuntimeError("the prefix is written first")


class ArtifactOpener:
    """Reads one artifact, after checking that it is the expected one.

    Protects against: an artifact that was altered, cut, extended, moved to another tenant, model,
    version, role or row, or sealed so that it opens under two keys (the commitment). Does not protect
    against: an older artifact put back together with its older row and manifest (the registry's
    checkpoint does), nor does it hide the length.

    Args:
        data_key: from the artifact's row.
        header: what the caller expects the artifact to be.
        context: from the same row.
        source: the artifact, from its first byte to its last.

    Raises:
        CiphertextRejected: anything before the body is not as expected, or the length is impossible.
    """

    def __init__(self, data_key: DataKey, header: ArtifactHeader, context: bytes, source: ByteSource) -> None:
        encoded, commitment = _read_prefix(source)
        if _read_header(encoded) != header:
            raise CiphertextRejected("the artifact is another one than the expected")
        if not hmac.compare_digest(sha256(encoded), context):
            raise CiphertextRejected("the artifact and its wrapped key do not belong together")
        if not hmac.compare_digest(data_key.derive(_COMMITMENT_LABEL, context).expose(), commitment):
            raise CiphertextRejected("the artifact was not sealed under this key")
        prefix = encoded + commitment
        body_key = data_key.derive(_BODY_LABEL, context)
        self._stream = StreamOpener(body_key, sha256(prefix), source, offset=len(prefix))

    @property
    def size_bytes(self) -> int:
        """How many bytes of plaintext there are, computed from the source's size; not yet verified."""
        return self._stream.size_bytes

    def open_into(self, target: memoryview, *, n_threads: int = 1) -> None:
        """Open the whole body into `target`; see `StreamOpener.open_into`.

        Raises:
            CiphertextRejected: anything is wrong; whatever was written to `target` is zeros again.
            ValueError: the target has another size or form.
        """
        self._stream.open_into(target, n_threads=n_threads)

    def open_each(self, take: Callable[[int, memoryview], None], *, n_threads: int = 1) -> None:
        """Hand out the whole body, a verified segment at a time; see `StreamOpener.open_each`.

        Raises:
            CiphertextRejected: a segment does not verify; what was taken before is to be thrown away.
        """
        self._stream.open_each(take, n_threads=n_threads)

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Return up to `n_bytes` bytes from `offset` on; see `StreamOpener.read_at`.

        Raises:
            CiphertextRejected: a segment that holds them, or the last one, does not verify.
            ValueError: a negative offset or count.
        """
        return self._stream.read_at(offset, n_bytes)


def _read_prefix(source: ByteSource) -> tuple[bytes, bytes]:
    if source.size_bytes < _START.size + _COMMITMENT_BYTES:
        raise CiphertextRejected(_NO_ARTIFACT)
    start = bytearray(_START.size)
    fill(source, 0, memoryview(start))
    magic, version, header_bytes = _START.unpack(start)
    if magic != MAGIC or version != FORMAT:
        raise CiphertextRejected(_NO_ARTIFACT)
    if not 1 <= header_bytes <= min(MAX_HEADER_BYTES, source.size_bytes - _START.size - _COMMITMENT_BYTES):
        raise CiphertextRejected(_BAD_HEADER)
    rest = bytearray(header_bytes + _COMMITMENT_BYTES)
    fill(source, _START.size, memoryview(rest))
    return bytes(start + rest[:header_bytes]), bytes(rest[header_bytes:])


def _read_header(encoded: bytes) -> ArtifactHeader:
    try:
        members = parse_canonical(encoded[_START.size :])
        if not isinstance(members, dict) or members.keys() != _MEMBERS or members["alg"] != ALGORITHM:
            raise CiphertextRejected(_BAD_HEADER)
        match members:
            case {
                "artifact_id": str(artifact_id),
                "model_id": str(model_id),
                "role": str(role),
                "tenant_id": str(tenant_id),
                "version": int(version),
            } if not isinstance(version, bool):
                header = ArtifactHeader(
                    tenant_id=uuid.UUID(tenant_id),
                    model_id=uuid.UUID(model_id),
                    artifact_id=uuid.UUID(artifact_id),
                    version=version,
                    role=role,
                )
            case _:
                raise CiphertextRejected(_BAD_HEADER)
    except ValueError as cause:
        raise CiphertextRejected(_BAD_HEADER) from cause
    # A UUID has several spellings; one of them is ours.
    if header.encode() != encoded:
        raise CiphertextRejected(_BAD_HEADER)
    return header
