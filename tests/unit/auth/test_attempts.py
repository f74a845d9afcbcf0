"""How long a failed sign-in makes wait, and what counts as the same account, address or site."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from maas_gateway.auth.attempts import (
    ACCOUNT,
    ADDRESS,
    FORGET_AFTER,
    OWN,
    PAIR,
    SITE,
    Attempts,
    Doubling,
    keys_of,
)

NOW = datetime(2026, 11, 23, 12, 0, 20, tzinfo=UTC)
KEYS = keys_of("user ada@acme", "192.0.2.1")
WIDE = keys_of("user ada@acme", "2001:db8:0:1::1")
LEFT_S = 40
"""Of the minute, at NOW."""


@pytest.mark.parametrize(
    ("limit", "n_free", "longest_s"), [(PAIR, 5, 900), (OWN, 5, 900), (ADDRESS, 30, 60), (SITE, 100, 60)]
)
def test_wait_doubles_after_the_free_ones_up_to_the_longest(limit: Doubling, n_free: int, longest_s: float) -> None:
    waits = [limit.wait_s(Attempts(n, NOW), NOW, 0.5) for n in range(n_free + 20)]
    assert waits[: n_free + 4] == [0.0] * n_free + [1, 2, 4, 8]
    assert waits == sorted(waits)
    assert limit.wait_s(Attempts(10**9, NOW), NOW, 0.5) == longest_s


def found(n_pair: int, n_account: int = 0, n_address: int = 0, *, ago_s: float = 0) -> dict[str, Attempts]:
    last_at = NOW - timedelta(seconds=ago_s)
    counts = {KEYS.pair: n_pair, KEYS.account: n_account, KEYS.address: n_address}
    return {key: Attempts(n, last_at) for key, n in counts.items()}


@pytest.mark.parametrize(
    ("counts", "drawn", "wait_s"),
    [
        pytest.param({}, 0.99, 0, id="nothing is counted"),
        pytest.param(found(4, 9, 29, ago_s=30), 0.99, 0, id="one below every limit"),
        pytest.param(found(5), 0, 1, id="the pair's"),
        pytest.param(found(0, 0, 99), 0, 60, id="the address's"),
        pytest.param(found(0, 10), 0.8, 0, id="the account's, with a ticket that just wins"),
        pytest.param(found(0, 10), 0.85, LEFT_S, id="the account's, with a ticket that just does not"),
        pytest.param(found(0, 13), 0.49, 0, id="four failures later, with one that just wins"),
        pytest.param(found(0, 13), 0.51, LEFT_S, id="four failures later, with one that just does not"),
        pytest.param(found(0, 13, ago_s=60), 0.51, 0, id="a minute after that"),
        pytest.param(found(1, 13), 0, LEFT_S, id="with a ticket that was played"),
        pytest.param(found(1, 13, ago_s=21), 0, 0, id="with another since"),
        pytest.param(found(1, 9), 0, 0, id="nobody plays yet"),
        pytest.param(found(11, 13, 31), 0.9, 64, id="the longest of several"),
        pytest.param(found(7, ago_s=3), 0, 1, id="what is left of it"),
        pytest.param(found(7, ago_s=5), 0, 0, id="it is over"),
        pytest.param(found(99, 60, 99, ago_s=3_601), 0.99, 0, id="an hour ago"),
        pytest.param(found(99, ago_s=-2), 0, 898, id="another process's clock is ahead"),
        pytest.param(found(99, 60, ago_s=-86_400), 0.99, 0, id="the clock was set back by a day"),
    ],
)
def test_wait_is(counts: dict[str, Attempts], drawn: float, wait_s: float) -> None:
    assert KEYS.wait_s(counts, NOW, drawn=drawn) == pytest.approx(wait_s)


def test_site_plays_one_ticket_whichever_of_its_networks_it_comes_from() -> None:
    neighbour = keys_of("user ada@acme", "2001:db8:0:ffff::1")
    counts = {key: limit.after(Attempts(0, NOW), NOW) for key, limit in WIDE.limits.items()}
    counts[WIDE.account] = Attempts(13, NOW)
    for keys, wait_s in ((WIDE, LEFT_S), (neighbour, LEFT_S), (keys_of("user ada@acme", "2001:db8:1::1"), 0)):
        assert keys.wait_s(counts, NOW, drawn=0) == wait_s


def test_failures_of_an_account_are_taken_off_one_a_minute() -> None:
    counted, at = Attempts(0, NOW), NOW
    for _ in range(20):
        at += timedelta(seconds=20)
        counted = ACCOUNT.after(counted, at)
    assert counted.n_failed == 20 - 6, "two in three, but for the minute that is not over"
    assert ACCOUNT.after(counted, at + timedelta(hours=2)).n_failed == 1


@pytest.mark.parametrize(("n_sites", "hours", "least"), [(1, 1, 20), (20, 6, 10)])
def test_every_site_has_the_same_part_of_about_one_attempt_a_minute(n_sites: int, hours: int, least: int) -> None:
    """Others try every five seconds from as many networks of each site as they like; a user every fifteen, from one."""
    drawing, counted = random.Random(4), Attempts(0, NOW)
    minute, tickets = 0, [0.0]
    n_guesses, won_in = 0, set()
    for second in range(0, hours * 3_600, 5):
        now = NOW + timedelta(seconds=second)
        if ACCOUNT.period(now) != minute:
            minute, tickets = ACCOUNT.period(now), [drawing.random() for _ in range(n_sites + 1)]
        for site in range(n_sites + (second % 15 == 0)):
            if not ACCOUNT.wait_s(counted, now, tickets[site]):
                counted = ACCOUNT.after(counted, now)
                tickets[site] = 1.0
                if site == n_sites:
                    won_in.add(ACCOUNT.period(now))
                else:
                    n_guesses += 1
    assert n_guesses <= 60 * hours + 50
    assert len(won_in) >= least
    assert len(won_in) == pytest.approx(60 * hours / (n_sites + 1), rel=0.5)


def test_count_lasts_longer_than_the_longest_wait() -> None:
    longest_s = max(limit.longest_s for limit in (PAIR, OWN, ADDRESS, SITE))
    assert FORGET_AFTER.total_seconds() > max(longest_s, ACCOUNT.every_s)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("192.0.2.1", "::ffff:192.0.2.1", id="IPv4 and the same mapped into IPv6"),
        pytest.param("192.0.2.1", "192.0.2.1:4711", id="with the port that some proxies add"),
        pytest.param("2001:db8::1", "2001:db8::ffff:1", id="two of one IPv6 network"),
        pytest.param("2001:DB8::1", "[2001:db8::1]:4711", id="IPv6 in capitals, in brackets, with a port"),
    ],
)
def test_address_is_the_same(one: str, other: str) -> None:
    assert keys_of("user a", one) == keys_of("user a", other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("user a", "192.0.2.1"), ("user a", "192.0.2.2"), id="two addresses"),
        pytest.param(("user a", "2001:db8::1"), ("user a", "2001:db8:0:1::1"), id="two networks of one site"),
        pytest.param(("user a", ""), ("user a", "192.0.2.1"), id="no address"),
        pytest.param(("user a", "192.0.2.1"), ("client a", "192.0.2.1"), id="a user and a client"),
        pytest.param(("user a", "b"), ("user a b", ""), id="parts cut elsewhere"),
        pytest.param(("user \ud800", "x"), ("user \ufffd", "x"), id="what is no Unicode"),
    ],
)
def test_attempts_are_told_apart_of(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert keys_of(*one).pair != keys_of(*other).pair


@pytest.mark.parametrize(
    ("one", "other", "is_one"),
    [
        pytest.param("2001:db8::1", "2001:db8:0:ffff::1", True, id="two networks of IPv6 that share 48 bits"),
        pytest.param("2001:db8::1", "2001:db8:1::1", False, id="two that do not"),
        pytest.param("192.0.2.1", "192.0.2.2", False, id="two neighbours of IPv4"),
    ],
)
def test_site_is_what_one_network_is_given(one: str, other: str, *, is_one: bool) -> None:
    keys, others = keys_of("user a", one), keys_of("user b", other)
    assert (keys.site == others.site) == is_one
    assert keys.turn != others.turn
    assert (keys.turn == keys_of("user a", other).turn) == is_one


def test_keys_hold_neither_names_nor_addresses() -> None:
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in KEYS.all)
    assert len(set(KEYS.all)) == 4, "of IPv4, the address is the site"
    assert len(set(WIDE.all)) == 6
