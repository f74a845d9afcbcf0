"""How long whoever failed to sign in must wait before the next attempt is looked at.

Rules:
- failures are counted by account and address together, by address, by site (of IPv6, what one network is given) and by
  account; some are free, then each of the first three doubles the wait since the last one, up to a longest;
- past its free ones an account is no queue, which whoever asks most often would always be at the head of, but a
  lottery: each site draws a ticket a minute, for one attempt, and every four failures halve the share of tickets that
  win, until four minutes double it again. So about one attempt a minute is looked at, however many are made, and all
  sites that try have the same part of them, also that of a user who signs in from where nobody knows it;
- nothing is ever locked: the longest wait is a quarter of an hour where one address keeps failing at one account, and a
  minute otherwise;
- where an account has signed in from before, its right password always counts, but for its own failures there; a wrong
  one is counted and answered as anybody's, so that answers do not tell who has signed in from there;
- what has not been counted under for an hour is forgotten; a name that nobody has is counted like one that somebody
  has, so that the waits tell nothing of who exists.

What it leaves to whoever guesses at one account: from anywhere, 1,440 a day (one a minute), and once, after a pause,
10 and four for each doubling of the sites that take part, 50 for 1,000 of them; from each address that the account has
signed in from, of which 8 are remembered, 15 in the first half hour and then 4 an hour, 110 a day, and as many again
while others' failures would have it wait. All together is less than 3,300 a day, 1.2 million a year. A password has 12
bytes at least; of random ones that finds none, but one that stands on a list of the million most usual is found.

Does not protect against: so many sites that the user's part of an attempt a minute is small. From where nobody knows
it, a user waits 20 minutes on average while 20 others try, and 17 hours while 1,000 do; it gets in where it has signed
in before, and the count begins anew when an owner resets its password. Nor against a neighbour behind the very address
that a user signs in from: the two cannot be told apart. Keys are digests, so that made-up names and addresses do not
lie about in clear; whoever reads the database can still try all IPv4 addresses.

Source: OWASP Authentication Cheat Sheet, "Account Lockout" and "Login Throttling"; NIST SP 800-63B section 5.2.2; RFC
6177 section 2 (what of IPv6 a site is given).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Protocol

from maas_gateway.crypto.digests import canonical_json, sha256_hex
from maas_gateway.identifiers import SubjectId, TenantId

FORGET_AFTER: Final = timedelta(hours=1)
"""How long a count lasts that nothing is added to."""
REMEMBER_FOR: Final = timedelta(days=90)
"""How long an address is remembered that its account does not sign in from any more."""
MAX_REMEMBERED: Final = 8
"""Addresses remembered of an account; the latest."""
_FIRST_WAIT_S: Final = 1.0
_NETWORK_BITS: Final = 64
_SITE_BITS: Final = 80
_MAX_EXPONENT: Final = 16


@dataclass(frozen=True, slots=True)
class Attempts:
    """What is counted under one key.

    Attributes:
        n_failed: failures, and attempts that are being looked at.
        last_at: when the last one began; where minutes take failures off, when one was last taken off.
    """

    n_failed: int
    last_at: datetime

    def n_failed_at(self, now: datetime) -> int:
        """Return how many still count."""
        return 0 if now - self.last_at > FORGET_AFTER else self.n_failed


Counted = Mapping[str, tuple[Attempts, Attempts]]
"""What was counted under each key before an attempt, and with it."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an account has signed in from.

    Attributes:
        tenant: the account's.
        subject: the account's identifier.
        pair: the digest of the account and the address.
        last_at: when it did so last.
    """

    tenant: TenantId
    subject: SubjectId
    pair: str
    last_at: datetime


class Limit(Protocol):
    """What failures under one key do to the next attempt."""

    def wait_s(self, found: Attempts, now: datetime, ticket: float) -> float:
        """Return the seconds until the next attempt is looked at; 0 if it is now.

        Args:
            found: what is counted.
            now: when it is made.
            ticket: what the site has drawn, 0 <= ticket < 1, or 1 where it has been played.
        """

    def after(self, found: Attempts, now: datetime) -> Attempts:
        """Return what is counted once one more is."""


@dataclass(frozen=True, slots=True)
class Doubling:
    """Failures beyond some double the wait since the last one. A clock that was set back makes nobody wait for it.

    Attributes:
        n_free: failures that cost no wait.
        longest_s: the longest wait, in seconds.
    """

    n_free: int
    longest_s: float

    def wait_s(self, found: Attempts, now: datetime, ticket: float) -> float:
        """Return the seconds until the next attempt is looked at; 0 if it is now."""
        del ticket
        n_failed = found.n_failed_at(now)
        if n_failed < self.n_free:
            return 0.0
        wait_s = min(_FIRST_WAIT_S * 2 ** min(n_failed - self.n_free, _MAX_EXPONENT), self.longest_s)
        return float(max(0.0, wait_s - abs((now - found.last_at).total_seconds())))

    def after(self, found: Attempts, now: datetime) -> Attempts:
        """Return what is counted once one more is."""
        return Attempts(found.n_failed_at(now) + 1, now)


@dataclass(frozen=True, slots=True)
class Lottery:
    """Failures beyond some make fewer tickets win, and time takes them off again.

    Attributes:
        n_free: failures that cost nothing.
        n_halving: further ones that halve the share of tickets that win.
        every_s: the seconds in which a site has one ticket, and in which one failure is taken off.
    """

    n_free: int
    n_halving: int
    every_s: int

    def wait_s(self, found: Attempts, now: datetime, ticket: float) -> float:
        """Return the seconds until the next attempt may be looked at, which is when there are other tickets."""
        n_beyond = self._left(found, now).n_failed - self.n_free
        if n_beyond < 0 or ticket < 2.0 ** (-(n_beyond + 1) / self.n_halving):
            return 0.0
        return self.every_s - now.timestamp() % self.every_s

    def after(self, found: Attempts, now: datetime) -> Attempts:
        """Return what is counted once one more is."""
        left = self._left(found, now)
        return Attempts(left.n_failed + 1, left.last_at)

    def period(self, now: datetime) -> int:
        """Return the number of the time in which tickets stay the same."""
        return int(now.timestamp() // self.every_s)

    def _left(self, found: Attempts, now: datetime) -> Attempts:
        n_off = int(abs((now - found.last_at).total_seconds()) // self.every_s)
        if n_off >= found.n_failed:
            return Attempts(0, now)
        return Attempts(found.n_failed - n_off, found.last_at + timedelta(seconds=n_off * self.every_s))


PAIR: Final = Doubling(n_free=5, longest_s=900)
ADDRESS: Final = Doubling(n_free=30, longest_s=60)
SITE: Final = Doubling(n_free=100, longest_s=60)
ACCOUNT: Final = Lottery(n_free=10, n_halving=4, every_s=60)
OWN: Final = Doubling(n_free=5, longest_s=900)
"""Of an account where it has signed in before, while it would have to wait for others' failures."""
_NEVER: Final = Doubling(n_free=1 << 40, longest_s=0)
_PLAYED: Final = 1.0
"""A ticket that never wins."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What an attempt is counted under.

    Attributes:
        pair: the account and the address.
        own: the same, of what is looked at only because the account has signed in from there.
        account: the account, from wherever.
        address: the address, whoever's account.
        site: the address's site, whoever's account; of IPv4, the address again.
        turn: the account and the site; of IPv4, the pair again.
    """

    pair: str
    own: str
    account: str
    address: str
    site: str
    turn: str

    @property
    def all(self) -> tuple[str, ...]:
        """Every key."""
        return (*self.limits, self.own)

    @property
    def limits(self) -> Mapping[str, Limit]:
        """The keys that everybody is counted under, and how much they allow."""
        wider = {self.site: SITE, self.turn: _NEVER}
        return {**wider, self.pair: PAIR, self.account: ACCOUNT, self.address: ADDRESS}

    def wait_s(self, found: Mapping[str, Attempts], now: datetime, *, drawn: float) -> float:
        """Return the seconds until the next attempt is looked at; 0 if it is now.

        Args:
            found: what is counted.
            now: when it is made.
            drawn: the ticket that the site drew for the account, 0 <= drawn < 1; good for one attempt.
        """
        last = found.get(self.turn)
        has_played = last is not None and last.n_failed and ACCOUNT.period(last.last_at) == ACCOUNT.period(now)
        ticket = _PLAYED if has_played else drawn
        return max(
            [0.0, *(limit.wait_s(found[key], now, ticket) for key, limit in self.limits.items() if key in found)]
        )


def keys_of(account: str, address: str) -> Keys:
    """Return what an attempt is counted under.

    Args:
        account: what kind it is and its name, also one that nobody has.
        address: the client's, in its usual text form; "" where there is none.
    """
    network, site = _within(address, _NETWORK_BITS), _within(address, _SITE_BITS)
    return Keys(
        pair=_digest("pair", account, network),
        own=_digest("own", account, network),
        account=_digest("account", account),
        address=_digest("address", network),
        site=_digest("address" if site == network else "site", site),
        turn=_digest("pair" if site == network else "turn", account, site),
    )


def _within(address: str, n_bits: int) -> str:
    """Return what an address lies within: of IPv4 itself, of IPv6 all that differ in the last bits only.

    One client holds the last 64 bits of IPv6 at once; a site is given 80.
    """
    for text in (address, address.rpartition(":")[0].strip("[]")):  # some proxies add the port
        try:
            found = ip_address(text)
        except ValueError:
            continue
        if isinstance(found, IPv6Address):
            if found.ipv4_mapped is not None:
                return str(found.ipv4_mapped)
            return str(ip_network((int(found) >> n_bits << n_bits, 128 - n_bits)))
        return str(found)
    return address


def _digest(*parts: str) -> str:
    known = [part.encode(errors="replace").decode() for part in parts]  # half a surrogate pair is no Unicode
    return sha256_hex(canonical_json(known))
