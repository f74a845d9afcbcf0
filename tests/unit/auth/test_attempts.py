"""How long a failed sign-in makes wait, and what counts as the same account or address."""

from datetime import UTC, datetime, timedelta

import pytest

from maas_gateway.auth.attempts import ACCOUNT, ADDRESS, FORGET_AFTER, PAIR, Attempts, Limit, keys_of, longest_wait_s

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEYS = keys_of("user ada@acme", "192.0.2.1")


@pytest.mark.parametrize(("limit", "n_free", "longest_s"), [(PAIR, 5, 900), (ACCOUNT, 10, 60), (ADDRESS, 30, 60)])
def test_wait_doubles_after_the_free_ones_up_to_the_longest(limit: Limit, n_free: int, longest_s: float) -> None:
    waits = [limit.wait_s(n) for n in range(n_free + 20)]
    assert waits[: n_free + 4] == [0.0] * n_free + [1, 2, 4, 8]
    assert waits == sorted(waits)
    assert limit.wait_s(10**9) == longest_s


def found(n_pair: int, n_account: int = 0, n_address: int = 0, *, ago_s: float = 0) -> dict[str, Attempts]:
    last_at = NOW - timedelta(seconds=ago_s)
    counts = (n_pair, n_account, n_address)
    return {key: Attempts(n, last_at) for key, n in zip(KEYS.all, counts, strict=True)}


@pytest.mark.parametrize(
    ("counts", "is_known", "wait_s"),
    [
        pytest.param({}, False, 0, id="nothing is counted"),
        pytest.param(found(4, 9, 29), False, 0, id="one below every limit"),
        pytest.param(found(5), False, 1, id="the pair's"),
        pytest.param(found(5), True, 1, id="the pair's, where the account is known"),
        pytest.param(found(0, 12), False, 4, id="the account's"),
        pytest.param(found(0, 12), True, 0, id="the account's, where the account is known"),
        pytest.param(found(0, 0, 99), False, 60, id="the address's"),
        pytest.param(found(0, 0, 99), True, 0, id="the address's, where the account is known"),
        pytest.param(found(7, 12, 31), False, 4, id="the longest of several"),
        pytest.param(found(7, ago_s=3), False, 1, id="what is left of it"),
        pytest.param(found(7, ago_s=5), False, 0, id="it is over"),
        pytest.param(found(99, 99, 99, ago_s=3_601), False, 0, id="an hour ago"),
        pytest.param(found(99, ago_s=-2), False, 898, id="another process's clock is ahead"),
        pytest.param(found(99, ago_s=-86_400), False, 0, id="the clock was set back by a day"),
    ],
)
def test_wait_is(counts: dict[str, Attempts], *, is_known: bool, wait_s: float) -> None:
    assert longest_wait_s(KEYS.limits(is_known=is_known), counts, NOW) == pytest.approx(wait_s)


def test_count_lasts_longer_than_the_longest_wait() -> None:
    assert FORGET_AFTER.total_seconds() > max(limit.longest_s for limit in (PAIR, ACCOUNT, ADDRESS))


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
        pytest.param(("user a", "2001:db8::1"), ("user a", "2001:db8:0:1::1"), id="two networks of IPv6"),
        pytest.param(("user a", ""), ("user a", "192.0.2.1"), id="no address"),
        pytest.param(("user a", "192.0.2.1"), ("client a", "192.0.2.1"), id="a user and a client"),
        pytest.param(("user a", "b"), ("user a b", ""), id="parts cut elsewhere"),
        pytest.param(("user \ud800", "x"), ("user \ufffd", "x"), id="what is no Unicode"),
    ],
)
def test_attempts_are_told_apart_of(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert keys_of(*one).pair != keys_of(*other).pair


def test_keys_hold_neither_names_nor_addresses() -> None:
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in KEYS.all)
    assert len(set(KEYS.all)) == 3
