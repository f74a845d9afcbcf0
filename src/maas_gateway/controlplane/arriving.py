"""What arrives with an upload: the publisher's sample, if one was announced, and behind it the model.

Rules: nothing is read before it is asked for; the sample is held in memory only, bounded; a declared digest is that of
all that arrives (RFC 9530, section 2).
"""

import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from maas_gateway.errors import InvalidRequest, PayloadTooLarge
from maas_gateway.registry.publishers import PublisherSignature

MAX_SAMPLE_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class Incoming:
    """An upload as the door received it.

    Attributes:
        format: what the caller says it is.
        digest: SHA-256 that the caller declared, 32 bytes, or None.
        declared_bytes: its length if the caller declared it, the sample's included.
        chunks: the body, not read yet.
        signature: a publisher's of the model, made before the upload, if there is one.
        sample_bytes: how many bytes of a sample come before the model.
        runtime: which one is to serve it; None for the best that can.
    """

    format: str
    digest: bytes | None
    declared_bytes: int | None
    chunks: AsyncIterator[bytes]
    signature: PublisherSignature | None = None
    sample_bytes: int = 0
    runtime: str | None = None


class Arriving:
    """An upload, read in order: the sample first, then the model.

    Args:
        incoming: as the door received it.

    Attributes:
        model_bytes: the model's length if the caller declared one.

    Raises:
        PayloadTooLarge: the sample is larger than is taken.
        InvalidRequest: more of a sample is announced than there is in all.
    """

    def __init__(self, incoming: Incoming) -> None:
        if incoming.sample_bytes > MAX_SAMPLE_BYTES:
            raise PayloadTooLarge(f"the sample is larger than the {MAX_SAMPLE_BYTES} bytes that are accepted")
        declared = incoming.declared_bytes
        self.model_bytes = None if declared is None else declared - incoming.sample_bytes
        if self.model_bytes is not None and self.model_bytes < 0:
            raise InvalidRequest("Model-Sample-Length: it is longer than all that is sent")
        self._chunks = incoming.chunks
        self._sample_bytes = incoming.sample_bytes
        self._declared = incoming.digest
        self._digest = hashlib.sha256() if incoming.sample_bytes else None
        self._rest = b""

    async def sample(self) -> bytes:
        """Read the sample; empty for none.

        Raises:
            InvalidRequest: the body ends within it.
        """
        found = bytearray()
        while len(found) < self._sample_bytes:
            piece = await anext(self._chunks, None)
            if piece is None:
                raise InvalidRequest("Model-Sample-Length: the body ends within the sample")
            found += piece
        self._rest = bytes(found[self._sample_bytes :])
        sample = bytes(found[: self._sample_bytes])
        if self._digest is not None:
            self._digest.update(sample)
        return sample

    async def model(self) -> AsyncIterator[bytes]:
        """Read what is behind the sample."""
        if self._rest:
            yield self._take(self._rest)
        async for piece in self._chunks:
            yield self._take(piece)

    def _take(self, piece: bytes) -> bytes:
        if self._digest is not None:
            self._digest.update(piece)
        return piece

    def check_digest(self, of_model: bytes) -> None:
        """Refuse what is not what was declared, once all was read.

        Args:
            of_model: SHA-256 of the model alone.

        Raises:
            InvalidRequest: the digests differ.
        """
        arrived = of_model if self._digest is None else self._digest.digest()
        if self._declared is not None and not hmac.compare_digest(self._declared, arrived):
            raise InvalidRequest("digest: what arrived is not what was declared; send it again")
