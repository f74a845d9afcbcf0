"""When a request is sent again: it never reached the gateway, or the gateway said when.

Rules: a request that could not be delivered (no connection) is sent again whatever it is; one that was answered 429 or
503 with `Retry-After` is sent again after that time if its body can be sent twice and the pause is at most the longest
that the caller allows; nothing else is repeated: what broke off may have been done. Pauses without a sentence of the
gateway's grow, and are drawn at random below their bound so that many clients do not come back together.

Source: RFC 9110 section 10.2.3 (Retry-After); M. Brooker, "Exponential Backoff And Jitter", 2015 ("full jitter").
"""

import secrets
from dataclasses import dataclass

import httpx

_WAIT: frozenset[int] = frozenset({429, 503})
_FINENESS = 1 << 16


@dataclass(frozen=True, slots=True)
class Retries:
    """How patient a client is.

    Attributes:
        n: how often a request is sent again, at most.
        longest_pause_s: a longer pause than this is an error at once.
        first_pause_s: the bound on the first pause where the gateway does not say one; each further one is twice as long.
    """

    n: int = 3
    longest_pause_s: float = 10.0
    first_pause_s: float = 0.1

    def after_failure(self, error: httpx.TransportError, n_sent: int) -> float | None:
        """Return how long to wait before sending again what was not delivered, None for never."""
        if n_sent > self.n or not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            return None
        bound = min(self.longest_pause_s, self.first_pause_s * float(1 << (n_sent - 1)))
        return bound * secrets.randbelow(_FINENESS) / _FINENESS

    def after_answer(self, request: httpx.Request, response: httpx.Response, n_sent: int) -> float | None:
        """Return how long to wait before sending again what was answered, None for never."""
        after = response.headers.get("retry-after", "")
        can_repeat = n_sent <= self.n and isinstance(request.stream, httpx.ByteStream)
        if not can_repeat or response.status_code not in _WAIT or not after.isdigit():
            return None
        return float(after) if float(after) <= self.longest_pause_s else None
