"""Passwords: right only if right, never shortened, a bounded number at a time."""

import asyncio
import threading

import pytest

from maas_gateway.auth import client_secrets
from maas_gateway.auth.passwords import MAX_BYTES, WAITING_FOR_EACH, Passwords
from maas_gateway.errors import InvalidRequest, Overloaded

pytestmark = pytest.mark.anyio

RIGHT = "correct horse battery"


def cheap(n_parallel: int = 2) -> Passwords:
    return Passwords(memory_kib=8_192, passes=1, n_parallel=n_parallel)


async def test_right_password_is_right_and_every_other_wrong() -> None:
    passwords = cheap()
    known = await passwords.hash(RIGHT)
    assert await passwords.check(RIGHT, known) == (True, None)
    for wrong in (
        "",
        "x",
        RIGHT + " ",
        RIGHT[:-1],
        RIGHT.upper(),
        RIGHT + "\x00",
        "é" * 2_000,
        "x" * 100_000,
        "\ud800",
    ):
        assert await passwords.check(wrong, known) == (False, None)


async def test_no_hash_is_never_right() -> None:
    assert await cheap().check(RIGHT, None) == (False, None)


async def test_hash_is_argon2id_with_the_given_cost_and_a_salt_of_its_own() -> None:
    passwords = cheap()
    first, second = await passwords.hash(RIGHT), await passwords.hash(RIGHT)
    assert first.startswith("$argon2id$v=19$m=8192,t=1,p=1$")
    assert first != second


@pytest.mark.parametrize("password", ["", "x" * 11, "é" * 5, "x" * (MAX_BYTES + 1)])
async def test_password_of_a_wrong_length_is_not_taken(password: str) -> None:
    with pytest.raises(InvalidRequest):
        await cheap().hash(password)


@pytest.mark.parametrize("password", ["x" * 12, "é" * 6, "x" * 72 + "a", "x" * MAX_BYTES, "p\x00ssword and more"])
async def test_password_counts_to_its_last_byte(password: str) -> None:
    passwords = cheap()
    known = await passwords.hash(password)
    assert (await passwords.check(password, known))[0]
    assert not (await passwords.check(password[:-1] + "b", known))[0]


async def test_weaker_hash_is_replaced_at_the_next_sign_in() -> None:
    known = await cheap().hash(RIGHT)
    stronger = Passwords(memory_kib=9_216, passes=2, n_parallel=1)
    is_right, replacement = await stronger.check(RIGHT, known)
    assert is_right
    assert replacement is not None
    assert replacement.startswith("$argon2id$v=19$m=9216,t=2,p=1$")
    assert await stronger.check("wrong password", known) == (False, None)


async def test_so_many_hash_at_once_and_one_more_than_may_wait_is_refused() -> None:
    passwords = cheap(n_parallel=2)
    known = await passwords.hash(RIGHT)
    n_running, most = 0, 0
    lock = threading.Lock()
    verify = passwords._context.verify_and_update

    def counted(*arguments: str) -> object:
        nonlocal n_running, most
        with lock:
            n_running += 1
            most = max(most, n_running)
        try:
            return verify(*arguments)
        finally:
            with lock:
                n_running -= 1

    passwords._context.verify_and_update = counted
    n_asked = 2 + 2 * WAITING_FOR_EACH + 10
    answers = await asyncio.gather(*[passwords.check(RIGHT, known) for _ in range(n_asked)], return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, Overloaded)]
    assert 0 < len(refused) <= 10
    assert refused[0].retry_after_s == 1
    assert sum(answer == (True, None) for answer in answers) == n_asked - len(refused)
    assert most == 2


async def test_loop_goes_on_while_a_password_is_hashed() -> None:
    passwords = Passwords(memory_kib=65_536, passes=4, n_parallel=1)
    hashing = asyncio.create_task(passwords.hash(RIGHT))
    n_turns = 0
    while not hashing.done():
        await asyncio.sleep(0.001)
        n_turns += 1
    assert n_turns > 10


def test_client_secret_is_right_only_if_right() -> None:
    secret = client_secrets.new_secret()
    digest = client_secrets.digest_of(secret)
    assert secret not in digest
    assert client_secrets.is_right(secret, digest)
    for wrong in ("", secret[:-1], secret + "x", secret.upper(), digest, "\ud800"):
        assert not client_secrets.is_right(wrong, digest)
    assert not client_secrets.is_right(secret, None)
    assert client_secrets.new_secret() != secret
