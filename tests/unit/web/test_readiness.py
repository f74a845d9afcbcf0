"""Readiness: its order, and what a client is told on its last answer."""

import asyncio
from typing import Any

import pytest

from maas_gateway.web.readiness import Readiness, last_of_connection

pytestmark = pytest.mark.anyio


async def test_leaving_comes_before_closing_and_with_it() -> None:
    readiness = Readiness()
    closing = asyncio.ensure_future(readiness.closing())
    assert readiness.is_ready
    readiness.leave()
    await readiness.leaving()
    assert (readiness.is_ready, closing.done()) == (False, False)
    readiness.close()
    await closing
    at_once = Readiness()
    at_once.close()
    await at_once.leaving()
    assert not at_once.is_ready


async def test_the_last_answer_of_a_connection_says_so_once() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    telling = last_of_connection(send)
    headers = [(b"x", b"y"), (b"connection", b"keep-alive")]
    await telling({"type": "http.response.start", "status": 200, "headers": headers})
    await telling({"type": "http.response.body", "body": b"z"})
    assert sent[0]["headers"] == [(b"x", b"y"), (b"connection", b"close")]
    assert sent[1] == {"type": "http.response.body", "body": b"z"}
