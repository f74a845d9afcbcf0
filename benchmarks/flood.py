"""Clients that try passwords without end; run as a program, prints what they were answered.

    python flood.py PORT CLIENTS ADDRESSES "TENANT ROUND"      until a line comes on standard input

Where there are several addresses, each client has one of 127.0.0.0/8, and another account at every try, so that
nothing of it waits; where there is one, all try the same account from the same address.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from itertools import count

HOST = "127.0.0.1"


async def client(number: int, port: int, *, is_spread: bool, names: str, answers: Counter[str]) -> None:
    tenant, _, where = names.partition(" ")
    connection = None
    for turn in count():
        # 25 tries an address, fewer than it has free; then the next one
        address = f"127.{1 + number}.{1 + int(where)}.{1 + turn // 25 % 250}" if is_spread else "127.0.0.1"
        if connection is None or (is_spread and turn % 25 == 0):
            connection = await asyncio.open_connection(HOST, port, local_addr=(address, 0))
        reader, writer = connection
        user = f"u{number}-{where}-{turn}" if is_spread else "owner"
        form = f"grant_type=password&username={user}%40{tenant}&password=wrong-{turn}"
        writer.write(
            b"POST /oauth/token HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            + f"Content-Length: {len(form)}\r\n\r\n{form}".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        answers[head.split(b" ", 2)[1].decode()] += 1


async def main(port: int, n_clients: int, n_addresses: int, names: str) -> None:
    answers: Counter[str] = Counter()
    began_s = time.perf_counter()
    clients = [
        asyncio.create_task(client(number, port, is_spread=n_addresses > 1, names=names, answers=answers))
        for number in range(n_clients)
    ]
    stop = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    await asyncio.wait([stop, *clients], return_when=asyncio.FIRST_COMPLETED)
    for one in clients:
        one.cancel()
    await asyncio.wait(clients)
    print(json.dumps({"by_status": answers, "took_s": time.perf_counter() - began_s}))


if __name__ == "__main__":
    _, port_text, clients_text, addresses_text, named = sys.argv
    asyncio.run(main(int(port_text), int(clients_text), int(addresses_text), named))
