"""Whose turn it is on engines that several tenants keep busy: each gets time in proportion to its weight.

Rules: a tenant that waits is behind everybody who had less of the engines than it, weighed; one that was away begins
where the others are, so that it neither saves time up nor is made to pay for having been alone; what a turn takes is
guessed from the tenant's last ones when it begins and put right when it has ended, because several run at once.

Source: P. Goyal, H. M. Vin, H. Cheng, "Start-time fair queueing: a scheduling algorithm for integrated services packet
switching networks", SIGCOMM 1996, section 2 (start tags, virtual time).
"""

from collections.abc import Callable
from typing import Final

from maas_gateway.identifiers import TenantId

_MOST_KEPT: Final = 4_096
_FIRST_GUESS_S: Final = 0.001
_OLD: Final = 0.8

WeightOf = Callable[[TenantId], int]


def equal(_tenant: TenantId) -> int:
    """Return the weight of a tenant where all are equal."""
    return 1


class FairTime:
    """How much of the engines each tenant has had; lives on one event loop.

    Args:
        weight_of: how much a tenant gets for each 1 of others, at least 1.
    """

    def __init__(self, weight_of: WeightOf = equal) -> None:
        self._weight_of = weight_of
        self._now = 0.0
        self._finish: dict[TenantId, float] = {}
        self._guess_s: dict[TenantId, float] = {}

    def afresh(self) -> "FairTime":
        """Return one with the same weights that counts from nothing, for engines of their own."""
        return FairTime(self._weight_of)

    def tag(self, tenant: TenantId) -> float:
        """Return the start tag that a turn of `tenant` would have now: who has the least is next."""
        return max(self._now, self._finish.get(tenant, 0.0))

    def begin(self, tenant: TenantId) -> float:
        """Begin a turn; return what `end` wants to know of it."""
        tag = self._now = self.tag(tenant)
        guess_s = self._guess_s.get(tenant, _FIRST_GUESS_S)
        self._finish[tenant] = tag + guess_s / self._weight_of(tenant)
        if len(self._finish) > _MOST_KEPT:
            self._forget_the_idle()
        return guess_s

    def end(self, tenant: TenantId, guess_s: float, took_s: float) -> None:
        """Put right what a turn was guessed to take."""
        finish = self._finish.get(tenant, self._now)
        self._finish[tenant] = finish + (took_s - guess_s) / self._weight_of(tenant)
        self._guess_s[tenant] = _OLD * self._guess_s.get(tenant, took_s) + (1 - _OLD) * took_s

    def _forget_the_idle(self) -> None:
        """Forget tenants that would begin where the others are anyway."""
        self._finish = {tenant: finish for tenant, finish in self._finish.items() if finish > self._now}
        self._guess_s = {tenant: guess for tenant, guess in self._guess_s.items() if tenant in self._finish}
