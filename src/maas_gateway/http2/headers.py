"""Header blocks: read with what the connection remembers, written without.

Rules: a list is bounded as it is inflated; a block that changed nothing of what is remembered is read once, since a
client that asks the same again sends the same bytes; what is written is neither compressed nor to be remembered.

Source: RFC 7541, sections 5 and 6.2.2; RFC 9113, sections 8.2 and 8.3.1 for what a request may hold.
"""

import logging
from collections.abc import Iterable
from typing import Final

from hpack import Decoder, HPACKError, OversizedHeaderListError

from maas_gateway.http2.frames import Code, ConnectionFault, StreamFault

Headers = list[tuple[bytes, bytes]]

STATUS_200: Final = b"\x88"
"""`:status: 200`, by its number in the table that every peer has."""

logging.getLogger("hpack").setLevel(logging.INFO)  # at DEBUG it tells every header, credentials included

_MOST_KNOWN: Final = 64
_LONGEST_KNOWN: Final = 4_096
_SEVEN_BITS: Final = 0x7F
_PSEUDO: Final = frozenset([b":method", b":scheme", b":authority", b":path"])
_NEEDED: Final = frozenset([b":method", b":scheme", b":path"])
_OF_A_CONNECTION: Final = frozenset(
    [b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"]
)
_FORBIDDEN: Final = frozenset(b"\x00\r\n")


class HeaderReader:
    """Reads the blocks of one connection, in the order in which they come.

    Args:
        max_bytes: of a list, inflated, 32 for each header added.
    """

    def __init__(self, max_bytes: int) -> None:
        self._decoder = Decoder(max_bytes)
        self._known: dict[bytes, Headers] = {}

    def read(self, block: bytes) -> Headers:
        """Return the headers of a whole block.

        Raises:
            ConnectionFault: it cannot be read, or is too long; no later block could be read then.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        table = self._decoder.header_table
        before = (
            table.maxsize,
            len(table.dynamic_entries),
            table.dynamic_entries[0] if table.dynamic_entries else None,
        )
        try:
            found = [(name, value) for name, value in self._decoder.decode(block, raw=True)]
        except OversizedHeaderListError as cause:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many headers") from cause
        except (HPACKError, IndexError) as cause:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "headers that cannot be read") from cause
        entries = table.dynamic_entries
        if before != (table.maxsize, len(entries), entries[0] if entries else None) or (
            entries and before[2] is not entries[0]
        ):
            self._known.clear()
        elif len(block) <= _LONGEST_KNOWN:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[block] = found
        return found


def check_request(headers: Headers) -> None:
    """Refuse what is no request.

    Raises:
        StreamFault: a pseudo-header is missing, twice, unknown or late; or a header has a malformed name or value or
            belongs to a connection.
    """
    seen: set[bytes] = set()
    is_behind = False
    for name, value in headers:
        if name[:1] == b":":
            if is_behind or name not in _PSEUDO or name in seen:
                raise StreamFault(Code.PROTOCOL_ERROR, "pseudo-headers")
            seen.add(name)
            continue
        is_behind = True
        if not name or name != name.lower() or name in _OF_A_CONNECTION or (name == b"te" and value != b"trailers"):
            raise StreamFault(Code.PROTOCOL_ERROR, "a header's name")
        if not _FORBIDDEN.isdisjoint(value):
            raise StreamFault(Code.PROTOCOL_ERROR, "a header's value")
    if not seen >= _NEEDED:
        raise StreamFault(Code.PROTOCOL_ERROR, "pseudo-headers")


def block_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a block of literals that nobody remembers; names are in lower case."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)


def _text(content: bytes) -> bytes:
    n_bytes = len(content)
    if n_bytes < _SEVEN_BITS:
        return bytes((n_bytes,)) + content
    length = bytearray((_SEVEN_BITS,))
    n_bytes -= _SEVEN_BITS
    while n_bytes > _SEVEN_BITS:
        length.append(n_bytes & _SEVEN_BITS | 0x80)
        n_bytes >>= 7
    length.append(n_bytes)
    return bytes(length) + content
