"""Passwords: right only if right, never shortened, a bounded number at a time."""

import asyncio
import os
import sys
import threading
import time

import pytest

from maas_gateway.auth import client_secrets
from maas_gateway.auth.passwords import MAX_BYTES, NICENESS, WAITING_FOR_EACH, Passwords
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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("caf\u00e9 at noon", "cafe\u0301 at noon", id="an accent in its letter and after it"),
        pytest.param("\u1112\u1161\u11ab five six seven", "\ud55c five six seven", id="a syllable of Hangul in parts"),
        pytest.param("twelve bytes x", "twelve\u00a0bytes\u3000x", id="spaces of other widths"),
    ],
)
async def test_password_is_the_same_however_it_was_typed(one: str, other: str) -> None:
    passwords = cheap()
    for kept, typed in ((one, other), (other, one)):
        assert (await passwords.check(typed, await passwords.hash(kept)))[0]


@pytest.mark.parametrize(
    "other", ["\uff34welve bytes x", "TWELVE BYTES X", "twelve bytes x ", "twelve\tbytes x", "twelve bytes\u200b x"]
)
async def test_password_is_another_if_it_only_looks_alike(other: str) -> None:
    passwords = cheap()
    assert not (await passwords.check(other, await passwords.hash("twelve bytes x")))[0]


async def test_length_counts_in_the_spelling_that_is_hashed() -> None:
    passwords = cheap()
    long = "e\u0301" * (MAX_BYTES // 2)
    assert (await passwords.check(long, await passwords.hash(long)))[0]
    with pytest.raises(InvalidRequest):
        await passwords.hash("e\u0301" * 5)


async def test_endless_row_of_accents_is_too_long_at_once() -> None:
    """Composing takes time by the square of how many accents follow each other: seconds for what a body may hold."""
    accents = "e" + "\u0301\u0316" * 200_000
    passwords = cheap()
    known = await passwords.hash(RIGHT)
    began = time.process_time()
    assert await passwords.check(accents, known) == (False, None)
    with pytest.raises(InvalidRequest):
        await passwords.hash(accents)
    assert time.process_time() - began < 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
async def test_threads_that_hash_give_way_to_others() -> None:
    passwords = cheap()
    niceness = await passwords._run(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    assert niceness == min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, 19)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == os.getpriority(os.PRIO_PROCESS, 0)


async def test_closed_hashes_no_more() -> None:
    passwords = cheap()
    passwords.close()
    with pytest.raises(RuntimeError):
        await passwords.hash(RIGHT)


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
