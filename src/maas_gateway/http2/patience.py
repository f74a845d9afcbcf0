"""What a peer may take of a connection, and what it may ask without getting anywhere.

Rules: a frame that only costs work is paid for from a store that is filled again by what leads somewhere, a message's
bytes or an answer that was taken; a peer whose store is empty is sent away. Pings have a rule of their own: so many may
come sooner after each other than is allowed, and nothing of ours in between.

Source: RFC 9113, section 10.5; gRPC, "Client-side Keepalive", server enforcement.
"""

from dataclasses import dataclass
from typing import Final

from maas_gateway.http2.frames import Code, ConnectionFault

RESET: Final = 8
"""What a call costs that its client has begun and taken back."""
ANSWERED: Final = 8
"""What a call earns that was answered."""
_MOST: Final = 1_000
_MOST_STRIKES: Final = 2


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a connection may take.

    Attributes:
        max_streams: that are served at once.
        max_header_bytes: of one list of headers.
        idle_s: seconds without a stream after which it is closed, and that a peer has to take a part of an answer.
        ping_every_s: seconds of silence after which the peer is asked whether it is there.
        least_ping_s: least seconds between two of its own pings.
    """

    max_streams: int
    max_header_bytes: int
    idle_s: float
    ping_every_s: float
    least_ping_s: float


class Patience:
    """The store of one connection.

    Args:
        max_streams: calls that the peer may have begun at once; it may take all of them back.
        least_ping_s: seconds that should lie between two pings.
    """

    __slots__ = ("_least_ping_s", "_left", "_most", "_pinged_s", "_strikes")

    def __init__(self, max_streams: int, least_ping_s: float) -> None:
        self._least_ping_s = least_ping_s
        self._most = self._left = _MOST + RESET * max_streams
        self._pinged_s = 0.0
        self._strikes = 0

    def spend(self, cost: int = 1) -> None:
        """Pay for a frame.

        Raises:
            ConnectionFault: there is nothing left.
        """
        self._left -= cost
        if self._left < 0:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that lead nowhere")

    def earn(self, gain: int = 1) -> None:
        """Fill the store, for something that led somewhere; pings may come anew."""
        self._left = min(self._most, self._left + gain)
        self._strikes = 0
        self._pinged_s = 0.0

    def ping(self, now_s: float) -> None:
        """Pay for a ping.

        Raises:
            ConnectionFault: pings come too often.
        """
        self.spend()
        if self._pinged_s and now_s - self._pinged_s < self._least_ping_s:
            self._strikes += 1
            if self._strikes > _MOST_STRIKES:
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too_many_pings")
        self._pinged_s = now_s
