"""How long whoever failed to sign in must wait before the next attempt is looked at.

Rules: failures are counted by account and address together, by account and by address; some are free, then
each doubles the wait since the last one, up to a longest. Nothing is ever locked: the longest wait is minutes
where one address keeps failing at one account, and a minute otherwise. Where an account has signed in from
before, only its own failures there count, so that nobody elsewhere can keep a user out; and nothing that fails
there counts elsewhere. What has not been counted under for an hour is forgotten. A name that nobody has is
counted like one that somebody has, so that the waits tell nothing of who exists.

Does not protect against: many addresses that each try once, beyond one attempt a minute for an account; as long
as they go on, they may be quicker than a user who signs in from a new address. Nor against a neighbour behind
the very address that a user signs in from: the two cannot be told apart. Keys are digests, so that made-up names and
addresses do not lie about in clear; whoever reads the database can still try all IPv4 addresses.

Source: OWASP Authentication Cheat Sheet, "Account Lockout" and "Login Throttling"; NIST SP 800-63B section 5.2.2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from maas_gateway.crypto.digests import canonical_json, sha256_hex

FORGET_AFTER: Final = timedelta(hours=1)
"""How long a count lasts that nothing is added to."""
REMEMBER_FOR: Final = timedelta(days=90)
"""How long an address is remembered that its account does not sign in from any more."""
MAX_REMEMBERED: Final = 8
"""Addresses remembered of an account; the latest."""
_FIRST_WAIT_S: Final = 1.0
_NETWORK_BITS: Final = 64
_MAX_EXPONENT: Final = 16


@dataclass(frozen=True, slots=True)
class Limit:
    """How often one may fail before one waits, and how long at most.

    Attributes:
        n_free: failures that cost no wait.
        longest_s: the longest wait, in seconds.
    """

    n_free: int
    longest_s: float

    def wait_s(self, n_failed: int) -> float:
        """Return the seconds between the last of so many failures and the next attempt."""
        if n_failed < self.n_free:
            return 0.0
        return float(min(_FIRST_WAIT_S * 2 ** min(n_failed - self.n_free, _MAX_EXPONENT), self.longest_s))


PAIR: Final = Limit(n_free=5, longest_s=900)
ACCOUNT: Final = Limit(n_free=10, longest_s=60)
ADDRESS: Final = Limit(n_free=30, longest_s=60)


@dataclass(frozen=True, slots=True)
class Attempts:
    """What is counted under one key.

    Attributes:
        n_failed: failures, and attempts that are being looked at.
        last_at: when the last one began.
    """

    n_failed: int
    last_at: datetime

    def n_failed_at(self, now: datetime) -> int:
        """Return how many still count."""
        return 0 if now - self.last_at > FORGET_AFTER else self.n_failed


@dataclass(frozen=True, slots=True)
class Keys:
    """What an attempt is counted under.

    Attributes:
        pair: the account and the address.
        account: the account, from wherever.
        address: the address, whoever's account.
    """

    pair: str
    account: str
    address: str

    @property
    def all(self) -> tuple[str, str, str]:
        """Every key."""
        return self.pair, self.account, self.address

    def limits(self, *, is_known: bool) -> Mapping[str, Limit]:
        """Return the keys that count, and how much.

        Args:
            is_known: whether the account has signed in from that address before.
        """
        known = {self.pair: PAIR}
        return known if is_known else {**known, self.account: ACCOUNT, self.address: ADDRESS}


def keys_of(account: str, address: str) -> Keys:
    """Return what an attempt is counted under.

    Args:
        account: what kind it is and its name, also one that nobody has.
        address: the client's, in its usual text form; "" where there is none.
    """
    network = _network(address)
    return Keys(_digest("pair", account, network), _digest("account", account), _digest("address", network))


def longest_wait_s(limits: Mapping[str, Limit], found: Mapping[str, Attempts], now: datetime) -> float:
    """Return the seconds until the next attempt is looked at; 0 if it is now.

    A clock that was set back does not make anybody wait for it to catch up.
    """
    waits = [
        limit.wait_s(found[key].n_failed_at(now)) - abs((now - found[key].last_at).total_seconds())
        for key, limit in limits.items()
        if key in found
    ]
    return max([0.0, *waits])


def _network(address: str) -> str:
    """Return what one client can hold at once: one IPv4 address, or the last 64 bits of IPv6."""
    for text in (address, address.rpartition(":")[0].strip("[]")):  # some proxies add the port
        try:
            found = ip_address(text)
        except ValueError:
            continue
        if isinstance(found, IPv6Address):
            if found.ipv4_mapped is not None:
                return str(found.ipv4_mapped)
            return str(ip_network((int(found) >> _NETWORK_BITS << _NETWORK_BITS, _NETWORK_BITS)))
        return str(found)
    return address


def _digest(*parts: str) -> str:
    known = [part.encode(errors="replace").decode() for part in parts]  # half a surrogate pair is no Unicode
    return sha256_hex(canonical_json(known))
